"""Checkpoints of a training: a folder that is whole or not there, without pickle, that any machine can go on from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from carrara.engines.adapt.feed import Place
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.errors import LoadingError

STATE_FILE, TENSORS_FILE = "training.json", "training.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training came: `step` steps are done, the next one begins at `place` in the data."""

    step: int
    place: Place
    seconds: float
    positions: int


def save(
    folder: Path,
    recipe: Recipe,
    progress: Progress,
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    notes: Mapping[str, Any],
) -> None:
    """Write a checkpoint to `folder`, replacing an older one only once the new one is whole."""
    tensors = {f"value/{name}": p.detach().cpu().contiguous() for name, p in trained.items()}
    for name, parameter in trained.items():
        for moment in _MOMENTS:
            found = optimizer.state.get(parameter, {}).get(moment)
            if found is not None:
                tensors[f"{moment}/{name}"] = found.detach().cpu().contiguous()
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(tensors, fresh / TENSORS_FILE)
    state = {
        "recipe": recipe.data,
        "step": progress.step,
        "pool": progress.place.pool,
        "row": progress.place.row,
        "seconds": progress.seconds,
        "positions": progress.positions,
        **notes,
    }
    (fresh / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    for path in fresh.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def find(folder: Path) -> Path | None:
    """The newest whole checkpoint at `folder`: itself, or what a crash while replacing it left behind."""
    for suffix in ("", ".new", ".old"):
        path = folder.with_name(folder.name + suffix)
        if (path / STATE_FILE).is_file() and (path / TENSORS_FILE).is_file() and _is_whole(path):
            return path
    return None


def read_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says about itself.

    Raises:
        LoadingError: names the file that is missing or damaged.
    """
    path = folder / STATE_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadingError(f"{path}: cannot be read: {error}") from error
    return found


def restore(
    folder: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> Progress:
    """Put a checkpoint's values and moments back. Mutates both.

    Raises:
        LoadingError: the checkpoint is damaged, or of another model or recipe.
    """
    state = read_state(folder)
    try:
        tensors: dict[str, Tensor] = load_file(folder / TENSORS_FILE)
    except (SafetensorError, OSError) as error:
        raise LoadingError(f"{folder / TENSORS_FILE}: cannot be read: {error}") from error
    for name, parameter in trained.items():
        value = tensors.get(f"value/{name}")
        if value is None or value.shape != parameter.shape:
            raise LoadingError(f"{folder}: {name!r} is missing or of another shape")
        parameter.data.copy_(value)
        moments = {m: tensors.get(f"{m}/{name}") for m in _MOMENTS}
        if all(found is not None for found in moments.values()):
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state["step"])),
                **{m: t.to(parameter.device) for m, t in moments.items() if t is not None},
            }
    return Progress(
        int(state["step"]),
        Place(int(state["pool"]), int(state["row"])),
        float(state["seconds"]),
        int(state["positions"]),
    )


def _is_whole(folder: Path) -> bool:
    """Whether both files can be read; of the tensors only the header is, which knows how long the file is."""
    try:
        read_state(folder)
        with safe_open(folder / TENSORS_FILE, framework="pt"):
            return True
    except (LoadingError, SafetensorError, OSError):
        return False

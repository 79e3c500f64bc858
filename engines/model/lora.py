"""Low-rank adapters (LoRA, arXiv 2106.09685) in the layout that `peft` writes.

An adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`. It is either merged
into the weights, which then compute as fast as before, or attached beside them, which costs two small
products a layer and lets each row of a batch go with or without it (`switch` of `Llama.forward`). Both
give the same result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara.engines.errors import LoadingError
from carrara.engines.fields import Fields, Range
from carrara.engines.model.linear import JoinedLinear
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import Projection, projections
from carrara.engines.model.shards import opened
from carrara.engines.weights.folder import read_object

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_ENDINGS = (".lora_A.weight", ".lora_B.weight")

# Settings of peft that change the maths, and the values with which it is the plain one computed here.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """`pairs` maps a projection's checkpoint name to (A [r, inputs], B [outputs, r]); what it adds to
    the weight is `scale` * B @ A. `settings` is the whole adapter_config.json."""

    name: str
    folder: Path
    rank: int
    scale: float
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    fingerprint: str
    settings: Mapping[str, Any]


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter; its name is the "name" in its configuration, or the folder's.

    Raises:
        LoadingError: names the file, and the setting or tensor that is missing, unknown or not
        supported.
    """
    path = folder / CONFIG_FILE
    settings = read_object(path)
    for key, plain in _PLAIN.items():
        if key in settings and settings[key] not in plain:
            raise LoadingError(f"{path}: {key} = {settings[key]!r} is not supported")
    fields = Fields(settings, str(path))
    rank, alpha = fields.size("r"), fields.needed("lora_alpha", Range())
    for switch in ("free_text", "quick"):  # read where they count
        fields.flag(switch)
    weights = folder / WEIGHTS_FILE
    pairs = _pairs(weights, rank)
    _check_targets(settings.get("target_modules"), pairs, path)
    return Adapter(
        name=str(settings.get("name") or folder.resolve().name),
        folder=folder,
        rank=rank,
        scale=alpha / (math.sqrt(rank) if fields.flag("use_rslora") else rank),
        pairs=pairs,
        fingerprint=_fingerprint(path, weights),
        settings=settings,
    )


def tensor_names(target: str) -> tuple[str, str]:
    """How peft names A and B of a projection."""
    return f"{_PREFIX}{target}{_ENDINGS[0]}", f"{_PREFIX}{target}{_ENDINGS[1]}"


def merge(model: Llama, adapter: Adapter) -> None:
    """Add the adapter to the weights of `model`, computed in float32. It cannot be taken out again."""
    for place, down, up in _placed(model, adapter):
        weight = place.layer.weight.data[place.outputs]
        added = adapter.scale * (up.to(weight.device).float() @ down.to(weight.device).float())
        weight.copy_(weight.float() + added)


def attach(model: Llama, adapter: Adapter) -> None:
    """Put the adapter beside the weights of `model`, for rows whose `switch` is on. Replaces another
    one.

    In a joined layer the A of its projections are stacked and their B stand in a block each.
    """
    detach(model)
    found: dict[JoinedLinear, list[tuple[slice, Tensor, Tensor]]] = {}
    for place, down, up in _placed(model, adapter):
        found.setdefault(place.layer, []).append((place.outputs, down, up))
    for layer, parts in found.items():
        layer.adapter_down = torch.cat([down for _, down, _ in parts]).to(layer.weight)
        blocks = layer.weight.new_zeros(layer.weight.shape[0], layer.adapter_down.shape[0])
        start = 0
        for outputs, down, up in parts:
            blocks[outputs, start : start + len(down)] = adapter.scale * up.to(blocks)
            start += len(down)
        layer.adapter_up = blocks


def detach(model: Llama) -> None:
    """Remove what `attach` put beside the weights."""
    for place in projections(model).values():
        place.layer.adapter_down = place.layer.adapter_up = None


def _pairs(path: Path, rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    halves: dict[str, list[Tensor | None]] = {}
    if not path.is_file():
        raise LoadingError(f"{path} does not exist; the adapter is incomplete")
    with opened(path) as file:
        for name in file.keys():  # noqa: SIM118 - a safetensors file is not iterable
            ending = next((end for end in _ENDINGS if name.endswith(end)), None)
            if ending is None or not name.startswith(_PREFIX):
                raise LoadingError(f"{path}: tensor {name!r} is not part of a LoRA adapter")
            target = name[len(_PREFIX) : -len(ending)]
            halves.setdefault(target, [None, None])[_ENDINGS.index(ending)] = file.get_tensor(name)
    if not halves:
        raise LoadingError(f"{path}: holds no tensors")
    return {target: _pair(target, a, b, rank, path) for target, (a, b) in halves.items()}


def _pair(
    target: str, a: Tensor | None, b: Tensor | None, rank: int, path: Path
) -> tuple[Tensor, Tensor]:
    if a is None or b is None:
        raise LoadingError(f"{path}: lora_{'A' if a is None else 'B'} of {target!r} is missing")
    if a.shape[0] != rank or b.shape[1] != rank:
        raise LoadingError(
            f"{path}: {target!r} has rank {a.shape[0]} and {b.shape[1]}, {CONFIG_FILE} says {rank}"
        )
    return a, b


def _check_targets(wanted: Any, found: Iterable[str], path: Path) -> None:
    if not isinstance(
        wanted, list
    ):  # peft also takes a regular expression here; the tensors decide
        return
    present = {name.rsplit(".", 1)[-1] for name in found}
    if missing := sorted({str(name).rsplit(".", 1)[-1] for name in wanted} - present):
        raise LoadingError(f"{path}: target_modules {', '.join(missing)} have no tensors")


def _placed(model: Llama, adapter: Adapter) -> Iterable[tuple[Projection, Tensor, Tensor]]:
    places = projections(model)
    for name, (down, up) in adapter.pairs.items():
        place = places.get(name)
        if place is None:
            raise LoadingError(f"{adapter.folder}: {name!r} is no projection of this model")
        outputs = place.outputs.stop - place.outputs.start
        if (up.shape[0], down.shape[1]) != (outputs, place.layer.weight.shape[1]):
            raise LoadingError(
                f"{adapter.folder}: {name!r} maps {down.shape[1]} to {up.shape[0]} features, "
                f"the model {place.layer.weight.shape[1]} to {outputs}"
            )
        yield place, down, up


def _fingerprint(*paths: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()

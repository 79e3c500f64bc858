"""A model as a Hugging Face folder that any server loads: its weights with an adapter merged in.

Works on names and shapes alone, so for every architecture, one shard at a time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from carrara.engines.errors import LoadingError
from carrara.engines.weights import checked, manifest
from carrara.engines.weights.durable import put_in_place
from carrara.engines.weights.folder import check_folder, weight_files

if TYPE_CHECKING:
    from torch import Tensor

    from carrara.engines.model.lora import Adapter

_WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_OURS = (manifest.FILE, checked.FILE)
_OF_ADAPTERS = ("diffusion.json",)


def export_folder(folder: Path, target: Path, adapter: Path | None = None) -> None:
    """Write the model in `folder`, with the adapter in `adapter` merged, to the folder `target`.

    Tensors keep their names, shapes, dtypes and shards; sums are computed in float32. Every other file of `folder`
    (configuration, tokenizer, licence) is copied, and what the adapter says about denoising. `target` gets its name
    when it is whole.

    Raises:
        LoadingError: `target` is there and not an empty folder; `folder` is not whole; the adapter has a projection
        that the model lacks or of another shape. Names the file or tensor.
    """
    from carrara.engines.model.lora import load_adapter

    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise LoadingError(f"{target} is there already: name a new folder, or remove it first")
    check_folder(folder)
    merged = load_adapter(adapter) if adapter is not None else None
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        _write_weights(folder, part, merged)
        for path in _others(folder, adapter):
            shutil.copyfile(path, part / path.name)
        put_in_place(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _others(folder: Path, adapter: Path | None) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in _WEIGHT_ENDINGS and path.name not in _OURS:
            yield path
    if adapter is not None:
        yield from (adapter / name for name in _OF_ADAPTERS if (adapter / name).is_file())


def _write_weights(folder: Path, to: Path, adapter: Adapter | None) -> None:
    from safetensors.torch import load_file, save_file

    left = dict(adapter.pairs) if adapter is not None else {}
    for path in weight_files(folder):
        tensors = load_file(path)
        for name in tensors:
            if adapter is not None and (pair := left.pop(name.removesuffix(".weight"), None)):
                tensors[name] = _sum(name, tensors[name], pair, adapter)
        save_file(tensors, to / path.name, {"format": "pt"})
        shutil.copymode(path, to / path.name)
    if left and adapter is not None:
        raise LoadingError(f"{adapter.folder}: {folder} has no projection {min(left)!r}")


def _sum(name: str, weight: Tensor, pair: tuple[Tensor, Tensor], adapter: Adapter) -> Tensor:
    down, up = pair
    if weight.shape != (len(up), down.shape[1]):
        raise LoadingError(
            f"{adapter.folder}: {name!r} is {list(weight.shape)} in the model and "
            f"{[len(up), down.shape[1]]} in the adapter"
        )
    added = adapter.scale * (up.float() @ down.float())
    return (weight.float() + added).to(weight.dtype)

"""Weights from a Hugging Face folder: config.json with model.safetensors, or shards and their index.

The tensors go straight into a model of the wanted dtype on the wanted device, one at a time from one open
shard at a time: on the host, loading takes the memory of one shard (and of the result, if it lies there).
`benchmarks/loading.py` measures it. Nothing in the folder is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from carrara.engines.errors import LoadingError
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.experts import Experts
from carrara.engines.model.families import FAMILIES
from carrara.engines.model.layer import Layer
from carrara.engines.model.layout import Layout
from carrara.engines.model.linear import JoinedLinear
from carrara.engines.model.llama import Llama
from carrara.engines.weights.folder import read_object
from carrara.engines.weights.safetensors_file import first_cut_off

INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"

# Tensors that some exporters write and that hold nothing to load: rotary tables are computed here.
_IGNORED_ENDINGS = (".rotary_emb.inv_freq",)


@dataclass(frozen=True, slots=True)
class Projection:
    """One projection of a checkpoint, e.g. `model.layers.3.self_attn.q_proj`: its outputs in `layer`."""

    layer: JoinedLinear
    outputs: slice


def projections(model: Llama) -> dict[str, Projection]:
    """Every linear projection of the model by its checkpoint name (without ".weight"), routed experts
    apart."""
    layout, found = FAMILIES[model.config.model_type].layout, {}
    for index, layer in enumerate(_layers(model)):
        prefix = layout.layer.format(index)
        for name, (ours, part) in layout.projections_of(layer.experts is not None).items():
            joined: JoinedLinear = getattr(layer, ours)
            if joined.weight.numel():
                found[prefix + name] = Projection(joined, joined.rows_of(part))
    return found


def targets(model: Llama) -> dict[str, Tensor]:
    """Where each tensor of a checkpoint belongs: its name to the (view of the) parameter it fills."""
    layout = FAMILIES[model.config.model_type].layout
    found: dict[str, Tensor] = {layout.embedding: model.embedding, layout.norm: model.norm}
    for index, layer in enumerate(_layers(model)):
        prefix = layout.layer.format(index)
        for ours, name in layout.layer_norms.items():
            if (norm := getattr(layer, ours)) is not None:
                found[prefix + name] = norm
        if layer.experts is not None:
            found |= _experts(layer.experts, prefix, layout)
    for name, place in projections(model).items():
        found[f"{name}.weight"] = place.layer.weight.data[place.outputs]
        if place.layer.bias is not None:
            found[f"{name}.bias"] = place.layer.bias.data[place.outputs]
    if not model.config.tied:
        found[layout.head] = model.head
    return found


def _experts(experts: Experts, prefix: str, layout: Layout) -> dict[str, Tensor]:
    names = {ours: prefix + name for ours, name in layout.experts.items()}
    found: dict[str, Tensor] = {names["router"]: experts.router.weight}
    if experts.router.bias is not None:
        found[names["bias"]] = experts.router.bias
    for expert, (joined, down) in enumerate(
        zip(experts.gate_up.data, experts.down.data, strict=True)
    ):
        gate, up = joined.chunk(2)
        found[names["gate"].format(expert)] = gate
        found[names["up"].format(expert)] = up
        found[names["down"].format(expert)] = down
    return found


def load_config(folder: Path) -> LlamaConfig:
    """Read `folder/config.json`.

    Raises:
        LoadingError: missing, not JSON, or of a model that is not supported.
    """
    return LlamaConfig.from_dict(read_object(folder / "config.json"), str(folder / "config.json"))


def load_model(
    folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Llama:
    """The model in `folder`, converted to `dtype` on `device`, ready for inference.

    Raises:
        LoadingError: names the file, and the tensor where one is missing, unknown, of another shape, or
        cut off.
    """
    config = load_config(folder)
    with torch.device(device):
        model = Llama(config, dtype)
    wanted = targets(model)
    left = dict.fromkeys(wanted)
    for path in weight_files(folder):
        with opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is not iterable
                if name in wanted:
                    _fill(wanted[name], name, file, path)
                    left.pop(name, None)
                elif not _may_skip(name, config):
                    raise LoadingError(f"{path}: tensor {name!r} is not part of this model")
    if left:
        raise LoadingError(_missing(folder, list(left)))
    return model.eval()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the shards its index names, else the single file."""
    index = folder / INDEX_FILE
    if index.is_file():
        shards = read_object(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise LoadingError(f"{index}: has no weight_map")
        paths = [folder / name for name in sorted(set(shards.values()))]
    else:
        paths = [folder / WEIGHTS_FILE]
    for path in paths:
        if path.parent != folder:
            raise LoadingError(f"{index}: {path} lies outside the folder of the checkpoint")
        if not path.is_file():
            raise LoadingError(f"{path} does not exist; the checkpoint is incomplete")
    return paths


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file open for reading; damage and I/O faults become a LoadingError naming it."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        where = f" from tensor {cut!r} on" if (cut := first_cut_off(path)) else ""
        raise LoadingError(
            f"{path}: damaged or cut off{where} ({error}). "
            "Remove it and fetch the checkpoint again."
        ) from error


def _fill(target: Tensor, name: str, file: Any, path: Path) -> None:
    """Copy a tensor to where it belongs. The bytes go to the device as they are and change type there."""
    found: Tensor = file.get_tensor(name)
    if not found.is_floating_point() or found.itemsize < 2:
        raise LoadingError(
            f"{path}: tensor {name!r} holds {str(found.dtype).removeprefix('torch.')}; "
            "quantised weights are not supported. Use the checkpoint in bfloat16, float16 or float32."
        )
    if found.shape != target.shape:
        raise LoadingError(
            f"{path}: tensor {name!r} has shape {list(found.shape)}, "
            f"config.json asks for {list(target.shape)}"
        )
    target.copy_(found.to(target.device))


def _missing(folder: Path, names: list[str]) -> str:
    """Which tensors are missing and where the first of them should have been."""
    file, first = folder / WEIGHTS_FILE, names[0]
    if (folder / INDEX_FILE).is_file():
        held = read_object(folder / INDEX_FILE)["weight_map"].get(first)
        file = folder / (held or INDEX_FILE)
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{file}: {len(names)} tensors are missing: {shown}"


def _may_skip(name: str, config: LlamaConfig) -> bool:
    # A tied head is sometimes stored a second time.
    return name.endswith(_IGNORED_ENDINGS) or (
        config.tied and name == FAMILIES[config.model_type].layout.head
    )


def _layers(model: Llama) -> Iterator[Layer]:
    for layer in model.layers:
        yield _as_layer(layer)


def _as_layer(module: nn.Module) -> Layer:
    assert isinstance(module, Layer)
    return module

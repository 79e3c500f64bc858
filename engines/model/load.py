"""Weights from a Hugging Face folder: config.json with model.safetensors, or shards and their index.

The tensors go straight into a model of the wanted dtype on the wanted device, one at a time from one open
shard at a time: on the host, loading takes the memory of one shard (and of the result, if it lies there).
`benchmarks/loading.py` measures it. Nothing in the folder is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.experts import Experts
from carrara.engines.model.families import FAMILIES
from carrara.engines.model.layer import Layer
from carrara.engines.model.layout import Layout
from carrara.engines.model.linear import JoinedLinear
from carrara.engines.model.llama import Llama
from carrara.engines.model.shards import check_headers, opened
from carrara.engines.weights.folder import read_object, weight_files


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
    shapes = {name: target.shape for name, target in wanted.items()}
    check_headers(folder, shapes, lambda name: _is_tied_head(name, config))
    for path in weight_files(folder):
        with opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is not iterable
                if name in wanted:  # the bytes go to the device as they are and change type there
                    wanted[name].copy_(file.get_tensor(name).to(device))
    return model.eval()


def _is_tied_head(name: str, config: LlamaConfig) -> bool:
    """A tied head is sometimes stored a second time."""
    return config.tied and name == FAMILIES[config.model_type].layout.head


def _layers(model: Llama) -> Iterator[Layer]:
    for layer in model.layers:
        yield _as_layer(layer)


def _as_layer(module: nn.Module) -> Layer:
    assert isinstance(module, Layer)
    return module

"""Weights from a Hugging Face folder: config.json with model.safetensors, or shards and their index.

The tensors go straight into a model of the wanted dtype, one at a time, so loading takes the memory of
the result and of one tensor. Nothing in the folder is executed.
"""

from __future__ import annotations

import json
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
from carrara.engines.model.layer import Layer
from carrara.engines.model.linear import JoinedLinear
from carrara.engines.model.llama import Llama

INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"

# Tensors that some exporters write and that hold nothing to load: rotary tables are computed here.
_IGNORED_ENDINGS = (".rotary_emb.inv_freq",)

_BLOCKS = {
    "q_proj": ("self_attn", "qkv"),
    "k_proj": ("self_attn", "qkv"),
    "v_proj": ("self_attn", "qkv"),
    "o_proj": ("self_attn", "out"),
    "gate_proj": ("mlp", "gate_up"),
    "up_proj": ("mlp", "gate_up"),
    "down_proj": ("mlp", "down"),
}
"""Each projection of a layer: its block in the checkpoint, and the joined layer that holds it here."""


@dataclass(frozen=True, slots=True)
class Projection:
    """One projection of a checkpoint, e.g. `model.layers.3.self_attn.q_proj`: its outputs in `layer`."""

    layer: JoinedLinear
    outputs: slice


def projections(model: Llama) -> dict[str, Projection]:
    """Every linear projection of the model by its checkpoint name (without ".weight")."""
    found = {}
    for index, layer in enumerate(_layers(model)):
        for part, (block, ours) in _BLOCKS.items():
            joined: JoinedLinear = getattr(layer, ours)
            found[f"model.layers.{index}.{block}.{part}"] = Projection(joined, joined.rows_of(part))
    return found


def targets(model: Llama) -> dict[str, Tensor]:
    """Where each tensor of a checkpoint belongs: its name to the (view of the) parameter it fills."""
    found: dict[str, Tensor] = {"model.embed_tokens.weight": model.embedding}
    for index, layer in enumerate(_layers(model)):
        found[f"model.layers.{index}.input_layernorm.weight"] = layer.norm_attention
        found[f"model.layers.{index}.post_attention_layernorm.weight"] = layer.norm_mlp
    for name, place in projections(model).items():
        found[f"{name}.weight"] = place.layer.weight.data[place.outputs]
        if place.layer.bias is not None:
            found[f"{name}.bias"] = place.layer.bias.data[place.outputs]
    found["model.norm.weight"] = model.norm
    if not model.config.tied:
        found["lm_head.weight"] = model.head
    return found


def load_config(folder: Path) -> LlamaConfig:
    """Read `folder/config.json`.

    Raises:
        LoadingError: missing, not JSON, or of a model that is not supported.
    """
    return LlamaConfig.from_dict(read_json(folder / "config.json"), str(folder / "config.json"))


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
    left = set(wanted)
    for path in weight_files(folder):
        with opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - a safetensors file is not iterable
                if name in wanted:
                    _fill(wanted[name], name, file, path)
                    left.discard(name)
                elif not _may_skip(name, config):
                    raise LoadingError(f"{path}: tensor {name!r} is not part of this model")
    if left:
        names = ", ".join(sorted(left)[:3]) + (", …" if len(left) > 3 else "")
        raise LoadingError(f"{folder}: {len(left)} tensors are missing: {names}")
    return model.eval()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the shards its index names, else the single file."""
    index = folder / INDEX_FILE
    if index.is_file():
        shards = read_json(index).get("weight_map")
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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint, or a LoadingError that names the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoadingError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise LoadingError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise LoadingError(f"{path}: is not a JSON object")
    return found


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file open for reading; damage and I/O faults become a LoadingError naming it."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise LoadingError(
            f"{path}: damaged or cut off ({error}). Remove it and fetch the checkpoint again."
        ) from error


def _fill(target: Tensor, name: str, file: Any, path: Path) -> None:
    found = file.get_tensor(name)
    if found.shape != target.shape:
        raise LoadingError(
            f"{path}: tensor {name!r} has shape {list(found.shape)}, "
            f"config.json asks for {list(target.shape)}"
        )
    target.copy_(found)


def _may_skip(name: str, config: LlamaConfig) -> bool:
    # A tied head is sometimes stored a second time.
    return name.endswith(_IGNORED_ENDINGS) or (config.tied and name == "lm_head.weight")


def _layers(model: Llama) -> Iterator[Layer]:
    for layer in model.layers:
        yield _as_layer(layer)


def _as_layer(module: nn.Module) -> Layer:
    assert isinstance(module, Layer)
    return module

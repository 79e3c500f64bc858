"""What a training leaves for the engines: a LoRA adapter in peft's layout, or a whole Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from carrara.engines.adapt.network import LowRank, Network
from carrara.engines.diffusion.settings import FILE as DIFFUSION_FILE
from carrara.engines.diffusion.settings import Settings
from carrara.engines.model.load import projections, targets
from carrara.engines.model.lora import CONFIG_FILE, WEIGHTS_FILE, tensor_names
from carrara.engines.weights.folder import WEIGHTS_FILE as MODEL_FILE

_TOKENIZER_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def export(
    network: Network,
    base: Path,
    out: Path,
    name: str,
    settings: Settings,
    ids: tuple[int, int],
    free_text: bool = True,
) -> list[Path]:
    """Write what was trained to `out`, with `diffusion.json` beside it; the files written.

    `ids` are mask and slot pad. `free_text`: whether it was trained on free text, too; if not, engines write that
    without the adapter. A folder that is there keeps its other files (a model card, say).
    """
    out.mkdir(parents=True, exist_ok=True)
    if network.recipe.method == "lora":
        written = _export_lora(network, out, name, ids, free_text)
    else:
        written = _export_model(network, base, out, ids)
    shown = {k: v for k, v in settings.data.items() if v is not None}
    return [*written, _write_json(out / DIFFUSION_FILE, shown)]


def _export_lora(
    network: Network, out: Path, name: str, ids: tuple[int, int], free_text: bool
) -> list[Path]:
    recipe, tensors = network.recipe, lora_tensors(network)
    config = {
        "peft_type": "LORA",
        "name": name,
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({key.split(".")[-3] for key in tensors}),
        "task_type": "CAUSAL_LM",
        "mask_token_id": ids[0],
        "slot_pad_token_id": ids[1],
        "free_text": free_text,
    }
    save_file(tensors, out / WEIGHTS_FILE, metadata={"format": "pt"})
    return [out / WEIGHTS_FILE, _write_json(out / CONFIG_FILE, config)]


def lora_tensors(network: Network) -> dict[str, Tensor]:
    """The adapter under peft's names, bfloat16. Projections of one joined layer share their A."""
    found: dict[str, Tensor] = {}
    for name, place in projections(network.model).items():
        added = network.low_rank[network.name_of(place.layer)]
        assert isinstance(added, LowRank)
        half = torch.bfloat16
        down, up = added.down.detach(), added.up.detach()[place.outputs]
        name_of_down, name_of_up = tensor_names(name)
        found[name_of_down] = down.to(half).cpu().clone()
        found[name_of_up] = up.to(half).cpu().contiguous().clone()
    return found


def _export_model(network: Network, base: Path, out: Path, ids: tuple[int, int]) -> list[Path]:
    tensors = {
        name: tensor.detach().to(torch.bfloat16).cpu().contiguous().clone()
        for name, tensor in targets(network.model).items()
    }
    save_file(tensors, out / MODEL_FILE, metadata={"format": "pt"})
    written = [out / MODEL_FILE]
    for file in _TOKENIZER_FILES:
        if (base / file).is_file():
            shutil.copyfile(base / file, out / file)
            written.append(out / file)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.update(mask_token_id=ids[0], slot_pad_token_id=ids[1])
    _write_json(out / "config.json", config)
    return written


def _write_json(path: Path, data: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return path

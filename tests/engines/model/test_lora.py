"""An adapter merged into the weights and one switched on beside them give the same answers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from carrara.engines.errors import LoadingError
from carrara.engines.model.load import load_model
from carrara.engines.model.lora import attach, detach, load_adapter, merge

Goldens = Callable[[str], Any]
SIZES = {"q": (72, 72), "k": (72, 24), "v": (72, 24), "o": (72, 72)}
SIZES |= {"gate": (72, 192), "up": (72, 192), "down": (192, 72)}
TOKENS = torch.tensor([[5, 9, 200, 7], [44, 3, 91, 300]])
POSITIONS = torch.arange(4).expand(2, -1)


def write(
    folder: Path, parts: str = "q k v o gate up down", rank: int = 4, **settings: Any
) -> Path:
    """A random adapter as peft writes it."""
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for layer in range(2):
        for part in parts.split():
            inputs, outputs = SIZES[part]
            block = "mlp" if part in ("gate", "up", "down") else "self_attn"
            name = f"base_model.model.model.layers.{layer}.{block}.{part}_proj"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) / 8
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) / 8
    save_file(tensors, folder / "adapter_model.safetensors")
    plain = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": [f"{part}_proj" for part in parts.split()],
        "use_rslora": False,
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(plain | settings))
    return folder


@pytest.mark.parametrize("parts", ["q k v o gate up down", "q v", "up", "o down"])
def test_merged_and_switched_adapters_agree_row_by_row(
    golden: Goldens, tmp_path: Path, parts: str
) -> None:
    base = golden("ar_llama").folder
    adapter = load_adapter(write(tmp_path / "a", parts))
    plain, merged, beside = load_model(base), load_model(base), load_model(base)
    merge(merged, adapter)
    attach(beside, adapter)
    without, with_it = plain(TOKENS, POSITIONS), merged(TOKENS, POSITIONS)
    assert (with_it - without).abs().max() > 0.1
    mixed = beside(TOKENS, POSITIONS, switch=torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(mixed[0], with_it[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed[1], without[1], atol=1e-5, rtol=1e-5)
    assert torch.equal(beside(TOKENS, POSITIONS), without)
    detach(beside)
    assert torch.equal(beside(TOKENS, POSITIONS, switch=torch.ones(2)), without)


def test_the_scale_follows_the_settings(tmp_path: Path) -> None:
    assert load_adapter(write(tmp_path / "a")).scale == 8 / 4
    assert load_adapter(write(tmp_path / "a", use_rslora=True)).scale == 8 / math.sqrt(4)


def test_merging_is_what_the_formula_says(golden: Goldens, tmp_path: Path) -> None:
    model = load_model(golden("ar_llama").folder)
    before = model.layers[1].qkv.weight.clone()
    adapter = load_adapter(write(tmp_path / "a", "k"))
    merge(model, adapter)
    down, up = adapter.pairs["model.layers.1.self_attn.k_proj"]
    change = model.layers[1].qkv.weight - before
    torch.testing.assert_close(change[72:96], 2 * up @ down)
    assert not change[:72].any()
    assert not change[96:].any()


def test_an_adapter_has_a_name_and_a_fingerprint(tmp_path: Path) -> None:
    one, other = load_adapter(write(tmp_path / "a")), load_adapter(write(tmp_path / "b", "q"))
    assert (one.name, load_adapter(write(tmp_path / "c", name="mine")).name) == ("a", "mine")
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == load_adapter(write(tmp_path / "d")).fingerprint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3'"),
        ({"r": "x"}, "r is 'x', it must be a whole number of at least 1"),
        ({"r": 0}, "at least 1"),
        ({"lora_alpha": None}, "lacks lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"free_text": "no"}, "free_text is 'no', it must be true or false"),
        ({"r": 8}, "has rank 4 and 4, adapter_config.json says 8"),
        ({"target_modules": ["q_proj", "w_proj"]}, "target_modules w_proj have no tensors"),
    ],
)
def test_what_is_not_plain_lora_is_refused(tmp_path: Path, settings: Any, words: str) -> None:
    with pytest.raises(LoadingError, match=words):
        load_adapter(write(tmp_path / "a", **settings))


def test_a_half_of_a_pair_or_a_foreign_tensor_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", "q")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file({name: t for name, t in tensors.items() if name != first}, path)
    with pytest.raises(
        LoadingError, match=r"lora_A of 'model.layers.0.self_attn.q_proj' is missing"
    ):
        load_adapter(folder)
    save_file(tensors | {"base_model.model.lm_head.weight": torch.ones(2)}, path)
    with pytest.raises(
        LoadingError, match=r"'base_model.model.lm_head.weight' is not part of a LoRA"
    ):
        load_adapter(folder)
    path.unlink()
    with pytest.raises(LoadingError, match=r"adapter_model.safetensors does not exist"):
        load_adapter(folder)


def test_an_adapter_of_another_model_is_refused(golden: Goldens, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", "q")
    path = folder / "adapter_model.safetensors"
    model = load_model(golden("ar_llama").folder)
    save_file({k.replace("layers.1", "layers.7"): v for k, v in load_file(path).items()}, path)
    with pytest.raises(LoadingError, match=r"layers.7.*is no projection of this model"):
        merge(model, load_adapter(folder))
    wide = {
        k: torch.ones(4, 99) if "lora_A" in k else v
        for k, v in load_file(write(folder, "q") / path.name).items()
    }
    save_file(wide, path)
    with pytest.raises(LoadingError, match="maps 99 to 72 features, the model 72 to 72"):
        attach(model, load_adapter(folder))

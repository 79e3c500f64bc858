"""Checkpoints load in every published layout, and a damaged one says which file and tensor are wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from carrara.engines.errors import LoadingError
from carrara.engines.model.load import load_model

Goldens = Callable[[str], Any]
TOKENS = torch.tensor([[5, 9, 200]])
POSITIONS = torch.arange(3)[None]


@pytest.fixture
def folder(golden: Goldens, tmp_path: Path) -> Path:
    """A copy of the golden checkpoint that may be damaged."""
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(golden("ar_llama").folder / name, tmp_path / name)
    return tmp_path


def rewrite(folder: Path, **changed: torch.Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name, value in changed.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, folder / "model.safetensors")


def edit(folder: Path, **changed: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_shards_with_an_index_load_like_one_file(golden: Goldens, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = load_model(folder)(TOKENS, POSITIONS)
    assert torch.equal(found, golden("ar_llama").model(TOKENS, POSITIONS))


def test_weights_are_converted_to_the_wanted_dtype(folder: Path) -> None:
    model = load_model(folder, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(TOKENS, POSITIONS).dtype == torch.bfloat16


def test_an_untied_head_and_biases_are_used(golden: Goldens, folder: Path) -> None:
    plain = golden("ar_llama").model(TOKENS, POSITIONS)
    head = torch.randn(320, 72)
    zeros = {
        f"model.layers.{n}.self_attn.{p}_proj.bias": torch.zeros(24 if p in "kv" else 72)
        for n in range(2)
        for p in "qkvo"
    }
    edit(folder, tie_word_embeddings=False, attention_bias=True)
    rewrite(folder, **{"lm_head.weight": head}, **zeros)
    untied = load_model(folder)
    assert not torch.allclose(untied(TOKENS, POSITIONS), plain)
    untied.head.copy_(untied.embedding)
    assert torch.allclose(untied(TOKENS, POSITIONS), plain, atol=1e-5)


def test_a_second_copy_of_a_tied_head_is_passed_over(folder: Path) -> None:
    rewrite(folder, **{"lm_head.weight": torch.zeros(320, 72)})
    load_model(folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: rewrite(f, **{"model.norm.weight": None}), "1 tensors are missing: model.norm"),
        (
            lambda f: rewrite(f, extra=torch.ones(1)),
            "model.safetensors: tensor 'extra' is not part",
        ),
        (
            lambda f: rewrite(f, **{"model.norm.weight": torch.ones(71)}),
            r"'model.norm.weight' has shape \[71\], config.json asks for \[72\]",
        ),
        (lambda f: edit(f, tie_word_embeddings=False), "missing: lm_head.weight"),
        (lambda f: edit(f, model_type="qwen2"), "config.json: model_type 'qwen2'"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors does not exist"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: cannot be read as JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: is not a JSON object"),
        (lambda f: (f / "config.json").unlink(), "config.json does not exist"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no"), "model.safetensors: damaged"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    folder: Path, damage: Callable[[Path], Any], words: str
) -> None:
    damage(folder)
    with pytest.raises(LoadingError, match=words):
        load_model(folder)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_never_loaded(folder: Path, kept: float) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(LoadingError, match=r"model.safetensors: damaged or cut off"):
        load_model(folder)


def test_an_index_that_names_a_missing_shard_is_incomplete(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "gone.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadingError, match=r"gone.safetensors does not exist"):
        load_model(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(LoadingError, match="has no weight_map"):
        load_model(folder)


def test_a_shard_may_not_lie_outside_the_folder(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadingError, match="outside"):
        load_model(folder)

"""A local Hugging Face folder is accepted when whole; what is missing is named, with what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from carrara.engines.errors import LoadingError
from carrara.engines.weights import store
from carrara.engines.weights.convert import convert


@pytest.fixture
def folder(tiny_model: Any, tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    convert(tiny_model.path, made)
    return made


def test_a_whole_folder_is_taken_as_it_is(folder: Path) -> None:
    assert store.ensure(folder) == folder
    assert store.ensure(str(folder)) == folder
    assert store.verify(folder) == []


def shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        save_file({name: torch.ones(2)}, folder / name)
    index = {"weight_map": {name: name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_named_by_an_index_are_accepted_and_a_missing_one_is_named(folder: Path) -> None:
    shard(folder)
    store.ensure(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(LoadingError, match=r"model-00002-of-00002\.safetensors does not exist"):
        store.ensure(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, r"config\.json does not exist"),
        ("config.json", "{]", r"config\.json: cannot be read as JSON"),
        ("config.json", "[]", r"config\.json: is not a JSON object"),
        ("config.json", "{}", "no model_type"),
        ("model.safetensors", None, r"model\.safetensors does not exist"),
        ("model.safetensors", "version https://git-lfs", "not a safetensors file"),
        ("tokenizer.json", None, "save_pretrained"),
        ("tokenizer.json", "", r"tokenizer\.json: cannot be read as JSON"),
        ("model.safetensors.index.json", "{}", "no weight_map"),
    ],
)
def test_what_is_missing_or_damaged_is_named(
    folder: Path, name: str, content: str | None, words: str
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(LoadingError, match=words):
        store.ensure(folder)
    assert len(store.verify(folder)) == 1


def test_pickled_weights_are_refused_with_the_reason(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(LoadingError, match="can run code"):
        store.ensure(folder)

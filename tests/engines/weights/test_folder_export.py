"""An exported folder holds the merged model, whole, and says how it denoises."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from carrara.cli.models import models
from carrara.engines.errors import LoadingError
from carrara.engines.model.load import load_model
from carrara.engines.model.lora import load_adapter, merge
from carrara.engines.weights.convert import convert
from carrara.engines.weights.folder_export import export_folder

TARGET = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def folder(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("source")
    convert(tiny_model.path, made, {"mask_token_id": 4})
    (made / "LICENSE").write_text("free")
    return made


def adapter_for(name: str, outputs: int, folder: Path) -> Path:
    folder.mkdir()
    settings = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "diffusion.json").write_text('{"threshold": 0.8}')
    torch.manual_seed(3)
    pairs = {
        f"base_model.model.{name}.lora_A.weight": torch.randn(2, 64),
        f"base_model.model.{name}.lora_B.weight": torch.randn(outputs, 2),
    }
    save_file(pairs, folder / "adapter_model.safetensors")
    return folder


def sharded(folder: Path, to: Path) -> Path:
    """The same model in two files with an index."""
    to.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (to / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    parts = {name: f"model-0000{1 + ('layers.1' in name)}-of-00002.safetensors" for name in tensors}
    for file in set(parts.values()):
        save_file({n: t for n, t in tensors.items() if parts[n] == file}, to / file)
    (to / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    return to


def logits_of(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(torch.arange(5, 29)[None], torch.arange(24)[None])
    return found


@pytest.mark.parametrize("shards", [1, 2])
def test_weights_are_merged_and_the_rest_is_copied(
    folder: Path, tmp_path: Path, shards: int
) -> None:
    source = folder if shards == 1 else sharded(folder, tmp_path / "sharded")
    adapter = adapter_for(TARGET, 64, tmp_path / "adapter")
    export_folder(source, tmp_path / "made", adapter)
    model = load_model(folder, torch.bfloat16)
    merge(model, load_adapter(adapter))
    assert torch.equal(logits_of(load_model(tmp_path / "made", torch.bfloat16)), logits_of(model))
    assert not torch.equal(logits_of(load_model(folder, torch.bfloat16)), logits_of(model))
    names = {path.name for path in source.iterdir()} | {"diffusion.json"}
    assert {path.name for path in (tmp_path / "made").iterdir()} == names
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_projection_that_the_model_lacks_is_named_and_nothing_is_left(
    folder: Path, tmp_path: Path
) -> None:
    adapter = adapter_for("model.layers.7.self_attn.q_proj", 64, tmp_path / "adapter")
    with pytest.raises(LoadingError, match=r"no projection 'model\.layers\.7\.self_attn\.q_proj'"):
        export_folder(folder, tmp_path / "made", adapter)
    adapter = adapter_for(TARGET, 32, tmp_path / "small")
    with pytest.raises(LoadingError, match=r"q_proj.*is \[64, 64\] in the model and \[32, 64\]"):
        export_folder(folder, tmp_path / "made", adapter)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "small"]


def test_what_is_there_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    for target in (tmp_path, tmp_path / "kept"):
        with pytest.raises(LoadingError, match="is there already"):
            export_folder(folder, target)
    assert (tmp_path / "kept").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export_folder(folder, tmp_path / "empty")
    assert (tmp_path / "empty" / "LICENSE").is_file()


def test_the_command_writes_folders_and_gguf_files(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_for(TARGET, 64, tmp_path / "adapter")
    words = ["export", "--model", str(folder), "--adapter", str(adapter)]
    for target in (tmp_path / "made", tmp_path / "made.gguf"):
        found = CliRunner().invoke(models, [*words, "--kind", "bf16", str(target)])
        assert (found.exit_code, found.stdout) == (0, f"{target}\n")
        again = CliRunner().invoke(models, [*words, "--kind", "bf16", str(target)])
        assert again.exit_code == 2
        assert "is there already" in again.stderr
    (back := tmp_path / "back").mkdir()
    convert(tmp_path / "made.gguf", back)
    wanted = logits_of(load_model(tmp_path / "made"))
    assert torch.equal(logits_of(load_model(back)), wanted)
    wrong = CliRunner().invoke(models, [*words, "x.gguf", "--kind", "q3"])
    assert (wrong.exit_code, "there are f32, f16" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("name", ["a.gguf", "a"])
def test_a_target_that_cannot_be_written_is_a_wrong_call(
    folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    target = tmp_path / "file" / name
    words = ["export", str(target), "--model", str(folder), "--adapter", "none"]
    found = CliRunner().invoke(models, words)
    assert found.exit_code == 2, found.output
    assert f"error: cannot write {target}: " in found.stderr


def test_an_adapter_that_is_not_there_is_a_wrong_call(folder: Path, tmp_path: Path) -> None:
    words = ["export", str(tmp_path / "a"), "--model", str(folder), "--adapter", "nope"]
    found = CliRunner().invoke(models, words)
    assert found.exit_code == 2, found.output
    assert "--adapter nope: there is no nope/adapter_config.json" in found.stderr
    assert not (tmp_path / "a").exists()

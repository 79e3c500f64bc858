"""An exported file holds the model that was exported: reading it back gives the same logits and tokens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from carrara.engines.errors import LoadingError
from carrara.engines.model.load import load_model, targets
from carrara.engines.model.lora import load_adapter, merge
from carrara.engines.weights.convert import convert
from carrara.engines.weights.folder import read_object
from carrara.engines.weights.gguf_export import ensure_gguf, export_gguf, gguf_name, rotated
from carrara.engines.weights.gguf_file import GgufFile, dequantised

TARGET = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def folder(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("source")
    convert(tiny_model.path, made, {"mask_token_id": 4})
    return made


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("adapter")
    settings = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "peft_type": "LORA"}
    (made / "adapter_config.json").write_text(json.dumps(settings))
    torch.manual_seed(3)
    pairs = {
        f"base_model.model.{TARGET}.lora_A.weight": torch.randn(2, 64),
        f"base_model.model.{TARGET}.lora_B.weight": torch.randn(64, 2),
    }
    save_file(pairs, made / "adapter_model.safetensors")
    return made


def logits_of(folder: Path) -> torch.Tensor:
    model = load_model(folder)
    tokens = torch.arange(5, 29)[None]
    found: torch.Tensor = model(tokens, torch.arange(24)[None])
    return found


def read_back(gguf: Path, to: Path) -> torch.Tensor:
    to.mkdir()
    convert(gguf, to)
    return logits_of(to)


def test_a_file_read_back_has_the_same_logits(folder: Path, tmp_path: Path) -> None:
    export_gguf(folder, tmp_path / "a.gguf", kind="bf16")
    assert torch.equal(read_back(tmp_path / "a.gguf", tmp_path / "back"), logits_of(folder))


def test_an_adapter_is_merged_into_the_file(folder: Path, adapter: Path, tmp_path: Path) -> None:
    export_gguf(folder, tmp_path / "a.gguf", adapter, kind="f32")
    plain, merged = load_model(folder), load_model(folder)
    merge(merged, load_adapter(adapter))
    found = stored(tmp_path / "a.gguf", "blk.1.attn_q.weight")
    wanted = targets(merged)[f"{TARGET}.weight"][rotated(64, 4)]
    assert not torch.equal(wanted, targets(plain)[f"{TARGET}.weight"][rotated(64, 4)])
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(("kind", "steps"), [("f16", 1 << 11), ("q8_0", 127), ("q4_1", 7)])
def test_a_quantised_matrix_is_as_close_as_its_steps(
    folder: Path, kind: Any, steps: int, tmp_path: Path
) -> None:
    export_gguf(folder, tmp_path / "a.gguf", kind=kind)
    wanted = load_model(folder).layers[0].down.weight
    error = (stored(tmp_path / "a.gguf", "blk.0.ffn_down.weight") - wanted).abs().max()
    assert 0 < error < 0.6 * wanted.abs().max() / steps or (kind == "f16" and error == 0)


def stored(gguf: Path, name: str) -> torch.Tensor:
    file = GgufFile.open(gguf)
    tensor = file.tensors[name]
    slabs = list(dequantised(file.raw_rows(tensor), tensor))
    return torch.from_numpy(np.concatenate(slabs))


def test_config_and_tokenizer_come_back_as_they_were(folder: Path, tmp_path: Path) -> None:
    export_gguf(folder, tmp_path / "a.gguf")
    (tmp_path / "back").mkdir()
    convert(tmp_path / "a.gguf", tmp_path / "back", {"mask_token_id": 4})
    assert GgufFile.open(tmp_path / "a.gguf").metadata["tokenizer.ggml.pre"] == "smollm"
    for name in ("config.json", "tokenizer.json"):
        assert read_object(tmp_path / "back" / name) == read_object(folder / name)


def test_what_no_plain_llama_has_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    settings = read_object(copy / "config.json")
    scaling = {"rope_type": "linear", "factor": 2.0}
    (copy / "config.json").write_text(json.dumps(settings | {"rope_scaling": scaling}))
    with pytest.raises(LoadingError, match=r"config\.json.*scaled"):
        export_gguf(copy, tmp_path / "a.gguf")
    with pytest.raises(LoadingError, match="no place"):
        gguf_name("model.layers.0.self_attn.q_norm.weight")
    assert not [path for path in tmp_path.iterdir() if path != copy]


def test_a_file_is_made_once_for_each_adapter_and_kind(
    folder: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRARA_HOME", str(tmp_path))
    first = ensure_gguf(folder, kind="q8_0")
    stamp = first.stat().st_mtime_ns
    assert ensure_gguf(folder, kind="q8_0") == first
    assert first.stat().st_mtime_ns == stamp
    assert len({first, ensure_gguf(folder, adapter), ensure_gguf(folder, kind="q4_1")}) == 3

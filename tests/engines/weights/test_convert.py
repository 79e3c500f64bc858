"""A converted model is what the GGUF file says, in Hugging Face's order of rows."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from carrara.engines.errors import LoadingError
from carrara.engines.weights.convert import convert, llama_config, unrotated
from carrara.engines.weights.folder import check_folder
from carrara.engines.weights.gguf_file import GgufFile


@pytest.fixture(scope="module")
def converted(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert(tiny_model.path, folder, {"mask_token_id": 4})
    return folder


def stored(tiny_model: Any, name: str) -> np.ndarray:
    """A tensor as the `gguf` package reads it, in llama.cpp's order."""
    (tensor,) = [t for t in gguf.GGUFReader(tiny_model.path).tensors if t.name == name]
    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type))


def test_the_folder_is_a_whole_checkpoint(converted: Path) -> None:
    check_folder(converted)


def test_every_tensor_is_the_stored_one_rounded_to_bf16(converted: Path, tiny_model: Any) -> None:
    found = load_file(converted / "model.safetensors")
    assert len(found) == len(tiny_model.tensors)
    pairs = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.1.self_attn.v_proj.weight": "blk.1.attn_v.weight",
        "model.layers.1.self_attn.o_proj.weight": "blk.1.attn_output.weight",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
        "model.layers.0.input_layernorm.weight": "blk.0.attn_norm.weight",
    }
    for ours, theirs in pairs.items():
        expected = torch.from_numpy(stored(tiny_model, theirs).copy()).to(torch.bfloat16)
        assert torch.equal(found[ours], expected), ours


@pytest.mark.parametrize(("part", "heads"), [("q", 4), ("k", 2)])
def test_query_and_key_rows_give_the_same_rotated_vectors_as_in_llama_cpp(
    converted: Path, tiny_model: Any, part: str, heads: int
) -> None:
    # Rotating neighbours (llama.cpp) and halves (Hugging Face) must yield one vector, up to its order.
    name = f"model.layers.0.self_attn.{part}_proj.weight"
    halves = load_file(converted / "model.safetensors")[name].float().numpy()
    neighbours = stored(tiny_model, f"blk.0.attn_{part}.weight")
    neighbours = torch.from_numpy(neighbours.copy()).to(torch.bfloat16).float().numpy()
    x = np.random.default_rng(1).normal(size=64).astype(np.float32)
    angles = 11 * 5000.0 ** (-np.arange(8) / 8)

    for head in range(heads):
        rows = slice(16 * head, 16 * head + 16)
        pairs = (neighbours[rows] @ x).reshape(8, 2)
        a = (pairs[:, 0] + 1j * pairs[:, 1]) * np.exp(1j * angles)
        first, second = (halves[rows] @ x).reshape(2, 8)
        b = (first + 1j * second) * np.exp(1j * angles)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "heads"), [(8, 1), (32, 4), (576, 9)])
def test_unrotating_undoes_what_the_converter_of_llama_cpp_does(rows: int, heads: int) -> None:
    ordered = np.arange(rows)
    rotated = ordered.reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(rows)
    np.testing.assert_array_equal(rotated[unrotated(rows, heads)], ordered)


def test_config_and_generation_config_name_the_right_ends(converted: Path) -> None:
    config = json.loads((converted / "config.json").read_text())
    generation = json.loads((converted / "generation_config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_theta"] == 5000.0
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    assert config["vocab_size"] == 5 + 256 + 4
    assert config["tie_word_embeddings"] is True
    assert config["mask_token_id"] == 4
    assert generation == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    settings = json.loads((converted / "tokenizer_config.json").read_text())
    assert (settings["eos_token"], settings["pad_token"]) == ("<|im_end|>", "<|im_end|>")


def test_an_untied_head_is_kept_and_said_so(tiny_model: Any, tmp_path: Path) -> None:
    file = GgufFile.open(tiny_model.path)
    file.tensors["output.weight"] = file.tensors["token_embd.weight"]
    assert llama_config(file)["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("general.architecture", "mamba", "'mamba'"),
        ("tokenizer.ggml.model", "llama", "tokenizer 'llama'"),
        ("tokenizer.ggml.pre", "qwen2", "'qwen2'"),
    ],
)
def test_another_architecture_or_tokenizer_is_refused(
    tiny_model: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    value: str,
    words: str,
) -> None:
    file = GgufFile.open(tiny_model.path)
    file.metadata[key] = value
    monkeypatch.setattr(GgufFile, "open", lambda _path: file)
    with pytest.raises(LoadingError, match=words):
        convert(tiny_model.path, tmp_path)


def test_an_unknown_tensor_and_a_missing_key_are_named(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = GgufFile.open(tiny_model.path)
    monkeypatch.setattr(GgufFile, "open", lambda _path: file)
    file.tensors["blk.0.attn_q.bias"] = file.tensors["output_norm.weight"]
    with pytest.raises(LoadingError, match=r"blk\.0\.attn_q\.bias"):
        convert(tiny_model.path, tmp_path)
    del file.metadata["llama.block_count"]
    with pytest.raises(LoadingError, match=r"llama\.block_count"):
        convert(tiny_model.path, tmp_path)

"""From a GGUF file of a Llama model to a Hugging Face folder with bf16 weights.

Only what `llama` files of llama.cpp's converter hold is known here. llama.cpp rotates neighbouring pairs
of a head's outputs, Hugging Face the first half with the second: the rows of the query and key
projections are put back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.errors import LoadingError
from carrara.engines.weights.bpe_json import write_tokenizer
from carrara.engines.weights.gguf_file import GgufFile, GgufTensor, dequantised
from carrara.engines.weights.safetensors_file import write_bf16

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_COMPUTED = ("rope_freqs.weight",)


def convert(gguf: Path, folder: Path, extra: Mapping[str, Any] | None = None) -> None:
    """Write config, weights and tokenizer of `gguf` into the existing, empty `folder`.

    `extra` is added to config.json. Nothing is made durable here and nothing is left out on success.

    Raises:
        LoadingError: the file is damaged, or no Llama model with a byte-level BPE tokenizer.
    """
    file = GgufFile.open(gguf)
    config = llama_config(file) | dict(extra or {})
    tensors = {
        hugging_face_name(name, file): t
        for name, t in file.tensors.items()
        if name not in _COMPUTED
    }
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}

    def slabs(name: str) -> Iterator[NDArray[np.float32]]:
        return _slabs(file, tensors[name], heads.get(name.split(".")[-2]))

    write_bf16(folder / "model.safetensors", {n: t.shape for n, t in tensors.items()}, slabs)
    write_json(folder / "config.json", config)
    ends = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", ends)
    write_tokenizer(file, folder, config["max_position_embeddings"])


def llama_config(file: GgufFile) -> dict[str, Any]:
    """What config.json says of this model, in Hugging Face's names."""
    if (kind := file.metadata.get("general.architecture")) != "llama":
        raise LoadingError(f"{file.path}: holds a {kind!r} model, only 'llama' can be converted")
    try:
        return _config(file)
    except KeyError as error:
        raise LoadingError(f"{file.path}: its metadata lacks {error}") from error


def _config(file: GgufFile) -> dict[str, Any]:
    known = file.metadata
    heads = known["llama.attention.head_count"]
    eos = known["tokenizer.ggml.eos_token_id"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": known["llama.embedding_length"],
        "intermediate_size": known["llama.feed_forward_length"],
        "max_position_embeddings": known["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": known["llama.block_count"],
        "num_key_value_heads": known.get("llama.attention.head_count_kv", heads),
        # The file holds a float32: 1e-05 comes out as 9.999999747378752e-06.
        "rms_norm_eps": float(f"{known['llama.attention.layer_norm_rms_epsilon']:.7g}"),
        "rope_theta": known.get("llama.rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "torch_dtype": "bfloat16",
        "vocab_size": file.tensors["token_embd.weight"].rows,
        "bos_token_id": known.get("tokenizer.ggml.bos_token_id", eos),
        "eos_token_id": eos,
        "pad_token_id": known.get("tokenizer.ggml.padding_token_id", eos),
    }


def hugging_face_name(name: str, file: GgufFile) -> str:
    """The name a tensor of a llama GGUF has in a Hugging Face checkpoint."""
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    match name.split("."):
        case ["blk", layer, part, "weight"] if part in LAYER_NAMES:
            return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"
    raise LoadingError(f"{file.path}: tensor {name!r} is not part of a plain Llama model")


def _slabs(file: GgufFile, tensor: GgufTensor, heads: int | None) -> Iterator[NDArray[np.float32]]:
    raw = file.raw_rows(tensor)
    # A quantisation block lies within a row, so whole rows can be moved before they are dequantised.
    return dequantised(raw if heads is None else raw[unrotated(tensor.rows, heads)], tensor)


def unrotated(rows: int, heads: int) -> NDArray[np.intp]:
    """For each row of a Hugging Face query or key projection, its place in llama.cpp's order."""
    import numpy as np

    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(rows)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

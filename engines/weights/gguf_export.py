"""A model as a GGUF file that llama.cpp loads: the weights of a folder with an adapter merged in, quantised.

The counterpart of `convert`: the same names and the same order of rows, the other way round. Files are kept
in `gguf/` beside the models of the store, under a name that changes with weights, adapter and precision.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carrara.engines.errors import LoadingError
from carrara.engines.weights import manifest, store
from carrara.engines.weights.bpe_json import DIGIT_BY_DIGIT
from carrara.engines.weights.convert import LAYER_NAMES, TOP_NAMES, unrotated
from carrara.engines.weights.durable import exclusive, sync_file
from carrara.engines.weights.folder import read_object, weight_files

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter
    from numpy.typing import NDArray
    from torch import Tensor

    from carrara.engines.model.config import LlamaConfig

Kind = Literal["f32", "f16", "bf16", "q8_0", "q4_1"]
"""How matrices are stored. Norms are float32 in any case, and the embedding of "q4_1" is Q8_0."""

_NORMAL, _CONTROL = 1, 3
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")


def ensure_gguf(
    name_or_path: str | Path = "smollm2", adapter: Path | None = None, kind: Kind = "q8_0"
) -> Path:
    """The GGUF file of a model (as `store.ensure` finds it) with `adapter` merged, made if it is not there.

    Raises:
        LoadingError: as `export_gguf`, or the model is not to be had.
    """
    folder = store.ensure(name_or_path)
    kept = store.home() / "gguf"
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"{folder.name}-{_fingerprint(folder, adapter)}-{kind}.gguf"
    with exclusive(kept / f".{path.stem}.lock", lambda line: None):
        if not path.is_file():
            export_gguf(folder, path, adapter, kind)
    return path


def export_gguf(
    folder: Path, target: Path, adapter: Path | None = None, kind: Kind = "q8_0"
) -> None:
    """Write the Llama model in `folder`, with the adapter in `adapter` merged, to the GGUF file `target`.

    `target` gets its name when it is whole. Takes the memory of the weights in float32.

    Raises:
        LoadingError: another architecture, rotary scaling, biases, or a tokenizer that is no byte-level BPE
        splitting digits apart; names the file. Or as `load_model` and `load_adapter`.
    """
    from gguf import GGUFWriter

    from carrara.engines.model.load import load_model, targets
    from carrara.engines.model.lora import load_adapter, merge

    model = load_model(folder)
    _check(model.config, folder)
    if adapter is not None:
        merge(model, load_adapter(adapter))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    writer = GGUFWriter(part, "llama")
    try:
        _describe(writer, model.config, folder, kind)
        for name, tensor in targets(model).items():
            ours = gguf_name(name)
            values = _ordered(ours, tensor, model.config)
            stored = _stored_as(ours, values, kind)
            writer.add_tensor(ours, _quantised(values, stored), raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        sync_file(part)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def gguf_name(name: str) -> str:
    """The name that a tensor of a Hugging Face Llama checkpoint has in a GGUF file.

    Raises:
        LoadingError: a plain Llama has no such tensor.
    """
    tops = {theirs: ours for ours, theirs in TOP_NAMES.items()}
    parts = {theirs: ours for ours, theirs in LAYER_NAMES.items()}
    if name in tops:
        return tops[name]
    found = _LAYER.fullmatch(name)
    if found is None or found[2] not in parts:
        raise LoadingError(f"tensor {name!r} has no place in a GGUF file of a plain Llama model")
    return f"blk.{found[1]}.{parts[found[2]]}.weight"


def rotated(rows: int, heads: int) -> NDArray[np.intp]:
    """For each row of llama.cpp's query or key projection, its place in Hugging Face's order."""
    import numpy as np

    return np.argsort(unrotated(rows, heads))


def _check(config: LlamaConfig, folder: Path) -> None:
    path = folder / "config.json"
    wrong = {
        f"its model_type is {config.model_type!r}": config.model_type != "llama",
        "its rotary frequencies are scaled": config.rope_scaling is not None,
        "it has biases": config.attention_bias or config.mlp_bias or bool(config.output_bias),
        "its queries and keys are normed": config.qk_norm,
        "it has experts": config.experts is not None,
        "it turns a part of each head": config.turned != config.head_dim,
    }
    for reason, holds in wrong.items():
        if holds:
            raise LoadingError(f"{path}: {reason}; only plain Llama models are written as GGUF")


def _describe(writer: GGUFWriter, config: LlamaConfig, folder: Path, kind: Kind) -> None:
    from gguf import LlamaFileType

    types = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
        "q4_1": LlamaFileType.MOSTLY_Q4_1,
    }
    writer.add_name(folder.name)
    writer.add_file_type(types[kind])
    writer.add_quantization_version(2)
    writer.add_block_count(config.layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_eps)
    writer.add_vocab_size(config.vocab_size)
    _describe_tokenizer(writer, config.vocab_size, folder)


def _describe_tokenizer(writer: GGUFWriter, size: int, folder: Path) -> None:
    path = folder / "tokenizer.json"
    found = read_object(path)
    inner = found.get("model", {})
    if inner.get("type") != "BPE" or not _splits_digits(found.get("pre_tokenizer")):
        raise LoadingError(
            f"{path}: only byte-level BPE that splits digits apart is written as GGUF"
        )
    controls = {token["id"]: token["content"] for token in found.get("added_tokens", [])}
    words = {number: word for word, number in inner["vocab"].items()} | controls
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(DIGIT_BY_DIGIT[0])
    writer.add_token_list([words.get(number, f"[UNUSED{number}]") for number in range(size)])
    writer.add_token_types([_CONTROL if n in controls else _NORMAL for n in range(size)])
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in inner["merges"]]
    )
    config = read_object(folder / "config.json")
    eos = config.get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) else eos
    if not isinstance(eos, int):
        raise LoadingError(f"{folder / 'config.json'}: has no eos_token_id")
    writer.add_eos_token_id(eos)
    writer.add_bos_token_id(config.get("bos_token_id") or eos)
    writer.add_pad_token_id(config.get("pad_token_id") or eos)
    writer.add_add_bos_token(False)
    if (template := folder / "chat_template.jinja").is_file():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def _splits_digits(how: Any) -> bool:
    steps = how.get("pretokenizers", []) if isinstance(how, Mapping) else []
    digits = [step for step in steps if step.get("type") == "Digits" and step["individual_digits"]]
    return bool(digits) and [step.get("type") for step in steps] == ["Digits", "ByteLevel"]


def _ordered(name: str, tensor: Tensor, config: LlamaConfig) -> NDArray[np.float32]:
    import numpy as np

    values: NDArray[np.float32] = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
    for part, heads in (("attn_q", config.heads), ("attn_k", config.kv_heads)):
        if f".{part}." in name:
            return values[rotated(len(values), heads)]
    return values


def _stored_as(name: str, values: NDArray[np.float32], kind: Kind) -> GGMLQuantizationType:
    from gguf import GGMLQuantizationType as Type

    if values.ndim == 1:
        return Type.F32
    if kind == "q4_1" and name in ("token_embd.weight", "output.weight"):
        return Type.Q8_0
    return Type[kind.upper()]


def _quantised(values: NDArray[np.float32], stored: GGMLQuantizationType) -> NDArray[Any]:
    from gguf.quants import quantize

    found: NDArray[Any] = quantize(values, stored)
    return found


def _fingerprint(folder: Path, adapter: Path | None) -> str:
    known = manifest.read(folder)
    stored = known.files if known else {}
    digests: Iterator[str] = (
        stored[path.name].sha256 if path.name in stored else manifest.sha256(path)
        for path in [folder / "config.json", folder / "tokenizer.json", *weight_files(folder)]
    )
    parts = [*digests]
    if adapter is not None:
        names = ("adapter_config.json", "adapter_model.safetensors")
        parts += [manifest.sha256(adapter / name) for name in names if (adapter / name).is_file()]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=6).hexdigest()

"""The model families that are computed here: how each writes its config.json and names its tensors.

One transformer (`llama`) computes them all; what differs between families are the arguments in
`LlamaConfig` and the names in `Layout`. A further family of this shape is a further entry in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from carrara.engines.errors import LoadingError
from carrara.engines.model.config import Denoising, ExpertsConfig, LlamaConfig, RopeScaling
from carrara.engines.model.layout import LLADA, LLADA2, LLAMA, Layout

DIFFUSION_GEMMA = "diffusion_gemma"
"""The model_type that transformers computes (`gemma`)."""

Fields = Mapping[str, Any]
Read = Callable[[Fields, str], LlamaConfig]


@dataclass(frozen=True, slots=True)
class Family:
    """`read` turns config.json (and its path, for errors) into our words; `layout` names the tensors."""

    read: Read
    layout: Layout


def family_of(found: Fields, where: str) -> Family:
    """The family of a config.json.

    Raises:
        LoadingError: an unknown model_type, or weights that are quantised.
    """
    kind = found.get("model_type")
    if kind == DIFFUSION_GEMMA:
        raise LoadingError(
            f"{where}: model_type {kind!r} is computed by transformers and can only be opened with LocalModel; "
            f"here it must be one of {', '.join(FAMILIES)}"
        )
    family = FAMILIES.get(str(kind))
    if family is None:
        raise LoadingError(
            f"{where}: model_type {kind!r} is not supported, only {', '.join((*FAMILIES, DIFFUSION_GEMMA))}. "
            "Use a checkpoint of one of these shapes, or serve this one over HTTP."
        )
    check_unquantised(found, where)
    return family


def check_unquantised(found: Fields, where: str) -> None:
    """Raise LoadingError where config.json says that the weights are quantised."""
    if quantised := found.get("quantization_config") or found.get("compression_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise LoadingError(
            f"{where}: weights quantised by {method!r} are not supported. "
            "Use the checkpoint in bfloat16, float16 or float32."
        )


def read_llama(found: Fields, where: str) -> LlamaConfig:
    """Llama, and the fields that most families share with it."""
    check_sizes(
        found,
        where,
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    _check_plain(found, where, {"hidden_act": ("silu",), "use_sliding_window": (False,)})
    heads, hidden = int(found["num_attention_heads"]), int(found["hidden_size"])
    kv_heads = int(found.get("num_key_value_heads") or heads)
    check_heads(heads, kv_heads, hidden, found.get("head_dim"), where)
    # transformers 5 moved rope_theta and rope_scaling into rope_parameters.
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    return LlamaConfig(
        vocab_size=int(found["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(found["intermediate_size"]),
        layers=int(found["num_hidden_layers"]),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=int(found.get("head_dim") or hidden // heads),
        max_positions=int(found.get("max_position_embeddings", 2048)),
        rms_eps=float(found.get("rms_norm_eps", 1e-6)),
        rope_theta=float(rope.get("rope_theta") or found.get("rope_theta") or 10000.0),
        rope_scaling=_rope_scaling(rope, where),
        tied=bool(found.get("tie_word_embeddings", False)),
        attention_bias=bool(found.get("attention_bias", False)),
        mlp_bias=bool(found.get("mlp_bias", False)),
        model_type=str(found["model_type"]),
    )


def read_qwen3(found: Fields, where: str) -> LlamaConfig:
    """Llama with normed queries and keys."""
    return replace(read_llama(found, where), qk_norm=True)


def read_sdar(found: Fields, where: str) -> LlamaConfig:
    """Qwen3 that denoises blocks, each behind those before it (SDAR, arXiv 2510.06303)."""
    how = Denoising("block", int(found.get("block_size") or 4), _id(found, "mask_token_id"))
    return replace(read_qwen3(found, where), denoising=how)


def read_dream(found: Fields, where: str) -> LlamaConfig:
    """Qwen2.5 (biases on query, key and value) with full attention and shifted logits (arXiv 2508.15487)."""
    how = Denoising("full", mask_id=_id(found, "mask_token_id"), shifted=True)
    config = read_llama({"tie_word_embeddings": False, **found}, where)
    return replace(config, attention_bias=True, output_bias=False, denoising=how)


def read_llada(found: Fields, where: str) -> LlamaConfig:
    """LLaDA and LLaDA 1.5 (arXiv 2502.09992): Llama with full attention, and other words for the sizes."""
    check_sizes(found, where, "vocab_size", "d_model", "n_heads", "n_layers")
    _check_plain(found, where, _LLADA_PLAIN)
    hidden, heads = int(found["d_model"]), int(found["n_heads"])
    kv_heads = 1 if found.get("multi_query_attention") else int(found.get("n_kv_heads") or heads)
    check_heads(heads, kv_heads, hidden, None, where)
    inner = found.get("mlp_hidden_size") or int(found.get("mlp_ratio", 4)) * hidden
    return LlamaConfig(
        vocab_size=int(found.get("embedding_size") or found["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(inner),
        layers=int(found["n_layers"]),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=hidden // heads,
        max_positions=int(found.get("max_sequence_length", 1024)),
        rms_eps=float(found.get("rms_norm_eps", 1e-5)),
        rope_theta=float(found.get("rope_theta", 10000.0)),
        tied=bool(found.get("weight_tying", False)),
        model_type=str(found["model_type"]),
        denoising=Denoising("full", mask_id=_id(found, "mask_token_id")),
    )


def read_llada2(found: Fields, where: str) -> LlamaConfig:
    """LLaDA 2.0 and 2.1: blocks behind blocks, mixtures of experts, heads turned in part."""
    check_sizes(
        found, where, "num_experts", "num_experts_per_tok", "moe_intermediate_size", "head_dim"
    )
    _check_plain(found, where, _LLADA2_PLAIN)
    config = read_llama(found, where)
    inner, groups = int(found["moe_intermediate_size"]), int(found.get("n_group") or 1)
    experts = ExpertsConfig(
        count=int(found["num_experts"]),
        chosen=int(found["num_experts_per_tok"]),
        hidden=inner,
        shared_hidden=inner * int(found.get("num_shared_experts") or 0),
        groups=groups,
        chosen_groups=int(found.get("topk_group") or groups),
        scale=float(found.get("routed_scaling_factor") or 1.0),
        normalised=bool(found.get("norm_topk_prob", True)),
        biased=bool(found.get("moe_router_enable_expert_bias", False)),
        first_layer=int(found.get("first_k_dense_replace") or 0),
    )
    if experts.count % groups or experts.chosen > experts.count // groups * experts.chosen_groups:
        raise LoadingError(
            f"{where}: {experts.chosen} of {experts.count} experts cannot be chosen from "
            f"{experts.chosen_groups} of {groups} equal groups"
        )
    # config.json names neither the block nor the mask; 32 is what the published models were trained with.
    how = Denoising("block", int(found.get("block_size") or 32), _id(found, "mask_token_id"))
    return replace(
        config,
        attention_bias=bool(found.get("use_qkv_bias", False)),
        output_bias=False,
        qk_norm=bool(found.get("use_qk_norm", False)),
        rotary_dim=int(config.head_dim * float(found.get("partial_rotary_factor") or 1.0)),
        experts=experts,
        denoising=how,
    )


def _adapted(read: Read) -> Read:
    """Adapted to diffusion: the checkpoint does not say whether with full attention or in blocks."""

    def adapted(found: Fields, where: str) -> LlamaConfig:
        block = found.get("block_size")
        how = Denoising(
            "block" if block else None, block and int(block), _id(found, "mask_token_id")
        )
        return replace(read(found, where), denoising=how)

    return adapted


FAMILIES: dict[str, Family] = {
    "llama": Family(read_llama, LLAMA),
    "a2d-llama": Family(_adapted(read_llama), LLAMA),
    "qwen3": Family(read_qwen3, LLAMA),
    "a2d-qwen3": Family(_adapted(read_qwen3), LLAMA),
    "sdar": Family(read_sdar, LLAMA),
    "Dream": Family(read_dream, LLAMA),
    "llada": Family(read_llada, LLADA),
    "llada2_moe": Family(read_llada2, LLADA2),
}
"""By the model_type of config.json."""

_NO = (False,)
# Variants that the families' own code knows and that no published checkpoint of this shape uses.
_LLADA_PLAIN: dict[str, tuple[Any, ...]] = {
    "activation_type": ("silu", "swiglu"),
    "alibi": _NO,
    "attention_layer_norm": _NO,
    "block_type": ("llama",),
    "block_group_size": (1,),
    "include_bias": _NO,
    "include_qkv_bias": _NO,
    "input_emb_norm": _NO,
    "layer_norm_type": ("rms",),
    "rope": (True,),
    "scale_logits": _NO,
}
_LLADA2_PLAIN: dict[str, tuple[Any, ...]] = {
    "norm_head": _NO,
    "score_function": ("sigmoid",),
    "use_bias": _NO,
    "use_rmsnorm": (True,),
}


def _id(found: Fields, name: str) -> int | None:
    value = found.get(name)
    return None if value is None else int(value)


def check_sizes(found: Fields, where: str, *names: str) -> None:
    """Raise LoadingError unless all of them are there and none is 0."""
    if missing := [name for name in names if not found.get(name)]:
        raise LoadingError(f"{where}: lacks {', '.join(missing)}")


def _check_plain(found: Fields, where: str, plain: Mapping[str, tuple[Any, ...]]) -> None:
    """A field that is there and not None must have one of its plain values."""
    for name, values in plain.items():
        if (value := found.get(name)) is not None and value not in values:
            allowed = " or ".join(map(repr, values))
            raise LoadingError(f"{where}: {name} {value!r} is not supported, only {allowed}")


def check_heads(heads: int, kv_heads: int, hidden: int, head_dim: Any, where: str) -> None:
    """Raise LoadingError unless the heads can share the KV heads, and the hidden size."""
    if heads % kv_heads:
        raise LoadingError(
            f"{where}: {heads} attention heads cannot share {kv_heads} KV heads evenly"
        )
    if not head_dim and hidden % heads:
        raise LoadingError(f"{where}: hidden_size {hidden} is not divisible by {heads} heads")


def _rope_scaling(rope: Fields, where: str) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    try:
        match kind:
            case "default":
                return None
            case "linear":
                return RopeScaling("linear", float(rope["factor"]))
            case "llama3":
                return RopeScaling(
                    "llama3",
                    float(rope["factor"]),
                    float(rope["low_freq_factor"]),
                    float(rope["high_freq_factor"]),
                    int(rope["original_max_position_embeddings"]),
                )
    except KeyError as error:
        raise LoadingError(f"{where}: rope type {kind!r} lacks {error}") from error
    raise LoadingError(
        f"{where}: rope type {kind!r} is not supported, only default, linear and llama3"
    )

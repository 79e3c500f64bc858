"""The model families that are computed here: how each writes its config.json and names its tensors.

One transformer (`llama`) computes them all; what differs between families are the arguments in
`LlamaConfig` and the names in `Layout`. A further family of this shape is a further entry in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from carrara.engines.errors import LoadingError
from carrara.engines.fields import COUNT, NOT_NEGATIVE, PART, Fields, Range
from carrara.engines.model.config import Denoising, ExpertsConfig, LlamaConfig, RopeScaling
from carrara.engines.model.layout import LLADA, LLADA2, LLAMA, Layout

DIFFUSION_GEMMA = "diffusion_gemma"
"""The model_type that transformers computes (`gemma`)."""

Read = Callable[[Fields], LlamaConfig]


@dataclass(frozen=True, slots=True)
class Family:
    """`read` turns config.json into our words; `layout` names the tensors."""

    read: Read
    layout: Layout


def family_of(found: Mapping[str, Any], where: str) -> Family:
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


def check_unquantised(found: Mapping[str, Any], where: str) -> None:
    """Raise LoadingError where config.json says that the weights are quantised."""
    if quantised := found.get("quantization_config") or found.get("compression_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise LoadingError(
            f"{where}: weights quantised by {method!r} are not supported. "
            "Use the checkpoint in bfloat16, float16 or float32."
        )


def read_llama(fields: Fields) -> LlamaConfig:
    """Llama, and the fields that most families share with it."""
    fields.need(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    _check_plain(fields, {"hidden_act": ("silu",), "use_sliding_window": (False,)})
    heads, hidden = fields.size("num_attention_heads"), fields.size("hidden_size")
    kv_heads = fields.whole("num_key_value_heads", heads)
    head_dim = fields.whole("head_dim", None)
    check_heads(heads, kv_heads, hidden, head_dim, fields.where)
    # transformers 5 moved rope_theta and rope_scaling into rope_parameters.
    rope = fields.part("rope_parameters")
    if not rope.found:
        rope = fields.part("rope_scaling")
    return LlamaConfig(
        vocab_size=fields.size("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.size("intermediate_size"),
        layers=fields.size("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim or hidden // heads,
        max_positions=fields.whole("max_position_embeddings", 2048),
        rms_eps=fields.number("rms_norm_eps", 1e-6, NOT_NEGATIVE),
        rope_theta=rope.number("rope_theta", fields.number("rope_theta", 10000.0)),
        rope_scaling=_rope_scaling(rope),
        tied=fields.flag("tie_word_embeddings"),
        attention_bias=fields.flag("attention_bias"),
        mlp_bias=fields.flag("mlp_bias"),
        model_type=str(fields.found["model_type"]),
    )


def read_qwen3(fields: Fields) -> LlamaConfig:
    """Llama with normed queries and keys."""
    return replace(read_llama(fields), qk_norm=True)


def read_sdar(fields: Fields) -> LlamaConfig:
    """Qwen3 that denoises blocks, each behind those before it (SDAR, arXiv 2510.06303)."""
    config = read_qwen3(fields)
    return replace(config, denoising=_blocks(fields, config, 4))


def read_dream(fields: Fields) -> LlamaConfig:
    """Qwen2.5 (biases on query, key and value) with full attention and shifted logits (arXiv 2508.15487)."""
    config = read_llama(fields)
    how = Denoising("full", mask_id=_mask_id(fields, config), shifted=True)
    return replace(config, attention_bias=True, output_bias=False, denoising=how)


def read_llada(fields: Fields) -> LlamaConfig:
    """LLaDA and LLaDA 1.5 (arXiv 2502.09992): Llama with full attention, and other words for the sizes."""
    fields.need("vocab_size", "d_model", "n_heads", "n_layers")
    _check_plain(fields, _LLADA_PLAIN)
    hidden, heads = fields.size("d_model"), fields.size("n_heads")
    kv_heads = 1 if fields.flag("multi_query_attention") else fields.whole("n_kv_heads", heads)
    check_heads(heads, kv_heads, hidden, None, fields.where)
    config = LlamaConfig(
        vocab_size=fields.whole("embedding_size", fields.size("vocab_size")),
        hidden_size=hidden,
        intermediate_size=fields.whole("mlp_hidden_size", fields.whole("mlp_ratio", 4) * hidden),
        layers=fields.size("n_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=hidden // heads,
        max_positions=fields.whole("max_sequence_length", 1024),
        rms_eps=fields.number("rms_norm_eps", 1e-5, NOT_NEGATIVE),
        rope_theta=fields.number("rope_theta", 10000.0),
        tied=fields.flag("weight_tying"),
        model_type=str(fields.found["model_type"]),
    )
    return replace(config, denoising=Denoising("full", mask_id=_mask_id(fields, config)))


def read_llada2(fields: Fields) -> LlamaConfig:
    """LLaDA 2.0 and 2.1: blocks behind blocks, mixtures of experts, heads turned in part."""
    fields.need("num_experts", "num_experts_per_tok", "moe_intermediate_size", "head_dim")
    _check_plain(fields, _LLADA2_PLAIN)
    config = read_llama(fields)
    # config.json names neither the block nor the mask; 32 is what the published models were trained with.
    return replace(
        config,
        attention_bias=fields.flag("use_qkv_bias"),
        output_bias=False,
        qk_norm=fields.flag("use_qk_norm"),
        rotary_dim=_rotary_dim(fields, config.head_dim),
        experts=_experts(fields),
        denoising=_blocks(fields, config, 32),
    )


def _experts(fields: Fields) -> ExpertsConfig:
    inner, groups = fields.size("moe_intermediate_size"), fields.whole("n_group", 1)
    experts = ExpertsConfig(
        count=fields.size("num_experts"),
        chosen=fields.size("num_experts_per_tok"),
        hidden=inner,
        shared_hidden=inner * fields.whole("num_shared_experts", 0, COUNT),
        groups=groups,
        chosen_groups=fields.whole("topk_group", groups, Range(1, groups, whole=True)),
        scale=fields.number("routed_scaling_factor", 1.0),
        normalised=fields.flag("norm_topk_prob", True),
        biased=fields.flag("moe_router_enable_expert_bias"),
        first_layer=fields.whole("first_k_dense_replace", 0, COUNT),
    )
    if experts.count % groups or experts.chosen > experts.count // groups * experts.chosen_groups:
        raise LoadingError(
            f"{fields.where}: {experts.chosen} of {experts.count} experts cannot be chosen from "
            f"{experts.chosen_groups} of {groups} equal groups"
        )
    return experts


def _rotary_dim(fields: Fields, head_dim: int) -> int:
    """How many dimensions of a head are turned: pairs of them, and at least one."""
    turned = int(head_dim * fields.number("partial_rotary_factor", 1.0, PART))
    if turned < 2 or turned % 2:
        wanted = f"a share of head_dim ({head_dim}) that is an even number of dimensions"
        raise fields.fault("partial_rotary_factor", wanted)
    return turned


def _adapted(read: Read) -> Read:
    """Adapted to diffusion: the checkpoint does not say whether with full attention or in blocks."""

    def adapted(fields: Fields) -> LlamaConfig:
        config = read(fields)
        mask, block = _mask_id(fields, config), fields.whole("block_size", None)
        how = Denoising(None if block is None else "block", block, mask)
        return replace(config, denoising=how)

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


def _mask_id(fields: Fields, config: LlamaConfig) -> int | None:
    return fields.token("mask_token_id", config.vocab_size)


def _blocks(fields: Fields, config: LlamaConfig, usual: int) -> Denoising:
    """Blocks of `block_size`, or of the `usual` size."""
    return Denoising("block", fields.whole("block_size", usual), _mask_id(fields, config))


def _check_plain(fields: Fields, plain: Mapping[str, tuple[Any, ...]]) -> None:
    """A field that is there must have one of its plain values."""
    for name, values in plain.items():
        if (value := fields.found.get(name)) is not None and value not in values:
            allowed = " or ".join(map(repr, values))
            raise LoadingError(f"{fields.where}: {name} {value!r} is not supported, only {allowed}")


def check_heads(heads: int, kv_heads: int, hidden: int, head_dim: int | None, where: str) -> None:
    """Raise LoadingError unless the heads can share the KV heads and the hidden size, and be turned by pairs."""
    if heads % kv_heads:
        raise LoadingError(
            f"{where}: {heads} attention heads cannot share {kv_heads} KV heads evenly"
        )
    if not head_dim and hidden % heads:
        raise LoadingError(f"{where}: hidden_size {hidden} is not divisible by {heads} heads")
    if (size := head_dim or hidden // heads) % 2:
        raise LoadingError(f"{where}: heads of {size} dimensions cannot be turned, only even ones")


def _rope_scaling(rope: Fields) -> RopeScaling | None:
    kind = rope.found.get("rope_type") or rope.found.get("type") or "default"
    match kind:
        case "default":
            return None
        case "linear":
            return RopeScaling("linear", rope.needed("factor"))
        case "llama3":
            low = rope.needed("low_freq_factor")
            return RopeScaling(
                "llama3",
                rope.needed("factor"),
                low,
                rope.needed("high_freq_factor", Range(low, is_open=True)),
                rope.size("original_max_position_embeddings"),
            )
    raise LoadingError(
        f"{rope.where}: rope type {kind!r} is not supported, only default, linear and llama3"
    )

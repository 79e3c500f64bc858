"""What a Llama-shaped checkpoint says about itself in config.json, checked and in our words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from carrara.engines.errors import LoadingError

MODEL_TYPES = ("llama", "a2d-llama")
"""Plain Llama, and Llama adapted to diffusion: same tensors and maths, another attention pattern."""

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context. `linear` uses `factor` alone."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_factor: float = 1.0
    high_factor: float = 4.0
    trained_positions: int = 8192


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Sizes of one model. `tied`: the output head is the embedding. `max_positions`: its context length."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    model_type: str = "llama"

    @property
    def group(self) -> int:
        """How many query heads share a key/value head."""
        return self.heads // self.kv_heads

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], where: str = "config.json") -> LlamaConfig:
        """Read the fields of a Hugging Face `config.json`. `where` names the file in errors.

        Raises:
            LoadingError: another architecture, a missing size, or a variant this model does not compute.
        """
        _check_architecture(found, where)
        heads = int(found["num_attention_heads"])
        hidden = int(found["hidden_size"])
        # transformers 5 moved rope_theta and rope_scaling into rope_parameters.
        rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
        return cls(
            vocab_size=int(found["vocab_size"]),
            hidden_size=hidden,
            intermediate_size=int(found["intermediate_size"]),
            layers=int(found["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(found.get("num_key_value_heads") or heads),
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


def _check_architecture(found: Mapping[str, Any], where: str) -> None:
    kind = found.get("model_type")
    if kind not in MODEL_TYPES:
        raise LoadingError(
            f"{where}: model_type {kind!r} is not supported, only {', '.join(MODEL_TYPES)}. "
            "Use a Llama-shaped checkpoint, or serve this one over HTTP."
        )
    if missing := [name for name in _SIZES if not found.get(name)]:
        raise LoadingError(f"{where}: lacks {', '.join(missing)}")
    if (act := found.get("hidden_act", "silu")) != "silu":
        raise LoadingError(f"{where}: hidden_act {act!r} is not supported, only 'silu'")
    heads, kv_heads = found["num_attention_heads"], found.get("num_key_value_heads")
    if kv_heads and heads % kv_heads:
        raise LoadingError(
            f"{where}: {heads} attention heads cannot share {kv_heads} KV heads evenly"
        )
    if not found.get("head_dim") and found["hidden_size"] % heads:
        raise LoadingError(
            f"{where}: hidden_size {found['hidden_size']} is not divisible by {heads} heads"
        )


def _rope_scaling(rope: Mapping[str, Any], where: str) -> RopeScaling | None:
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

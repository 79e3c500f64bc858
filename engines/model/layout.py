"""The names under which published checkpoints store their tensors.

A layout maps names to the parameters of `llama.Llama`. Names are relative to a layer where they stand in
`layer_norms`, `projections` and `experts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Layout:
    """`layer` holds a {} for the layer's number.

    `layer_norms`: our name of a norm to theirs. `projections`: their name to (our joined layer, its part;
    None for all parts at once). In layers with experts the `expert_projections` stand in place of those
    of the same place here, and `experts` names the routed ones: our name to theirs, with a {} for the
    number of the expert.
    """

    embedding: str
    norm: str
    head: str
    layer: str
    layer_norms: Mapping[str, str]
    projections: Mapping[str, tuple[str, str | None]]
    experts: Mapping[str, str] = field(default_factory=dict)
    expert_projections: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)

    def projections_of(self, has_experts: bool) -> Mapping[str, tuple[str, str | None]]:
        """The projections of a layer with or without experts."""
        if not has_experts:
            return self.projections
        taken = {joined for joined, _ in self.expert_projections.values()}
        kept = {name: place for name, place in self.projections.items() if place[0] not in taken}
        return kept | dict(self.expert_projections)


_MLP = {
    "mlp.gate_proj": ("gate_up", "gate_proj"),
    "mlp.up_proj": ("gate_up", "up_proj"),
    "mlp.down_proj": ("down", "down_proj"),
}

LLAMA = Layout(
    embedding="model.embed_tokens.weight",
    norm="model.norm.weight",
    head="lm_head.weight",
    layer="model.layers.{}.",
    layer_norms={
        "norm_attention": "input_layernorm.weight",
        "norm_mlp": "post_attention_layernorm.weight",
        "norm_q": "self_attn.q_norm.weight",
        "norm_k": "self_attn.k_norm.weight",
    },
    projections={
        "self_attn.q_proj": ("qkv", "q_proj"),
        "self_attn.k_proj": ("qkv", "k_proj"),
        "self_attn.v_proj": ("qkv", "v_proj"),
        "self_attn.o_proj": ("out", "o_proj"),
        **_MLP,
    },
)
"""Llama, Qwen, and what was adapted from them."""

LLADA = Layout(
    embedding="model.transformer.wte.weight",
    norm="model.transformer.ln_f.weight",
    head="model.transformer.ff_out.weight",
    layer="model.transformer.blocks.{}.",
    layer_norms={"norm_attention": "attn_norm.weight", "norm_mlp": "ff_norm.weight"},
    projections={
        "q_proj": ("qkv", "q_proj"),
        "k_proj": ("qkv", "k_proj"),
        "v_proj": ("qkv", "v_proj"),
        "attn_out": ("out", "o_proj"),
        "ff_proj": ("gate_up", "gate_proj"),
        "up_proj": ("gate_up", "up_proj"),
        "ff_out": ("down", "down_proj"),
    },
)

LLADA2 = Layout(
    embedding="model.word_embeddings.weight",
    norm="model.norm.weight",
    head="lm_head.weight",
    layer="model.layers.{}.",
    layer_norms={
        "norm_attention": "input_layernorm.weight",
        "norm_mlp": "post_attention_layernorm.weight",
        "norm_q": "attention.query_layernorm.weight",
        "norm_k": "attention.key_layernorm.weight",
    },
    projections={
        "attention.query_key_value": ("qkv", None),
        "attention.dense": ("out", "o_proj"),
        **_MLP,
    },
    experts={
        "router": "mlp.gate.weight",
        "bias": "mlp.gate.expert_bias",
        "gate": "mlp.experts.{}.gate_proj.weight",
        "up": "mlp.experts.{}.up_proj.weight",
        "down": "mlp.experts.{}.down_proj.weight",
    },
    expert_projections={
        "mlp.shared_experts.gate_proj": ("gate_up", "gate_proj"),
        "mlp.shared_experts.up_proj": ("gate_up", "up_proj"),
        "mlp.shared_experts.down_proj": ("down", "down_proj"),
    },
)

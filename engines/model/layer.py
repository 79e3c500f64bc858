"""One layer of a Llama: attention and a gated feed-forward network or experts, each behind a norm.

Legend: B batch, T new positions, D hidden, H key/value heads, E head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.experts import Experts
from carrara.engines.model.kv import CacheView
from carrara.engines.model.linear import JoinedLinear, Quick
from carrara.engines.model.pattern import Pattern, attend
from carrara.engines.model.rope import rotate


class Layer(nn.Module):
    """Attention and a gated feed-forward network, each behind a norm and added to its input.

    With a mixture of experts `gate_up` and `down` are the shared experts, through which every token passes,
    and `experts` adds the chosen ones.
    """

    experts: Experts | None
    norm_q: nn.Parameter | None
    norm_k: nn.Parameter | None

    def __init__(self, config: LlamaConfig, index: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.index, self.eps = index, config.rms_eps
        self.heads, self.kv_heads, self.size = config.heads, config.kv_heads, config.head_dim
        hidden, inner = config.hidden_size, config.intermediate_size
        keys = config.kv_heads * config.head_dim
        queries = config.heads * config.head_dim
        self.norm_attention = parameter(hidden, dtype=dtype)
        self.qkv = JoinedLinear(
            hidden,
            {"q_proj": queries, "k_proj": keys, "v_proj": keys},
            config.attention_bias,
            dtype,
        )
        output_bias = config.attention_bias if config.output_bias is None else config.output_bias
        self.out = JoinedLinear(queries, {"o_proj": hidden}, output_bias, dtype)
        self.norm_q = parameter(self.size, dtype=dtype) if config.qk_norm else None
        self.norm_k = parameter(self.size, dtype=dtype) if config.qk_norm else None
        self.norm_mlp = parameter(hidden, dtype=dtype)
        self.experts = None
        if config.experts is not None and config.has_experts(index):
            self.experts = Experts(config.experts, hidden, dtype)
            inner = config.experts.shared_hidden
        self.gate_up = JoinedLinear(
            hidden, {"gate_proj": inner, "up_proj": inner}, config.mlp_bias, dtype
        )
        self.down = JoinedLinear(inner, {"down_proj": hidden}, config.mlp_bias, dtype)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        pattern: Pattern,
        view: CacheView | None,
        switch: Tensor | None,
        quick: Quick,
    ) -> Tensor:
        """x [B, T, D] -> [B, T, D]."""
        batch, new, _ = x.shape
        joined = self.qkv(norm(x, self.norm_attention, self.eps), switch, quick)
        joined = joined.to(cos.dtype).view(batch, new, -1, self.size)
        if self.norm_q is not None and self.norm_k is not None:
            joined = self._normed(joined, self.norm_q, self.norm_k)
        joined = rotate(joined, cos, sin)
        q, kv = joined[:, :, : self.heads], joined[:, :, self.heads :]
        kv = kv.view(batch, new, 2, self.kv_heads, self.size)
        keys, values = kv.permute(2, 0, 3, 1, 4) if view is None else view.extend(self.index, kv)
        x = x + self.out(attend(q, keys, values, pattern), switch, quick)
        between = norm(x, self.norm_mlp, self.eps)
        gate, up = self.gate_up(between, switch, quick).chunk(2, dim=-1)
        inner: Tensor = self.down(F.silu(gate) * up, switch, quick)
        return x + inner if self.experts is None else x + inner + self.experts(between)

    def _normed(self, joined: Tensor, norm_q: Tensor, norm_k: Tensor) -> Tensor:
        """Queries and keys among the heads [B, T, N, E] normed head by head, values as they are."""
        keys = self.heads + self.kv_heads
        q = norm(joined[:, :, : self.heads], norm_q, self.eps)
        k = norm(joined[:, :, self.heads : keys], norm_k, self.eps)
        return torch.cat((q, k, joined[:, :, keys:]), dim=2)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm (arXiv 1910.07467), its mean in float32. Faster here than F.rms_norm: 16 us
    for 25."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = length.square_().mul_(1.0 / x.shape[-1]).add_(eps).rsqrt_()
    scaled: Tensor = x * inverse
    return scaled.to(x.dtype) * weight


def parameter(*shape: int, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)

"""A mixture of experts: the feed-forward network of which each token passes through a few parts only.

Legend: N tokens, D hidden, X experts, K chosen experts, I width of one expert.

Routing in groups with a bias for the choice alone is that of DeepSeek-V3 (arXiv 2412.19437), which
LLaDA2.x uses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carrara.engines.model.config import ExpertsConfig


class Router(nn.Module):
    """Chooses experts for each token, in float32."""

    bias: nn.Parameter | None

    def __init__(self, config: ExpertsConfig, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = config
        self.weight = _parameter(config.count, hidden, dtype=dtype)
        self.bias = _parameter(config.count, dtype=torch.float32) if config.biased else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [N, D] -> chosen experts [N, K] int64, their weights [N, K] float32, raw logits [N, X]."""
        config = self.config
        logits = F.linear(x.float(), self.weight.float())
        scores = logits.sigmoid()
        ranked = scores if self.bias is None else scores + self.bias
        if config.chosen_groups < config.groups:
            ranked = self._best_groups(ranked)
        chosen = ranked.topk(config.chosen, dim=-1).indices
        weights = scores.gather(-1, chosen)
        if config.normalised:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return chosen, weights * config.scale, logits

    def _best_groups(self, ranked: Tensor) -> Tensor:
        """All but the best groups at -inf. A group is as good as its two best experts together."""
        grouped = ranked.view(len(ranked), self.config.groups, -1)
        worth = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(-1)
        best = worth.topk(self.config.chosen_groups, dim=-1).indices
        out = torch.ones_like(worth, dtype=torch.bool).scatter_(1, best, False)
        return grouped.masked_fill(out[..., None], -torch.inf).flatten(1)


class Experts(nn.Module):
    """The routed experts of one layer, stored one behind the other."""

    def __init__(self, config: ExpertsConfig, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.router = Router(config, hidden, dtype)
        self.gate_up = _parameter(config.count, 2 * config.hidden, hidden, dtype=dtype)
        self.down = _parameter(config.count, hidden, config.hidden, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] -> [B, T, D]."""
        flat = x.reshape(-1, x.shape[-1])
        chosen, weights, _ = self.router(flat)
        out = torch.zeros_like(flat, dtype=torch.float32)
        # One product for each expert in use. Their number is small where tokens are few.
        for expert in chosen.unique().tolist():
            token, place = (chosen == expert).nonzero(as_tuple=True)
            gate, up = F.linear(flat[token], self.gate_up[expert]).chunk(2, dim=-1)
            found = F.linear(F.silu(gate) * up, self.down[expert])
            out.index_add_(0, token, found.float() * weights[token, place, None])
        return out.to(x.dtype).view(x.shape)


def _parameter(*shape: int, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)

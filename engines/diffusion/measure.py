"""How sure the model is of its best token, in the ways in which decoders rank positions.

Legend: B rows, N positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Measure = Callable[[Tensor, Tensor], Tensor]
"""(probabilities [B, N, V] float32, chosen tokens [B, N]) -> confidence [B, N], higher is surer."""


def probability(shares: Tensor, tokens: Tensor) -> Tensor:
    """The probability of the chosen token."""
    return shares.gather(-1, tokens[..., None])[..., 0]


def margin(shares: Tensor, tokens: Tensor) -> Tensor:
    """How far the best token is ahead of the second one (Dream's "topk_margin")."""
    best = shares.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def negative_entropy(shares: Tensor, tokens: Tensor) -> Tensor:
    """Minus the entropy in nats (Dream's "entropy")."""
    return (shares * (shares + 1e-10).log()).sum(-1)


def filtered(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Logits with all but the `top_k` best tokens, and all beyond the smallest set that holds `top_p` of the
    probability, at -inf. None, 0 and 1.0 filter nothing."""
    if top_k:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        shares = ordered.softmax(-1)
        beyond = shares.cumsum(-1) - shares >= top_p
        logits = torch.full_like(logits, -torch.inf).scatter(
            -1, order, ordered.masked_fill(beyond, -torch.inf)
        )
    return logits

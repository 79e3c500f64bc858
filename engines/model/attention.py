"""Attention patterns as boolean masks: who may see whom.

Legend: B batch, T new positions (queries), S slots looked at (keys), H key/value heads, G query heads
for each of them, E head size. A mask is [B, 1, T, S] bool, True where the query may attend.

Every pattern here is a *limit*: the query at position p sees slots 0..limit(p). Causal: p itself.
Block-causal: the end of p's block. Full: the end of the row. `visible_up_to` turns limits into a mask;
slots beyond the row's last valid one are garbage, so limits never reach past it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def visible_up_to(limits: Tensor, slots: int) -> Tensor:
    """The mask in which query t of row b sees slots 0..limits[b, t]. Shapes: limits [B, T] -> [B, 1, T,
    slots].

    A limit below 0 would leave a query blind (softmax of nothing is NaN), so slot 0 is always seen.
    """
    seen = torch.arange(slots, device=limits.device) <= limits.clamp_min(0)[..., None]
    return seen[:, None]


def causal(positions: Tensor, slots: int) -> Tensor:
    """Each position sees itself and what came before. positions [B, T] -> [B, 1, T, slots]."""
    return visible_up_to(positions, slots)


def block_causal(
    positions: Tensor,
    slots: int,
    block: int,
    start: Tensor | int = 0,
    lengths: Tensor | None = None,
) -> Tensor:
    """Causal before `start`, and from there on in blocks that see themselves in both directions.

    Blocks begin at `start` (an int, or [B] for rows whose prompts differ) and are `block` positions
    long. `lengths` [B], where given, is the end of each row's valid slots (a last block may be shorter).
    Shapes: positions [B, T] -> [B, 1, T, slots].
    """
    begin = start[:, None] if isinstance(start, Tensor) else start
    ends = begin + torch.div(positions - begin, block, rounding_mode="floor") * block + block - 1
    limits = torch.where(positions < begin, positions, ends)
    if lengths is not None:
        limits = torch.minimum(limits, lengths[:, None] - 1)
    return visible_up_to(limits, slots)


def full(lengths: Tensor, new: int, slots: int) -> Tensor:
    """Every one of `new` queries sees all `lengths[b]` valid slots. lengths [B] -> [B, 1, new, slots]."""
    return visible_up_to((lengths - 1)[:, None].expand(-1, new), slots)


def beside_cache(lengths: Tensor, new: Tensor | int, width: int, cached: int) -> Tensor:
    """For a pass with `keep=False`: all see the row's cached slots and all its new positions, both
    directions.

    lengths [B] valid slots of each row, `cached` slots looked at (at least the longest), `width` = T new
    positions of which the first `new` ([B] or int) are real. Result [B, 1, width, cached + width].
    """
    device = lengths.device
    new = torch.as_tensor(new, device=device).expand(lengths.shape[0])
    old_seen = torch.arange(cached, device=device) < lengths[:, None]
    new_seen = torch.arange(width, device=device) < new[:, None]
    seen = torch.cat((old_seen, new_seen), dim=1)
    return seen[:, None, None].expand(-1, -1, width, -1)


def causal_with_padding(valid: Tensor) -> Tensor:
    """Causal within a row whose padding stands anywhere. valid [B, T] bool -> [B, 1, T, T].

    Padding sees itself only: it must see something, or its NaN would reach the others in the next layer.
    """
    size = valid.shape[1]
    here = torch.ones(size, size, dtype=torch.bool, device=valid.device)
    seen = here.tril() & valid[:, None, :] | torch.eye(size, dtype=torch.bool, device=valid.device)
    return seen[:, None]

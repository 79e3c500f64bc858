"""Attention patterns as boolean masks, and grouped-query attention under them.

Legend: B batch, T new positions (queries), S slots looked at (keys), H key/value heads, G query heads
for each of them, E head size. A mask is [B, 1, T, S] bool, True where the query may attend.

Every pattern here is a *limit*: the query at position p sees slots 0..limit(p). Causal: p itself.
Block-causal: the end of p's block. Full: the end of the row. `visible_up_to` turns limits into a mask;
slots beyond the row's last valid one are garbage, so limits never reach past it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 64
"""Positions that steady attention computes together, and the step in which it widens its view."""


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


@dataclass(frozen=True, slots=True)
class Tile:
    """Part of a pass: some queries of some rows look at the first `slots` slots.

    `bias` is added to the scores, [rows, 1, G * queries or 1, slots]. Queries are padded to `width` of
    them, `before` in front and the rest behind.
    """

    rows: slice
    queries: slice
    slots: int
    bias: Tensor
    before: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True)
class Pattern:
    """How a pass attends, prepared once for all its layers. `slots` are looked at; no tiles: causal
    within itself.

    `alone` keeps each attention to one thread.
    """

    tiles: tuple[Tile, ...]
    slots: int
    alone: bool = False


def whole(mask: Tensor, group: int, dtype: torch.dtype) -> Pattern:
    """Any mask [B, 1, T, S], computed at once."""
    everything = slice(None)
    slots = mask.shape[-1]
    return Pattern((Tile(everything, everything, slots, folded(mask, group, dtype)),), slots)


def steady(positions: Tensor, most: int, group: int, dtype: torch.dtype) -> Pattern:
    """Causal attention of prompts that gives each position the same bits however the prompt is cut and
    packed.

    Every tile is one row and TILE positions from a multiple of TILE on, padded where the pass has fewer
    of them, and looks at slots up to its own end: a function of the position alone. (Matrix products
    round differently when their shapes change.) It skips what lies in the future, too. `most`: slots the
    cache has.
    """
    tiles = []
    new = positions.shape[1]
    for row, start in enumerate(positions[:, 0].tolist()):
        for at in range(start // TILE * TILE, start + new, TILE):
            slots = min(at + TILE, most)
            limits = torch.arange(at, at + TILE)[None]
            bias = folded(visible_up_to(limits, slots), group, dtype)
            first, last = max(at, start), min(at + TILE, start + new)
            queries = slice(first - start, last - start)
            tiles.append(Tile(slice(row, row + 1), queries, slots, bias, first - at, TILE))
    return Pattern(tuple(tiles), max(tile.slots for tile in tiles))


def step_by_step(positions: Tensor, most: int, group: int, dtype: torch.dtype) -> Pattern:
    """Causal attention of answer tokens that gives each the same bits whoever shares the pass.

    One new position at a time for all rows, over slots in multiples of TILE, on one thread: with a group
    of rows this small the products round alike for all such shapes, as long as their buffers are aligned
    alike.
    """
    tiles = []
    for t in range(positions.shape[1]):
        limits = positions[:, t : t + 1]
        slots = min(-(-(int(limits.max()) + 1) // TILE) * TILE, most)
        bias = folded(visible_up_to(limits, slots), group, dtype)
        tiles.append(Tile(slice(None), slice(t, t + 1), slots, bias))
    return Pattern(tuple(tiles), max(tile.slots for tile in tiles), alone=True)


def folded(mask: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores: 0 where seen, -inf where not.

    Shapes: mask [B, 1, T, S] -> [B, 1, group * T, S]; [B, 1, 1, S] for T = 1, which spreads over the
    group.
    """
    batch, _, new, slots = mask.shape
    if new > 1 and group > 1:
        mask = mask[:, :, None].expand(-1, -1, group, -1, -1).reshape(batch, 1, group * new, slots)
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, -torch.inf)


def attend(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
    """Grouped-query attention. Shapes: q [B, T, H*G, E], k and v [B, H, S, E], result [B, T, H*G*E].

    The G query heads that share a key/value head are laid side by side as G*T queries of one head, so
    keys and values are never repeated in memory.
    """
    batch, new, heads, size = q.shape
    if not pattern.tiles:
        several = heads > k.shape[1]
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2), k, v, is_causal=True, enable_gqa=several
        )
        return out.transpose(1, 2).reshape(batch, new, heads * size)
    with _one_thread() if pattern.alone else nullcontext():
        if len(pattern.tiles) == 1 and not pattern.tiles[0].width:
            slots = pattern.tiles[0].slots
            return _attend(q, k[:, :, :slots], v[:, :, :slots], pattern.tiles[0].bias)
        out = q.new_empty(batch, new, heads * size)
        for tile in pattern.tiles:
            seen = (tile.rows, slice(None), slice(0, tile.slots))
            part = q[tile.rows, tile.queries]
            if tile.width:
                behind = tile.width - tile.before - part.shape[1]
                part = F.pad(part, (0, 0, 0, 0, tile.before, behind))
            found = _attend(part, k[seen], v[seen], tile.bias)
            count = tile.queries.stop - tile.queries.start
            out[tile.rows, tile.queries] = found[:, tile.before : tile.before + count]
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    batch, new, heads, size = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    beside = q.view(batch, new, kv_heads, group, size).permute(0, 2, 3, 1, 4)
    beside = beside.reshape(batch, kv_heads, group * new, size)
    out = F.scaled_dot_product_attention(beside, k, v, attn_mask=bias)
    out = out.view(batch, kv_heads, group, new, size).permute(0, 3, 1, 2, 4)
    return out.reshape(batch, new, heads * size)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""Grouped-query attention, cut so that it is exact, quick, or the same to the last bit in any company.

Legend: B batch, T new positions (queries), S slots looked at (keys), H key/value heads, G query heads
for each of them, E head size. A `Pattern` is made once a pass and serves all its layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from carrara.engines.model.attention import visible_up_to

TILE = 16
"""Positions of a prompt that steady attention computes together, as many as the prefix cache keeps in a block. What is
new of a prompt are often 10 to 50 tokens: 16 took 0.1 to 0.4 ms a layer where 64 took 0.4 to 0.6; a prompt of 1,000
takes 8 % longer (bfloat16, AVX-512)."""

STEP = 64
"""Slots by which the view of answer tokens widens."""

STEADY_TOKENS = 16
"""A causal pass over at least so many places (rows times positions) is steady; pad it."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Part of a pass: some queries of some rows look at the first `slots` slots.

    `bias` is added to the scores, [rows, 1, G * queries or 1, slots]; None: all is seen. Queries are padded to
    `width` of them, `before` in front and the rest behind. `repeats`: the positions of these rows behind the
    queries repeat the last one, and get what it gets.
    """

    rows: slice
    queries: slice
    slots: int
    bias: Tensor | None
    before: int = 0
    width: int = 0
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """How a pass attends, prepared once for all its layers. `slots` are looked at; no tiles: causal
    within itself.

    `alone` keeps each attention to one thread.
    """

    tiles: tuple[Tile, ...]
    slots: int
    alone: bool = False

    def before(self, end: int, queries: slice) -> Pattern:
        """This pattern of one row, and behind it `queries` that see its first `end` slots, all of them."""
        tile = Tile(slice(0, 1), queries, end, None)
        return Pattern((*self.tiles, tile), max(self.slots, end), self.alone)


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

    One new position at a time for all rows, over slots in multiples of STEP, on one thread: with a group
    of rows this small the products round alike for all such shapes, as long as their buffers are aligned
    alike.
    """
    tiles = []
    for t in range(positions.shape[1]):
        limits = positions[:, t : t + 1]
        slots = min(-(-(int(limits.max()) + 1) // STEP) * STEP, most)
        bias = folded(visible_up_to(limits, slots), group, dtype)
        tiles.append(Tile(slice(None), slice(t, t + 1), slots, bias))
    return Pattern(tuple(tiles), max(tile.slots for tile in tiles), alone=True)


def each_row(ends: Sequence[int], counts: Sequence[int]) -> Pattern:
    """Attention of canvases on a CPU: the first counts[b] positions of row b see its first ends[b] slots, all of them.

    A tile is one row with just its own positions and slots, so that its bits do not depend on how wide the
    others of the pass are. What lies behind a row's positions repeats its last one.
    """
    tiles = []
    for row, (end, count) in enumerate(zip(ends, counts, strict=True)):
        tiles.append(Tile(slice(row, row + 1), slice(0, count), end, None, repeats=True))
    return Pattern(tuple(tiles), max(ends))


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
        if len(pattern.tiles) == 1 and _is_whole(pattern.tiles[0], new):
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
            if tile.repeats:
                out[tile.rows, tile.queries.stop :] = found[:, -1:]
        return out


def _is_whole(tile: Tile, new: int) -> bool:
    """Whether a tile is all of its pass."""
    return not tile.width and tile.queries.stop in (None, new)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
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

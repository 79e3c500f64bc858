"""What all canvases of a pass want to know, read together: the head in tiles, one transfer to the host.

The logits of a pass are never there as a whole: the head is computed for a few positions at a time, what is
wanted of them is kept, and all of it goes to the host at once. So reading a pass takes the memory of one
tile and waits for the device once, however many canvases share it. Requests that draw their tokens, or
whose rule looks at whole distributions, take their logits one by one (`reader.read`).

Legend: K positions wanted of one canvas, R of all, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.diffusion.canvas import Reading, View
from carrara.engines.diffusion.judge import share
from carrara.engines.diffusion.reader import MaskTable
from carrara.engines.diffusion.scaffold.lexicon import Row

Head = Callable[[Tensor], Tensor]
"""[R, D] -> logits [R, V]."""

_GROUP = 256
"""Tokens of which the best is sought together."""

_TILE_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}


@dataclass(frozen=True, slots=True)
class Glance:
    """One canvas: its view, and the last hidden state [K, D] of each of the view's offsets, in their order."""

    view: View
    hidden: Tensor


def tile_rows(device: torch.device, vocab: int) -> int:
    """How many positions go through the head at once."""
    return max(1, _TILE_BYTES.get(device.type, 64 << 20) // (4 * vocab))


@torch.inference_mode()
def read_together(
    glances: Sequence[Glance], head: Head, weight: Tensor, table: MaskTable, tile: int
) -> list[Reading]:
    """The reading of each canvas: the best allowed token of each site, as `reader.read` finds it, `tile` positions at
    a time.

    `weight` [V, D] is the head's own, for the few (position, token) pairs of gates, which are computed
    exactly. What the model gave no number for is NaN in the reading; see `reader.checked`.
    """
    sites, pairs = _sites(glances)
    said = torch.cat([glance.hidden for glance in glances])
    states = said[_indexes([at for at, _ in sites], said)]
    parts = [
        _tile(states[i : i + tile], [row for _, row in sites[i : i + tile]], head, table)
        for i in range(0, len(sites), tile)
    ]
    parts.append(_pair_logits(said, pairs, weight))
    packed: list[float] = torch.cat(parts).tolist()  # a token's number is exact in float64
    return _dealt(glances, packed)


def _sites(
    glances: Sequence[Glance],
) -> tuple[list[tuple[int, Row | None]], list[tuple[int, int]]]:
    """All sites and all pairs of a pass, each with its place among all hidden states."""
    sites: list[tuple[int, Row | None]] = []
    pairs: list[tuple[int, int]] = []
    start = 0
    for glance in glances:
        offsets = glance.view.offsets
        where = {offset: start + number for number, offset in enumerate(offsets)}
        sites += [(where[site.offset], site.row) for site in glance.view.sites]
        pairs += [(where[offset], token) for offset, token in glance.view.pairs]
        start += len(offsets)
    return sites, pairs


def _tile(states: Tensor, rows: Sequence[Row | None], head: Head, table: MaskTable) -> Tensor:
    """Best token, its probability among the allowed and among all, for each state: [3 * rows] float64."""
    logits = head(states).float()
    forbidden: Tensor | None = None
    masked = [row for row in rows if row is not None]
    if masked:
        # A row without a mask allows everything; canvases of both kinds may share a pass.
        forbidden = ~table.masks(masked)
        if len(masked) < len(rows):
            where = _indexes([n for n, row in enumerate(rows) if row is not None], logits)
            forbidden = torch.zeros_like(logits, dtype=torch.bool).index_copy_(0, where, forbidden)
    best, sure, chance = judged(logits, forbidden)
    return torch.stack((best.double(), sure.double(), chance.double()), dim=1).flatten()


def judged(logits: Tensor, forbidden: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The best allowed token of each row of [R, V], its probability among the allowed ones and among all.

    Puts -inf into the logits where they are `forbidden`, [R or 1, V] bool.
    """
    shares = logits.softmax(1)
    if forbidden is not None:
        logits.masked_fill_(forbidden, -torch.inf)
    best = _best(logits)
    chance = shares.gather(1, best[:, None])[:, 0]
    return best, chance if forbidden is None else share(logits, best), chance


def _best(logits: Tensor) -> Tensor:
    """Where the first of the highest in each row of [R, V] is. By groups, as a maximum without its place takes a
    twentieth of the time of one with it on a CPU."""
    rows, vocab = logits.shape
    if vocab % _GROUP:
        return logits.argmax(1)
    groups = logits.view(rows, -1, _GROUP)
    chosen = groups.amax(2).argmax(1)
    within = groups[torch.arange(rows, device=logits.device), chosen].argmax(1)
    return chosen * _GROUP + within


def _pair_logits(said: Tensor, pairs: Sequence[tuple[int, int]], weight: Tensor) -> Tensor:
    if not pairs:
        return said.new_empty(0, dtype=torch.float64)
    at, tokens = zip(*pairs, strict=True)
    states, words = said[_indexes(at, said)], weight[_indexes(tokens, weight)]
    return (states.float() * words.float()).sum(1).double()


def _dealt(glances: Sequence[Glance], packed: Sequence[float]) -> list[Reading]:
    """Give each canvas its own: first all sites, three numbers each, then all pairs."""
    at, pair = 0, 3 * sum(len(glance.view.sites) for glance in glances)
    found = []
    for glance in glances:
        until = at + 3 * len(glance.view.sites)
        tokens = [int(token) for token in packed[at:until:3]]
        logits = packed[pair : pair + len(glance.view.pairs)]
        found.append(
            Reading(tokens, packed[at + 1 : until : 3], packed[at + 2 : until : 3], logits)
        )
        at, pair = until, pair + len(glance.view.pairs)
    return found


def _indexes(values: Sequence[int], beside: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=beside.device)

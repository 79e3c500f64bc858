"""From logits to what a canvas wants to know: the best allowed token at each site, and how sure the model is.

Legend: K positions wanted, V vocabulary, N sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from carrara.engines.diffusion.canvas import Reading, View
from carrara.engines.diffusion.judge import PLAIN, Judge, share
from carrara.engines.diffusion.scaffold.lexicon import Row
from carrara.engines.request import Sampling

GREEDY = Sampling()
NOT_FINITE = "the model gave no finite logits"
_MOST_ROWS = 512


@dataclass(slots=True, eq=False)
class MaskTable:
    """Masks on the device, put there at first use: [rows, V] bool, at most _MOST_ROWS of them (25 MB)."""

    device: torch.device | str = "cpu"
    _index: dict[Row, int] = field(default_factory=dict)
    _masks: Tensor | None = None

    def masks(self, rows: list[Row]) -> Tensor:
        """The masks of `rows`, [N, V]."""
        new = [row for row in dict.fromkeys(rows) if row not in self._index]
        if len(self._index) + len(new) > _MOST_ROWS:
            self._index.clear()
            new = list(dict.fromkeys(rows))
        if new:
            self._add(new)
        assert self._masks is not None
        chosen = torch.tensor([self._index[row] for row in rows], device=self.device)
        return self._masks[chosen]

    def _add(self, rows: list[Row]) -> None:
        needed = len(self._index) + len(rows)
        size = rows[0].mask.shape[0]
        if self._masks is None or needed > len(self._masks):
            old, room = self._masks, max(64, 1 << (needed - 1).bit_length())
            self._masks = torch.zeros(room, size, dtype=torch.bool, device=self.device)
            if old is not None:
                self._masks[: len(old)] = old
        for row in rows:
            number = self._index[row] = len(self._index)
            self._masks[number] = torch.from_numpy(row.mask).to(self.device)


Forward = Callable[[list[int], View], Tensor]
"""(clean tokens to encode first, block) -> logits [K, V] for the block's `offsets`, unshifted."""


def looking(
    forward: Forward,
    table: MaskTable | None = None,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
    judge: Judge = PLAIN,
) -> Callable[[Sequence[int], View], Reading]:
    """A look for `refine`: run the model, then read what the canvas wants to know."""
    masks = table or MaskTable()

    def look(clean: Sequence[int], view: View) -> Reading:
        return read(forward(list(clean), view), view, masks, sampling, generator, judge)

    return look


@torch.inference_mode()
def read(
    logits: Tensor,
    view: View,
    table: MaskTable,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
    judge: Judge = PLAIN,
) -> Reading:
    """Read a view's logits [K, V], one row for each of `view.offsets`, any float type.

    Probabilities are those at temperature 1. A model that would rather write something forbidden gives its best allowed
    token a high probability among the allowed and a low one among all.

    Raises:
        FloatingPointError: the model gave NaN, or no allowed token has a finite logit.
    """
    where = {offset: number for number, offset in enumerate(view.offsets)}
    tokens: list[int] = []
    sure: list[float] = []
    chance: list[float] = []
    if view.sites:
        at = torch.tensor([where[site.offset] for site in view.sites], device=logits.device)
        wanted = logits[at].float()
        rows = [site.row for site in view.sites]
        whole = wanted
        if any(row is not None for row in rows):
            kept = [row for row in rows if row is not None]
            if len(kept) < len(rows):
                raise ValueError("a view has masks for all of its sites or for none")
            wanted = wanted.masked_fill(~table.masks(kept), -torch.inf)
        weighed = judge.weigh(view, wanted)
        best = _drawn(weighed, sampling, generator)
        tokens, chance = best.tolist(), share(whole, best).tolist()
        sure = judge.rank(view, weighed, best).tolist()
        if not all(map(math.isfinite, (*sure, *chance))):
            raise FloatingPointError(NOT_FINITE)
    pairs = _pair_logits(logits, view, where)
    return Reading(tokens, sure, chance, pairs, judge.gate, judge.along)


def checked(reading: Reading) -> Reading:
    """The reading, if all in it are numbers.

    Raises:
        FloatingPointError: the model gave NaN, or no allowed token has a finite logit.
    """
    if not all(value == value for value in (*reading.sure, *reading.chance, *reading.logits)):
        raise FloatingPointError(NOT_FINITE)
    return reading


def _pair_logits(logits: Tensor, view: View, where: dict[int, int]) -> list[float]:
    if not view.pairs:
        return []
    at = torch.tensor([where[offset] for offset, _ in view.pairs], device=logits.device)
    token = torch.tensor([token for _, token in view.pairs], device=logits.device)
    found: list[float] = logits[at, token].float().tolist()
    if not all(map(math.isfinite, found)):
        raise FloatingPointError(NOT_FINITE)
    return found


def _drawn(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """The best token of each row, or one drawn at the temperature from the most probable `top_p`.

    Raises:
        FloatingPointError: there are no shares to draw by.
    """
    if sampling.temperature <= 0:
        return logits.argmax(1)
    shares = (logits / sampling.temperature).softmax(1)
    if not shares.isfinite().all():
        # Drawing by shares that are none would be an error of the device, which a GPU does not survive.
        raise FloatingPointError(NOT_FINITE)
    if sampling.top_p < 1:
        ordered, order = shares.sort(1, descending=True)
        beyond = ordered.cumsum(1) - ordered >= sampling.top_p
        shares = shares.scatter(1, order, ordered.masked_fill(beyond, 0.0))
    return shares.multinomial(1, generator=generator)[:, 0]

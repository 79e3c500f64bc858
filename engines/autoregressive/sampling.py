"""From logits to tokens: greedy for a whole batch at once, temperature and top-p row by row.

Legend: B rows, V vocabulary. Every row draws from its own generator, one number a token, so what it
draws does not depend on who shares the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.request import Sampling


@dataclass(frozen=True, slots=True)
class Warmth:
    """How one row draws: temperature above 0, the share of probability kept, its own generator (on the
    CPU)."""

    temperature: float
    top_p: float
    generator: torch.Generator

    @classmethod
    def of(cls, sampling: Sampling) -> Warmth | None:
        """None for a greedy request. Without a seed the draws differ from call to call."""
        if sampling.temperature == 0:
            return None
        generator = torch.Generator()
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        return cls(sampling.temperature, sampling.top_p, generator)


def choose(logits: Tensor, warmth: Sequence[Warmth | None]) -> tuple[list[int], list[float]]:
    """A token for each row, and its probability at temperature 1 among the tokens that were allowed.

    logits [B, V] float32, -inf where not allowed; of equal ones the lowest id wins.
    """
    best, ids = logits.max(dim=-1)
    chosen: list[int] = ids.tolist()
    picked = best.clone()
    for row, how in enumerate(warmth):
        if how is not None:
            chosen[row] = draw(logits[row], how)
            picked[row] = logits[row, chosen[row]]
    # Summed in parts, because one long sum is split among threads, and a batch of them is not.
    parts = (len(logits), math.gcd(logits.shape[-1], 64), -1)
    total = (logits - best[:, None]).exp_().view(parts).sum(-1, dtype=torch.float64).sum(-1)
    chances: list[float] = ((picked - best).double().exp() / total).tolist()
    return chosen, chances


def draw(logits: Tensor, how: Warmth) -> int:
    """One token of a row [V], by inverting the cumulative distribution at one random number."""
    chances = torch.softmax(logits.double().cpu() / how.temperature, dim=-1)
    order = None
    if how.top_p < 1:
        chances, order = chances.sort(descending=True, stable=True)
        before = chances.cumsum(0) - chances  # the token that crosses the line is kept
        chances = chances[: int((before < how.top_p).sum())]
    total = chances.cumsum(0)
    point = torch.rand((), dtype=torch.float64, generator=how.generator) * total[-1]
    index = int(torch.searchsorted(total, point, right=True))
    # Rounding may put the point at the very end, behind the last token that has any probability.
    index = min(index, int(torch.count_nonzero(total < total[-1])))
    return index if order is None else int(order[index])

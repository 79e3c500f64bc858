"""How a decision is ranked: from the logits at undecided positions to one number for each of them.

A commit rule (`commit`) sees one number from 0 to 1 for each decision. A judge makes it, and says how that of a token
goes together with those before it where slots are written in order. Most look at the pass alone; two remember the
passes before (`Trace`), each for one canvas, so that no request can see another's.

Legend: N sites of a view, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from carrara.engines.diffusion.canvas import View

Weigh = Callable[["View", Tensor], Tensor]
"""(view, logits of its sites [N, V], -inf where forbidden) -> the logits to choose tokens from."""

Rank = Callable[["View", Tensor, Tensor], Tensor]
"""(view, those logits [N, V], the tokens chosen [N]) -> how sure [N], from 0 to 1."""

Gate = Callable[[Sequence[float], float], float]
"""(probabilities of a gate's options, that of the chosen one) -> how sure, from 0 to 1."""

Along = Callable[[float, float], float]
"""(how sure of the tokens before it in its slot, how sure of a token by itself) -> how sure of it and those before it,
not more than of those."""


def probability(view: View, logits: Tensor, tokens: Tensor) -> Tensor:
    """The probability of the chosen token among the allowed ones."""
    return share(logits, tokens)


def share(logits: Tensor, tokens: Tensor) -> Tensor:
    """The probability of one token [N] of each row of [N, V]. On a CPU logsumexp would take three times as long."""
    return logits.softmax(1).gather(1, tokens[:, None])[:, 0]


def certainty(view: View, logits: Tensor, tokens: Tensor) -> Tensor:
    """exp(-entropy): 1 where one token is possible, 1/n where n are equally likely."""
    shares = logits.log_softmax(1)
    return torch.where(shares > -torch.inf, shares.exp() * shares, 0.0).sum(1).exp()


def lead(view: View, logits: Tensor, tokens: Tensor) -> Tensor:
    """The share of the best token among the best two: the logistic function of their gap in logits."""
    if logits.shape[1] < 2:
        return torch.ones(len(logits), dtype=torch.float64, device=logits.device)
    best = logits.topk(2, dim=1).values.double()
    return torch.sigmoid(best[:, 0] - best[:, 1])


def chance_of_gate(weights: Sequence[float], chosen: float) -> float:
    """The probability of the chosen option."""
    return chosen


def certainty_of_gate(weights: Sequence[float], chosen: float) -> float:
    """exp(-entropy) of the options."""
    return math.exp(sum(w * math.log(w) for w in weights if w > 0))


def lead_of_gate(weights: Sequence[float], chosen: float) -> float:
    """The share of the best option among the best two."""
    best = sorted(weights, reverse=True)[:2]
    return best[0] / sum(best) if sum(best) > 0 else 0.0


def all_of_them(before: float, alone: float) -> float:
    """The probability that none of them is wrong, were they independent: for rules that ask each decision by itself."""
    return before * alone


def least_of_them(before: float, alone: float) -> float:
    """The least sure of them: for rules that reckon themselves with how much is decided together."""
    return min(before, alone)


def as_it_is(view: View, logits: Tensor) -> Tensor:
    return logits


@dataclass(frozen=True, slots=True)
class Judge:
    """The four ways in which a judge has a say; `PLAIN` is the probability of the best token."""

    weigh: Weigh = as_it_is
    rank: Rank = probability
    gate: Gate = chance_of_gate
    along: Along = all_of_them

    @property
    def asks_for_logits(self) -> bool:
        """Whether the best token of each site and its probability are not all that it looks at."""
        return self.weigh is not as_it_is or self.rank is not probability


PLAIN = Judge()


@dataclass(slots=True, eq=False)
class Trace:
    """What was remembered of each position in the passes before; of the current block only.

    What is kept goes on while the canvas only lost masks: it is forgotten where its length changed or a token
    that was decided is another one now (a slot grew, a new block began, something was edited).
    """

    mask_id: int
    _before: tuple[int, ...] = ()
    _kept: Tensor | None = None
    _places: dict[tuple[int, int], int] = field(default_factory=dict)

    def of(self, view: View) -> tuple[Tensor, Tensor] | None:
        """What is kept [M, ...] for those sites [M] of the view that had something, None if none had."""
        if self._kept is None or not self._goes_on(view.tokens):
            return None
        pairs = [
            (number, self._places[key])
            for number, key in enumerate(_keys(view))
            if key in self._places
        ]
        if not pairs:
            return None
        mine, kept = torch.tensor(pairs, device=self._kept.device).T
        return self._kept[kept], mine

    def keep(self, view: View, values: Tensor) -> None:
        """Remember values [N, ...] of all sites for the next pass."""
        self._before, self._kept = view.tokens, values
        self._places = {key: number for number, key in enumerate(_keys(view))}

    def _goes_on(self, tokens: Sequence[int]) -> bool:
        if len(tokens) != len(self._before):
            return False
        pairs = zip(self._before, tokens, strict=True)
        return all(old in (new, self.mask_id) for old, new in pairs)


@dataclass(slots=True, eq=False)
class Steadiness:
    """How sure, held below `threshold` where the distribution still moves.

    A position is steady once KL(now || before) was below `drift` in each of the last `history` passes. KLASS
    (arXiv 2511.05664).
    """

    mask_id: int
    threshold: float
    drift: float
    history: int
    _shares: Trace = field(init=False)
    _calm: Trace = field(init=False)

    def __post_init__(self) -> None:
        self._shares, self._calm = Trace(self.mask_id), Trace(self.mask_id)

    def rank(self, view: View, logits: Tensor, tokens: Tensor) -> Tensor:
        now = logits.log_softmax(1)
        calm = torch.zeros(len(now), dtype=torch.int64, device=now.device)
        earlier, counts = self._shares.of(view), self._calm.of(view)
        if earlier is not None and counts is not None:
            before, mine = earlier
            moved = _divergence(now[mine], before)
            calm[mine] = torch.where(moved < self.drift, counts[0] + 1, 0)
        self._shares.keep(view, now)
        self._calm.keep(view, calm)
        sure = now.gather(1, tokens[:, None])[:, 0].exp()
        # Just below the threshold at most: unsteady positions keep their order for the pick that is forced.
        return torch.where(calm >= self.history, sure, sure * self.threshold * (1 - 1e-6))


@dataclass(slots=True, eq=False)
class Credit:
    """Logits raised for tokens that were the best ones in earlier passes.

    After each pass a position's credits decay by `decay`, and its best token gets its probability to the power of
    `power`; `strength` * log(1 + credit) is added to the logits. CreditDecoding (arXiv 2510.06133).
    """

    mask_id: int
    strength: float
    decay: float
    power: float
    _credits: Trace = field(init=False)

    def __post_init__(self) -> None:
        self._credits = Trace(self.mask_id)

    def weigh(self, view: View, logits: Tensor) -> Tensor:
        credit = torch.zeros_like(logits)
        if (earlier := self._credits.of(view)) is not None:
            before, mine = earlier
            credit[mine] = before * self.decay
        best = logits.argmax(1, keepdim=True)
        share = (logits.gather(1, best) - logits.logsumexp(1, keepdim=True)).exp()
        credit.scatter_add_(1, best, share**self.power)
        self._credits.keep(view, credit)
        return logits + self.strength * credit.log1p()


def _keys(view: View) -> list[tuple[int, int]]:
    """A name for each site: its offset, and its number among those at the same one."""
    seen: dict[int, int] = {}
    found = []
    for site in view.sites:
        seen[site.offset] = seen.get(site.offset, -1) + 1
        found.append((site.offset, seen[site.offset]))
    return found


def _divergence(now: Tensor, before: Tensor) -> Tensor:
    """KL(now || before) [M] of log-probabilities [M, V]; infinite where `before` ruled out what now may be."""
    return torch.where(now > -torch.inf, now.exp() * (now - before), 0.0).sum(1)

"""Who drafts, who has a draft verified and who writes on, as a pure state machine on top of the AR batcher.

Answers that draft share one denoising pass, the others share causal passes with those of about their length: a row
that reads one token would be padded to the width of one that reads thirty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrara.engines.autoregressive.batch import Batcher, BatchLimits, Pass, Plan
from carrara.engines.seats import Feed, Spot

if TYPE_CHECKING:
    from carrara.engines.autoregressive.batch import _Seat


@dataclass(frozen=True, slots=True)
class VerifyingPlan(Plan):
    """After the passes, one denoising pass over the spots."""

    spots: tuple[Spot, ...] = ()


class VerifyingBatcher(Batcher):
    """See `Batcher`; between passes the caller also says how each answer goes on."""

    def __init__(self, limits: BatchLimits) -> None:
        super().__init__(limits)
        self._ahead: dict[int, int] = {}
        self._drafting: set[int] = set()

    def goes_on(self, ticket: int, ahead: int, is_drafting: bool) -> None:
        """With `ahead` tokens of a draft behind its own in the next pass, or with a denoising pass first."""
        self._ahead[ticket] = ahead
        (self._drafting.add if is_drafting else self._drafting.discard)(ticket)

    def leave(self, ticket: int) -> None:
        super().leave(ticket)
        self._ahead.pop(ticket, None)
        self._drafting.discard(ticket)

    def plan(self, found: Callable[[int], int] = lambda ticket: 0) -> VerifyingPlan:
        base = super().plan(found)
        spots = (
            Spot(seat.ticket, seat.row, seat.fed)
            for seat in sorted(self._seated.values(), key=lambda seat: seat.row)
            if seat.ticket in self._drafting
        )
        return VerifyingPlan(base.exchanges, base.passes, base.rows, base.slots, tuple(spots))

    def _answer_passes(self, answering: list[_Seat]) -> list[Pass]:
        """The widest rows first, with as many of the next ones as little padding allows."""
        widths = {
            seat.row: min(
                seat.known - seat.fed + self._ahead.get(seat.ticket, 0), self.limits.width
            )
            for seat in answering
            if seat.ticket not in self._drafting
        }
        seats = {seat.row: seat for seat in answering}
        passes: list[Pass] = []
        left = sorted(widths, key=lambda row: (-widths[row], row))
        while left:
            widest, padding, rows = widths[left[0]], 0, []
            for row in left:
                padding += widest - widths[row]
                if padding > self.limits.padding:
                    break
                rows.append(row)
            left = left[len(rows) :]
            feeds = (
                Feed(seats[row].ticket, row, seats[row].fed, widths[row]) for row in sorted(rows)
            )
            passes.append(Pass("answer", widest, tuple(feeds)))
        return passes

"""Who is in the batch and what the next passes do: all live canvases share each pass, as a pure state machine.

Requests wait, get a row of the cache, have their prompt encoded in chunks, then their blocks denoised pass by pass.
A settled block's clean tokens are encoded once more, for the blocks after it. A finished canvas leaves at once and
another one enters at the next pass. Tensors and clocks are elsewhere; the caller performs a `Plan` and reports.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`rows` canvases at once, `waiting` more in the queue; `cells`: rows times slots of the cache, at most.

    `chunk` prompt tokens a pass while others are denoising, `quiet_chunk` while nobody is.
    """

    rows: int = 16
    waiting: int = 256
    cells: int = 1 << 16
    chunk: int = 256
    quiet_chunk: int = 1024


@dataclass(frozen=True, slots=True)
class Feed:
    """Encode `count` tokens of a request from its token `start` on, into the same slots of `row`."""

    ticket: int
    row: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Move:
    """Copy the first `length` slots of cache row `source` to row `target`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Spot:
    """A block to denoise, behind the first `length` slots of `row`."""

    ticket: int
    row: int
    length: int


@dataclass(frozen=True, slots=True)
class Plan:
    """First the moves, then one causal pass over the feeds, then one denoising pass over the spots, in a cache of
    `rows` rows."""

    moves: tuple[Move, ...]
    feeds: tuple[Feed, ...]
    spots: tuple[Spot, ...]
    rows: int


@dataclass(slots=True)
class _Seat:
    """`known` tokens exist, `fed` of them are in the cache."""

    ticket: int
    need: int
    known: int
    rank: tuple[float, int]
    row: int = 0
    fed: int = 0
    started: bool = False


class Batcher:
    """The state of one batch. Not thread-safe: one owner calls it between passes."""

    def __init__(self, limits: BatchLimits = BatchLimits()) -> None:
        self.limits = limits
        self._arrivals = count()
        self._waiting: list[tuple[tuple[float, int], _Seat]] = []
        self._seated: dict[int, _Seat] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def seated(self) -> int:
        return len(self._seated)

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._seated

    def offer(self, ticket: int, prompt: int, need: int, priority: float = 0.0) -> bool:
        """Queue a request of `prompt` tokens whose canvas may reach slot `need`; False if the queue is full.

        Higher `priority` goes first, then the order of arrival.
        """
        if len(self._waiting) >= self.limits.waiting:
            return False
        rank = (-priority, next(self._arrivals))
        heapq.heappush(self._waiting, (rank, _Seat(ticket, need, prompt, rank)))
        return True

    def grew(self, ticket: int, tokens: int) -> None:
        """A settled block left `tokens` clean tokens to encode."""
        if ticket in self._seated:
            self._seated[ticket].known += tokens

    def leave(self, ticket: int) -> None:
        """A request is done or was given up, waiting or seated."""
        if self._seated.pop(ticket, None) is None:
            self._waiting = [entry for entry in self._waiting if entry[1].ticket != ticket]
            heapq.heapify(self._waiting)

    def plan(self, found: Callable[[int], int] = lambda ticket: 0) -> Plan:
        """Seat whom there is room for and decide the next passes. The feeds count as done from here on.

        `found(ticket)` is asked once for each request, before its first feed: how many tokens from the beginning
        are in a cache already. It must be less than its prompt.
        """
        rows_before = 1 + max((seat.row for seat in self._seated.values()), default=-1)
        moves = self._close_ranks()
        self._admit()
        ready = any(seat.fed == seat.known for seat in self._seated.values())
        feeds = self._feeds(self.limits.chunk if ready else self.limits.quiet_chunk, found)
        spots = tuple(
            Spot(seat.ticket, seat.row, seat.fed)
            for seat in sorted(self._seated.values(), key=lambda seat: seat.row)
            if seat.fed == seat.known
        )
        return Plan(tuple(moves), tuple(feeds), spots, max(rows_before, len(self._seated)))

    def _close_ranks(self) -> list[Move]:
        """Rows 0..n-1 hold the n requests: the last ones move into the gaps that others left."""
        moves = []
        taken = {seat.row: seat for seat in self._seated.values()}
        gaps = [row for row in range(len(taken)) if row not in taken]
        for gap in gaps:
            last = max(taken)
            seat = taken.pop(last)
            if seat.fed:
                moves.append(Move(last, gap, seat.fed))
            seat.row = gap
            taken[gap] = seat
        return moves

    def _admit(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][1].need):
            _, seat = heapq.heappop(self._waiting)
            seat.row = len(self._seated)
            self._seated[seat.ticket] = seat

    def _has_room(self, need: int) -> bool:
        rows = len(self._seated) + 1
        longest = max([need, *(seat.need for seat in self._seated.values())])
        return rows == 1 or (rows <= self.limits.rows and rows * longest <= self.limits.cells)

    def _feeds(self, chunk: int, found: Callable[[int], int]) -> list[Feed]:
        """Chunks side by side while they fit into one chunk's area, in the order of their turn."""
        feeds: list[Feed] = []
        width = 0
        behind = sorted((s for s in self._seated.values() if s.fed < s.known), key=lambda s: s.rank)
        for seat in behind:
            if not seat.started:
                seat.started, seat.fed = True, found(seat.ticket)
            amount = min(seat.known - seat.fed, chunk)
            if feeds and (len(feeds) + 1) * max(width, amount) > chunk:
                continue
            feeds.append(Feed(seat.ticket, seat.row, seat.fed, amount))
            width = max(width, amount)
            seat.fed += amount
        return feeds

"""Who is in the batch and what the next passes feed: continuous batching as a pure state machine.

Requests wait, get a row of the cache, have their prompt fed in chunks, then are fed one answer token a
pass (more where tokens were forced), and leave whenever they are done. Requests come and go between any
two passes; tensors and clocks are elsewhere. The caller performs a `Plan` and reports with `fed`, `grew`
and `leave`.

The order of rows: answering requests hold rows 0..a-1 without gaps, so that one view of the cache serves
them all, and requests whose prompts are being fed follow in the order of their turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

from carrara.engines.limit_checks import check_whole
from carrara.engines.seats import Feed, Seats


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`rows` requests at once, `waiting` more in the queue. `cells`: cache rows times slots, at most.

    `chunk` prompt tokens a pass while somebody is answering, `quiet_chunk` while nobody is. `padding` is
    how many wasted token places a pass may have where rows have different numbers of tokens to feed:
    about what one more pass would cost. Each is a whole number of 1 or more, `padding` may be 0.
    """

    rows: int = 16
    waiting: int = 256
    cells: int = 1 << 15
    chunk: int = 128
    quiet_chunk: int = 512
    padding: int = 6
    width: int = 32

    def __post_init__(self) -> None:
        check_whole(self, frozenset({"padding"}))


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass. The rows of its feeds follow one another; shorter ones are padded to `width`."""

    kind: Literal["prompt", "answer"]
    width: int
    feeds: tuple[Feed, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Swap two cache rows, of which the first `length_…` slots count."""

    a: int
    b: int
    length_a: int
    length_b: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next: first the exchanges, then the passes, in a cache of `rows` and `slots` at least."""

    exchanges: tuple[Exchange, ...]
    passes: tuple[Pass, ...]
    rows: int
    slots: int


@dataclass(slots=True)
class _Seat:
    """A request: `known` tokens exist, `fed` of them are in the cache, the first `prompt` are the
    prompt."""

    ticket: int
    prompt: int
    need: int
    rank: tuple[float, int]
    known: int
    fed: int = 0
    row: int = -1
    started: bool = False

    @property
    def answering(self) -> bool:
        return self.fed >= self.prompt


class Batcher(Seats[_Seat]):
    """The state of one batch. Not thread-safe: one owner calls it between passes."""

    def __init__(self, limits: BatchLimits = BatchLimits()) -> None:
        super().__init__()
        self.limits = limits
        self._arrivals = count()

    def offer(self, ticket: int, prompt: int, need: int, priority: float = 0.0) -> bool:
        """Queue a request of `prompt` tokens that may grow to `need`; False where the queue is full.

        Higher `priority` goes first, then the order of arrival. `need` must fit into `limits.cells`.
        """
        if len(self._waiting) >= self.limits.waiting and not self._has_room(need):
            return False
        rank = (-priority, next(self._arrivals))
        heapq.heappush(self._waiting, (rank, _Seat(ticket, prompt, need, rank, known=prompt)))
        return True

    def fed(self, feed: Feed) -> None:
        """The tokens of a feed are in the cache."""
        self._seated[feed.ticket].fed = feed.start + feed.count

    def grew(self, ticket: int, tokens: int) -> None:
        """A request got more tokens to feed, decided or forced."""
        self._seated[ticket].known += tokens

    def plan(self, found: Callable[[int], int] = lambda ticket: 0) -> Plan:
        """Seat whom there is room for and decide the next passes: at most one of prompts, one of
        answers.

        `found(ticket)` is asked once for each request, right before its first feed: how many tokens from
        the beginning need not be fed, because their keys and values are known. It must be less than its
        prompt.
        """
        self._admit()
        exchanges = tuple(self._arrange())
        seats = sorted(self._seated.values(), key=lambda seat: seat.row)
        answering = [seat for seat in seats if seat.answering]
        prompting = [seat for seat in seats if not seat.answering]
        prompts = self._prompt_pass(prompting, bool(answering), found)
        passes = ([] if prompts is None else [prompts]) + self._answer_passes(answering)
        slots = max((f.start + p.width for p in passes for f in p.feeds), default=0)
        return Plan(exchanges, tuple(passes), len(seats), slots)

    def _admit(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][1].need):
            _, seat = heapq.heappop(self._waiting)
            taken = {other.row for other in self._seated.values()}
            seat.row = next(row for row in count() if row not in taken)
            self._seated[seat.ticket] = seat

    def _has_room(self, need: int) -> bool:
        longest = max([need, *(seat.need for seat in self._seated.values())])
        rows = len(self._seated) + 1
        return rows == 1 or (rows <= self.limits.rows and rows * longest <= self.limits.cells)

    def _arrange(self) -> Iterator[Exchange]:
        """Bring the rows into their order, with few copies: what never was fed moves for nothing."""
        at = {seat.row: seat for seat in self._seated.values()}
        for row, seat in self._places().items():
            other = at.pop(row, None)
            if other is seat:
                continue
            source = seat.row
            yield Exchange(source, row, seat.fed, other.fed if other else 0)
            del at[source]
            seat.row = row
            if other is not None:
                other.row = source
                at[source] = other

    def _places(self) -> dict[int, _Seat]:
        """Which request each row shall hold."""
        answering = [seat for seat in self._seated.values() if seat.answering]
        places = {seat.row: seat for seat in answering if seat.row < len(answering)}
        holes = (row for row in range(len(answering)) if row not in places)
        for seat in answering:
            if seat.row >= len(answering):
                places[next(holes)] = seat
        prompting = sorted(
            (s for s in self._seated.values() if not s.answering), key=lambda s: s.rank
        )
        places |= dict(enumerate(prompting, start=len(answering)))
        return dict(sorted(places.items()))

    def _prompt_pass(
        self, prompting: list[_Seat], others_answer: bool, found: Callable[[int], int]
    ) -> Pass | None:
        """Chunks of the first prompts in turn, as many as fit into one chunk's area side by side."""
        chunk = self.limits.chunk if others_answer else self.limits.quiet_chunk
        feeds: list[Feed] = []
        width = 0
        for seat in prompting:
            most = min(seat.prompt - seat.fed, chunk)
            if feeds and (len(feeds) + 1) * max(width, most) > chunk:
                break
            if not seat.started:
                seat.started = True
                seat.fed = found(seat.ticket)
            amount = min(seat.prompt - seat.fed, chunk)
            feeds.append(Feed(seat.ticket, seat.row, seat.fed, amount))
            width = max(width, amount)
        return Pass("prompt", width, tuple(feeds)) if feeds else None

    def _answer_passes(self, answering: list[_Seat]) -> list[Pass]:
        """At most one: every answering request moves on by a token, and over as many forced ones as little
        padding allows."""
        if not answering:
            return []
        pending = [min(seat.known - seat.fed, self.limits.width) for seat in answering]
        width = min(pending)
        for wider in sorted(set(pending)):
            if sum(max(wider - amount, 0) for amount in pending) <= self.limits.padding:
                width = max(width, wider)
        feeds = (
            Feed(seat.ticket, seat.row, seat.fed, min(amount, width))
            for seat, amount in zip(answering, pending, strict=True)
        )
        return [Pass("answer", width, tuple(feeds))]

"""Who is in the batch and what the next passes do: all live canvases share each pass, as a pure state machine.

Requests wait, get a row of the cache, have their prompt encoded in chunks, then their blocks denoised pass by pass.
A settled block's clean tokens are encoded once more, for the blocks after it. A finished canvas leaves at once and
another one enters at the next pass. Tensors and clocks are elsewhere; the caller performs a `Plan` and reports.

What it holds to:
- Cache and passes together never take more than `BatchLimits.bytes`, by the `Costs` of the model.
- A prompt costs those who are denoising at most one pass of `chunk` tokens between two of theirs.
- Everybody's turn comes: waiting makes up for priority (`patience`), and whom there is no room for is passed over by
  smaller ones only so long.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from carrara.engines.diffusion.memory import Costs, rounded

_MOST_LOOKED_AT = 8
"""How many of those for whom there is no room are looked at in one plan."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`rows` canvases at once, `waiting` more in the queue, `bytes` of cache and workspace.

    `chunk` prompt tokens a pass while others are denoising, `quiet_chunk` while nobody is. `patience`: who came so many
    passes earlier goes before a priority that is higher by one. `least`: narrower passes over prompts are padded to so
    many tokens a row.
    """

    rows: int = 16
    waiting: int = 256
    bytes: int = 1 << 30
    chunk: int = 256
    quiet_chunk: int = 1024
    patience: int = 64
    least: int = 16


@dataclass(frozen=True, slots=True)
class Block:
    """What a denoising pass computes of one canvas: `width` tokens, and the logits of `wanted` positions."""

    width: int = 1
    wanted: int = 1


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
    """First the moves, then the cache gets `rows` rows of `slots` (what is beyond goes; all of it, if `is_empty`), then
    one causal pass over the feeds, then a denoising pass over each group of spots.

    There is one group, unless their passes together would take too much memory. `refused` can never be denoised within
    the limit of bytes; they have left.
    """

    moves: tuple[Move, ...]
    feeds: tuple[Feed, ...]
    groups: tuple[tuple[Spot, ...], ...]
    rows: int
    slots: int
    is_empty: bool = False
    refused: tuple[int, ...] = ()

    @property
    def spots(self) -> tuple[Spot, ...]:
        return tuple(spot for group in self.groups for spot in group)


@dataclass(slots=True)
class _Seat:
    """`known` tokens exist, `fed` of them are in the cache, `found` (None: not asked) need not be fed. `lead`: tokens before a feed that it may compute again."""

    ticket: int
    prompt: int
    need: int
    block: Block
    lead: int
    rank: tuple[float, int]
    known: int
    row: int = 0
    fed: int = 0
    found: int | None = None

    @property
    def is_ready(self) -> bool:
        return self.fed == self.known

    @property
    def was_denoised(self) -> bool:
        return self.fed >= self.prompt


class Batcher:
    """The state of one batch. Not thread-safe: one owner calls it between passes."""

    def __init__(self, limits: BatchLimits = BatchLimits(), costs: Costs = Costs()) -> None:
        self.limits, self.costs = limits, costs
        self._arrivals = count()
        self._plans = 0
        self._waiting: list[tuple[tuple[float, int], _Seat]] = []
        self._seated: dict[int, _Seat] = {}
        self._held = self._shape = (0, 0)
        self._blocked: tuple[int, int] | None = None
        self._together = limits.rows
        self._relief = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def seated(self) -> int:
        return len(self._seated)

    @property
    def seated_tickets(self) -> frozenset[int]:
        return frozenset(self._seated)

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._seated

    @property
    def together(self) -> int:
        """How many canvases a pass takes at most; less than the rows for a while after a pass ran out of memory."""
        return self._together

    def bytes_alone(self, need: int, block: Block, lead: int = 0) -> int:
        """What a request takes when it has the batch to itself: it can be served if that is within the limit."""
        seat = _Seat(0, 0, need, block, lead, (0.0, 0), 0)
        return self._least_bytes((1, self._slots([seat])), [seat])

    def offer(
        self,
        ticket: int,
        prompt: int,
        need: int,
        priority: float = 0.0,
        block: Block = Block(),
        lead: int = 0,
    ) -> bool:
        """Queue a request of `prompt` tokens whose canvas may reach slot `need` and begins with `block`; False if the
        queue is full.

        Higher `priority` goes first, then the order of arrival; see `BatchLimits.patience`.
        """
        if len(self._waiting) >= self.limits.waiting:
            return False
        rank = (self._plans / self.limits.patience - priority, next(self._arrivals))
        seat = _Seat(ticket, prompt, need, block, lead, rank, prompt)
        heapq.heappush(self._waiting, (rank, seat))
        return True

    def grew(self, ticket: int, tokens: int, block: Block | None = None) -> None:
        """A pass left `tokens` clean tokens to encode, and `block` is denoised next (None: one like the last)."""
        seat = self._seated.get(ticket)
        if seat is not None:
            seat.known += tokens
            seat.block = block or seat.block

    def leave(self, ticket: int) -> None:
        """A request is done or was given up, waiting or seated."""
        if self._seated.pop(ticket, None) is None:
            self._waiting = [entry for entry in self._waiting if entry[1].ticket != ticket]
            heapq.heapify(self._waiting)

    def again(self, ticket: int) -> None:
        """What the cache holds of a request is worth nothing: it gives up its row, and is encoded anew in its turn."""
        seat = self._seated.pop(ticket, None)
        if seat is not None:
            seat.fed, seat.found = 0, None
            heapq.heappush(self._waiting, (seat.rank, seat))

    def pinched(self, together: int) -> None:
        """A pass over so many canvases ran out of memory: passes take half as many, for a while."""
        self._together = max(1, together // 2)
        self._relief = self.limits.patience

    def restart(self) -> None:
        """There was no memory for the cache: all give up their rows, and fewer of them sit together for a while."""
        self.pinched(max(self.seated, 2))
        for ticket in list(self._seated):
            self.again(ticket)

    def plan(self, found: Callable[[int], int] = lambda ticket: 0) -> Plan:
        """Seat whom there is room for and decide the next passes. The feeds count as done from here on.

        `found(ticket)` is asked once for each request, before its first feed: how many tokens from the beginning
        are in a cache already. It must be less than its prompt.
        """
        self._plans += 1
        self._recover()
        refused = self._refuse()
        self._make_room()
        is_empty = not self._seated
        if is_empty:
            self._held = self._shape = (0, 0)
        moves = self._close_ranks()
        self._admit()
        ready = any(seat.is_ready for seat in self._seated.values())
        feeds = self._feeds(self.limits.chunk if ready else self.limits.quiet_chunk, found)
        groups = self._groups()
        rows, slots = self._held = self._shape
        return Plan(tuple(moves), tuple(feeds), groups, rows, slots, is_empty, refused)

    # Memory

    def _slots(self, seats: Iterable[_Seat]) -> int:
        """Slots that every row needs: the longest canvas, and what its row is padded with beside wider ones."""
        need = max(seat.need for seat in seats)
        return rounded(need + max(self.limits.least, *(seat.block.width for seat in seats)))

    def _least_bytes(self, shape: tuple[int, int], seats: Iterable[_Seat]) -> int:
        """A cache of this shape, and the dearest pass over one row that must be possible."""
        slots = shape[1]
        works = [
            max(
                self.costs.work(1, seat.block.width, slots, seat.block.wanted),
                self.costs.work(1, self.limits.least + seat.lead, slots, 1),
            )
            for seat in seats
        ]
        return self.costs.cache(*shape) + max(works)

    def _shape_for(self, seats: list[_Seat]) -> tuple[int, int] | None:
        """A shape of the cache for these seats: rather one that grows, else just what they need, None: no room.

        While a cache is replaced, the old and the new one exist.
        """
        rows, slots = len(seats), self._slots(seats)
        old = self.costs.cache(*self._held)
        wide = min(1 << (rows - 1).bit_length(), max(rows, self.limits.rows))
        grown = (max(wide, self._shape[0]), max(slots, self._shape[1]))
        for shape in (
            grown,
            (max(rows, self._shape[0]), grown[1]),
            (rows, grown[1]),
            (rows, slots),
        ):
            moved = old + self.costs.cache(*shape) if shape != self._held else 0
            if max(moved, self._least_bytes(shape, seats)) <= self.limits.bytes:
                return shape
        return None

    def _refuse(self) -> tuple[int, ...]:
        """Those whose next block takes more than there is even alone: literals longer than a window can do that."""
        found = tuple(
            seat.ticket
            for seat in self._seated.values()
            if self.bytes_alone(seat.need, seat.block, seat.lead) > self.limits.bytes
        )
        for ticket in found:
            self.leave(ticket)
        return found

    def _make_room(self) -> None:
        """Blocks may have become wider. The last in rank give up their rows until the others' passes fit."""
        seats = sorted(self._seated.values(), key=lambda seat: seat.rank)
        while seats and self._least_bytes(self._shape, seats) > self.limits.bytes:
            shape = self._shape_for(seats)
            if shape is not None:
                self._shape = shape
                return
            self.again(seats.pop().ticket)

    def _recover(self) -> None:
        if self._together < self.limits.rows:
            self._relief -= 1
            if self._relief <= 0:
                self._together = min(2 * self._together, self.limits.rows)
                self._relief = self.limits.patience

    # Seats

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
        """Seat the first in rank. Where one has no room, those behind it that have may pass it for `patience` plans."""
        left: list[tuple[tuple[float, int], _Seat]] = []
        while self._waiting and len(self._seated) < self._together:
            rank, seat = heapq.heappop(self._waiting)
            shape = self._shape_for([*self._seated.values(), seat])
            if shape is not None:
                self._shape = shape
                seat.row = len(self._seated)
                self._seated[seat.ticket] = seat
                continue
            left.append((rank, seat))
            if len(left) > _MOST_LOOKED_AT or (len(left) == 1 and self._waits_too_long(seat)):
                break
        for entry in left:
            heapq.heappush(self._waiting, entry)

    def _waits_too_long(self, seat: _Seat) -> bool:
        """Whether the first one without room has been passed by others for long enough."""
        if self._blocked is None or self._blocked[0] != seat.ticket:
            self._blocked = (seat.ticket, self._plans)
        return self._plans - self._blocked[1] >= self.limits.patience

    # Passes

    def _feeds(self, chunk: int, found: Callable[[int], int]) -> list[Feed]:
        """Settled blocks first, as their canvases wait for them; then prompts in the order of their turn.

        The first prompt goes on in any case, further ones while all fit into one chunk's area.
        """
        behind = sorted(
            (seat for seat in self._seated.values() if not seat.is_ready),
            key=lambda seat: (not seat.was_denoised, seat.rank),
        )
        feeds: list[tuple[_Seat, Feed]] = []
        width = reach = 0
        has_prompt = False
        for seat in behind:
            together = len(feeds) + 1
            if has_prompt and together * width > chunk:
                break
            if seat.found is None:
                seat.found = found(seat.ticket)
            start = seat.fed or seat.found
            room = self.limits.chunk if seat.was_denoised else max(chunk // together, width)
            amount = min(seat.known - start, max(room, 1), self._longest_feed(seat))
            wider, further = max(width, amount), max(reach, start)
            beside = [other for other, _ in feeds]
            if has_prompt and together * wider > chunk:
                continue
            if beside and not self._can_feed([*beside, seat], wider, further):
                continue
            feeds.append((seat, Feed(seat.ticket, seat.row, start, amount)))
            width, reach = wider, further
            has_prompt = has_prompt or not seat.was_denoised
        for seat, feed in feeds:
            seat.fed = feed.start + feed.count
        return [feed for _, feed in feeds]

    def _longest_feed(self, seat: _Seat) -> int:
        """How many tokens of one request a pass can encode within the limit of bytes."""
        slots = self._shape[1]
        each = self.costs.work(1, 1, slots, 0)
        if not each:
            return self.limits.quiet_chunk
        free = self.limits.bytes - self.costs.cache(*self._shape) - self.costs.work(1, 0, slots, 1)
        return max(free // each - seat.lead, self.limits.least)

    def _can_feed(self, seats: list[_Seat], width: int, start: int) -> bool:
        lead = max(seat.lead for seat in seats)
        padded = max(width, self.limits.least) + lead
        return start + padded <= self._shape[1] and self._fits(len(seats), padded, 1)

    def _groups(self) -> tuple[tuple[Spot, ...], ...]:
        """As many ready canvases in a pass as there are, up to the memory for it."""
        groups: list[list[_Seat]] = []
        for seat in sorted(self._seated.values(), key=lambda seat: seat.row):
            if not seat.is_ready:
                continue
            if groups and self._can_denoise([*groups[-1], seat]):
                groups[-1].append(seat)
            else:
                groups.append([seat])
        return tuple(
            tuple(Spot(seat.ticket, seat.row, seat.fed) for seat in group) for group in groups
        )

    def _can_denoise(self, seats: list[_Seat]) -> bool:
        width = max(seat.block.width for seat in seats)
        wanted = max(seat.block.wanted for seat in seats)
        reach = max(seat.fed for seat in seats) + width
        return (
            len(seats) <= self._together
            and reach <= self._shape[1]
            and self._fits(len(seats), width, wanted)
        )

    def _fits(self, rows: int, width: int, wanted: int) -> bool:
        shape = self._shape
        work = self.costs.work(rows, width, shape[1], wanted)
        return self.costs.cache(*shape) + work <= self.limits.bytes


def usable(priority: float) -> bool:
    """Whether a priority can be ranked: it is a finite number."""
    return math.isfinite(priority)

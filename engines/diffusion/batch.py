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
from collections.abc import Callable, Sequence
from itertools import count

from carrara.engines.diffusion.memory import Costs
from carrara.engines.diffusion.plan import BatchLimits, Block, Move, Plan, Seat
from carrara.engines.diffusion.room import Room
from carrara.engines.seats import Feed, Seats, Spot

_MOST_LOOKED_AT = 8
"""How many of those for whom there is no room are looked at in one plan."""


class Batcher(Seats[Seat]):
    """The state of one batch. Not thread-safe: one owner calls it between passes."""

    def __init__(self, limits: BatchLimits | None = None, costs: Costs | None = None) -> None:
        super().__init__()
        self.limits, self.costs = limits or BatchLimits(), costs or Costs()
        self._room = Room(self.limits, self.costs)
        self._arrivals = count()
        self._plans = 0
        self._blocked: tuple[int, int] | None = None
        self._together = self.limits.rows
        self._relief = 0

    @property
    def seated_tickets(self) -> frozenset[int]:
        return frozenset(self._seated)

    @property
    def together(self) -> int:
        """How many canvases a pass takes at most; less than the rows for a while after a pass ran out of memory."""
        return self._together

    def bytes_alone(self, need: int, block: Block, lead: int = 0) -> int:
        """What a request takes when it has the batch to itself: it can be served if that is within the limit."""
        return self._room.bytes_alone(Seat(0, 0, need, block, lead, (0.0, 0), 0))

    def offer(
        self,
        ticket: int,
        prompt: int,
        need: int,
        priority: float = 0.0,
        block: Block | None = None,
        lead: int = 0,
    ) -> bool:
        """Queue a request of `prompt` tokens whose canvas may reach slot `need` and begins with `block`; False if the
        queue is full.

        Higher `priority` goes first, then the order of arrival; see `BatchLimits.patience`.
        """
        if len(self._waiting) >= self.limits.waiting:
            return False
        rank = (self._plans / self.limits.patience - priority, next(self._arrivals))
        seat = Seat(ticket, prompt, need, block or Block(), lead, rank, prompt)
        heapq.heappush(self._waiting, (rank, seat))
        return True

    def grew(self, ticket: int, tokens: int, block: Block | None = None) -> None:
        """A pass left `tokens` clean tokens to encode, and `block` is denoised next (None: one like the last)."""
        seat = self._seated.get(ticket)
        if seat is not None:
            seat.known += tokens
            seat.block = block or seat.block

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
        refused = self._make_room()
        is_empty = not self._seated
        if is_empty:
            self._room.clear()
        moves = self._close_ranks()
        self._admit()
        ready = any(seat.is_ready for seat in self._seated.values())
        feeds = self._feeds(self.limits.chunk if ready else self.limits.quiet_chunk, found)
        groups = self._groups()
        rows, slots = self._room.settle()
        passes = 1 if self._somebody_waits else self.limits.passes_per_sync
        one = self._can_be_one(feeds, groups)
        return Plan(tuple(moves), tuple(feeds), groups, rows, slots, is_empty, refused, passes, one)

    def _can_be_one(self, feeds: Sequence[Feed], groups: Sequence[Sequence[Spot]]) -> bool:
        """Whether the passes of a plan may be a single one: over the end of a prompt and the canvas behind it."""
        if len(feeds) != 1 or [spot.ticket for group in groups for spot in group] != [
            feeds[0].ticket
        ]:
            return False
        block = self._seated[feeds[0].ticket].block
        return self._room.fits(1, feeds[0].count + block.width, block.wanted + 1)

    @property
    def _somebody_waits(self) -> bool:
        """Whether another round would seat somebody, or read more of a prompt."""
        return bool(self._waiting) or any(not seat.is_ready for seat in self._seated.values())

    # Seats

    def _refuse(self) -> tuple[int, ...]:
        """Those whose next block takes more than there is even alone: literals longer than a window can do that."""
        found = tuple(
            seat.ticket
            for seat in self._seated.values()
            if self._room.bytes_alone(seat) > self.limits.bytes
        )
        for ticket in found:
            self.leave(ticket)
        return found

    def _make_room(self) -> tuple[int, ...]:
        """Blocks may have become wider. The last in rank give up their rows until the others' passes fit; those whose
        pass fits nowhere leave."""
        if not self._seated or self._room.holds(self._seated.values()):
            return ()
        refused = self._refuse()
        seats = sorted(self._seated.values(), key=lambda seat: seat.rank)
        while seats and not self._room.holds(seats):
            if self._room.reshape(seats):
                break
            self.again(seats.pop().ticket)
        return refused

    def _recover(self) -> None:
        if self._together < self.limits.rows:
            self._relief -= 1
            if self._relief <= 0:
                self._together = min(2 * self._together, self.limits.rows)
                self._relief = self.limits.patience

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
        left: list[tuple[tuple[float, int], Seat]] = []
        while self._waiting and len(self._seated) < self._together:
            rank, seat = heapq.heappop(self._waiting)
            if self._room.reshape([*self._seated.values(), seat]):
                seat.row = len(self._seated)
                self._seated[seat.ticket] = seat
                continue
            left.append((rank, seat))
            if len(left) > _MOST_LOOKED_AT or (len(left) == 1 and self._waits_too_long(seat)):
                break
        for entry in left:
            heapq.heappush(self._waiting, entry)

    def _waits_too_long(self, seat: Seat) -> bool:
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
        feeds: list[tuple[Seat, Feed]] = []
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
            amount = min(seat.known - start, max(room, 1), self._room.longest_feed(seat))
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

    def _can_feed(self, seats: list[Seat], width: int, start: int) -> bool:
        lead = max(seat.lead for seat in seats)
        padded = max(width, self.limits.least) + lead
        return start + padded <= self._room.slots and self._room.fits(len(seats), padded, 1)

    def _groups(self) -> tuple[tuple[Spot, ...], ...]:
        """As many ready canvases in a pass as there are, up to the memory for it."""
        groups: list[list[Spot]] = []
        width = wanted = reach = 0
        for seat in sorted(self._seated.values(), key=lambda seat: seat.row):
            if not seat.is_ready:
                continue
            spot, block = Spot(seat.ticket, seat.row, seat.fed), seat.block
            width, wanted = max(width, block.width), max(wanted, block.wanted)
            reach = max(reach, seat.fed)
            if groups and self._can_denoise(len(groups[-1]) + 1, width, wanted, reach):
                groups[-1].append(spot)
            else:
                groups.append([spot])
                width, wanted, reach = block.width, block.wanted, seat.fed
        return tuple(map(tuple, groups))

    def _can_denoise(self, rows: int, width: int, wanted: int, reach: int) -> bool:
        return (
            rows <= self._together
            and reach + width <= self._room.slots
            and self._room.fits(rows, width, wanted)
        )


__all__ = ["BatchLimits", "Batcher", "Block", "Feed", "Move", "Plan", "Spot"]

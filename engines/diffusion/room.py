"""The shape of the cache that the seated share, and whether they and their passes fit the limit of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from carrara.engines.diffusion.memory import Costs, rounded
from carrara.engines.diffusion.plan import BatchLimits, Seat

Shape = tuple[int, int]
"""Rows and slots of a cache."""


class Room:
    """`held` is the shape of the cache as it is, `shape` the one that the plan in the making asks for.

    While a cache is replaced, the old and the new one exist.
    """

    def __init__(self, limits: BatchLimits, costs: Costs) -> None:
        self._limits, self._costs = limits, costs
        self.held: Shape = (0, 0)
        self.shape: Shape = (0, 0)

    @property
    def slots(self) -> int:
        return self.shape[1]

    def clear(self) -> None:
        """Nobody needs what is in the cache: it goes before the next one comes."""
        self.held = self.shape = (0, 0)

    def settle(self) -> Shape:
        """The plan is made; its shape is the one that is held from now on."""
        self.held = self.shape
        return self.held

    def bytes_alone(self, seat: Seat) -> int:
        """What a request takes that has the cache to itself."""
        return self._least_bytes((1, self._slots([seat])), [seat])

    def holds(self, seats: Iterable[Seat]) -> bool:
        """Whether every one of them can be denoised in the present shape."""
        return self._least_bytes(self.shape, seats) <= self._limits.bytes

    def reshape(self, seats: Sequence[Seat]) -> bool:
        """Take a shape for these, rather one that grows, else just what they need. False where none fits."""
        rows, slots = len(seats), self._slots(seats)
        old = self._costs.cache(*self.held)
        wide = min(1 << (rows - 1).bit_length(), max(rows, self._limits.rows))
        most = max(slots, self.shape[1])
        grown = (max(wide, self.shape[0]), most)
        for shape in (grown, (max(rows, self.shape[0]), most), (rows, most), (rows, slots)):
            moved = old + self._costs.cache(*shape) if shape != self.held else 0
            if max(moved, self._least_bytes(shape, seats)) <= self._limits.bytes:
                self.shape = shape
                return True
        return False

    def longest_feed(self, seat: Seat) -> int:
        """How many tokens of one request a pass can encode."""
        each = self._costs.work(1, 1, self.slots, 0)
        if not each:
            return self._limits.quiet_chunk
        taken = self._costs.cache(*self.shape) + self._costs.work(1, 0, self.slots, 1)
        return max((self._limits.bytes - taken) // each - seat.lead, self._limits.least)

    def fits(self, rows: int, width: int, wanted: int) -> bool:
        """Whether there is memory for a pass over `rows` rows of `width` tokens, with `wanted` logits in each."""
        work = self._costs.work(rows, width, self.slots, wanted)
        return self._costs.cache(*self.shape) + work <= self._limits.bytes

    def _slots(self, seats: Iterable[Seat]) -> int:
        """Slots that every row needs: the longest canvas, and what its row is padded with beside wider ones."""
        need = max(seat.need for seat in seats)
        return rounded(need + max(self._limits.least, *(seat.block.width for seat in seats)))

    def _least_bytes(self, shape: Shape, seats: Iterable[Seat]) -> int:
        """A cache of this shape, and the dearest pass over one row that must be possible."""
        slots, work = shape[1], self._costs.work
        dearest = max(
            max(
                work(1, seat.block.width, slots, seat.block.wanted),
                work(1, self._limits.least + seat.lead, slots, 1),
            )
            for seat in seats
        )
        return self._costs.cache(*shape) + dearest

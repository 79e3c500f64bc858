"""Which keys there were, in a few bytes each: a hash table in two flat arrays."""

from __future__ import annotations

from array import array

from carrara.workflows.sources.record import Record

_NO_LINE = (1 << 44) - 1
_SMALLEST = 1 << 10
_MASK = (1 << 64) - 1


class KeySet:
    """The first place of every key. Keys are known by 64 bits of hash: of a million, two different ones are taken for
    the same with a probability of 3 in 100 million. A key takes 24 to 48 bytes."""

    __slots__ = ("_count", "_hashes", "_places", "_size")

    def __init__(self) -> None:
        self._size = _SMALLEST
        self._count = 0
        self._hashes, self._places = _table(_SMALLEST)

    def add(self, key: str, place: int) -> int | None:
        """The place of the same key that came before, None where none did: then this is its first."""
        mark = hash(key) & _MASK or 1
        slot = self._slot(mark)
        if self._hashes[slot]:
            return self._places[slot]
        self._hashes[slot] = mark
        self._places[slot] = place
        self._count += 1
        if self._count * 3 > self._size * 2:
            self._grow()
        return None

    def first(self, key: str) -> int | None:
        """The place of a key, None where it has not come."""
        slot = self._slot(hash(key) & _MASK or 1)
        return self._places[slot] if self._hashes[slot] else None

    def _slot(self, mark: int) -> int:
        """That of a hash, or the free one where it would stand."""
        hashes, last = self._hashes, self._size - 1
        slot = mark & last
        while hashes[slot] not in (0, mark):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        hashes, places = self._hashes, self._places
        self._size *= 2
        self._hashes, self._places = _table(self._size)
        for mark, place in zip(hashes, places, strict=True):
            if mark:
                slot = self._slot(mark)
                self._hashes[slot] = mark
                self._places[slot] = place


def _table(size: int) -> tuple[array[int], array[int]]:
    return array("Q", bytes(8 * size)), array("Q", bytes(8 * size))


class Spots:
    """Numbers for the places of records, which are mostly those of one file with a number behind."""

    _MOST = 10_000
    _DIGITS = 12

    def __init__(self) -> None:
        self._heads: dict[str, int] = {"record ": 0}

    def number(self, record: Record) -> int:
        head, line = self._parts(record.where)
        found = self._heads.get(head)
        if found is None:
            if len(self._heads) == self._MOST:
                return record.index + 1
            found = self._heads[head] = len(self._heads)
        return found << 44 | line

    def _parts(self, where: str) -> tuple[str, int]:
        """What stands before the number at the end, and the number, without zeros before it."""
        digits = where[len(where.rstrip("0123456789")) :]
        digits = digits.lstrip("0") or digits[-1:]
        if not 0 < len(digits) <= self._DIGITS:
            return where, _NO_LINE
        return where[: -len(digits)], int(digits)

    def name(self, number: int) -> str:
        line = number & _NO_LINE
        head = next(head for head, place in self._heads.items() if place == number >> 44)
        return head if line == _NO_LINE else f"{head}{line}"


__all__ = ["KeySet", "Spots"]

"""How many rows are held in memory at once: many small ones, few large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

AT_ONCE_BYTES = 32 * 2**20
"""Of rows that are read or written together, about."""

_ROWS = 256
_FIRST_ROWS = 16
_PLAIN = 32
"""Bytes of a number, a date, or what stands around a text or list."""


def weight(value: Any) -> int:
    """About how many bytes a value takes in memory."""
    match value:
        case str() | bytes():
            return _PLAIN + len(value)
        case Mapping():
            return _PLAIN + sum(map(weight, value)) + sum(map(weight, value.values()))
        case list() | tuple():
            return _PLAIN + sum(map(weight, value))
        case _:
            return _PLAIN


def at_once(row_bytes: float) -> int:
    """How many rows of a size are read together: at least one, at most 256."""
    return max(1, min(_ROWS, int(AT_ONCE_BYTES / max(row_bytes, 1))))


def fetched(fetch: Callable[[int], Sequence[Any]]) -> Iterator[Any]:
    """The rows that `fetch(size)` gives until it gives none, so many at once as their size allows."""
    size = _FIRST_ROWS
    while rows := fetch(size):
        largest = max(sum(weight(value) for value in row) for row in rows)
        yield from rows
        size = min(size * 4, at_once(largest))


__all__ = ["AT_ONCE_BYTES", "at_once", "fetched", "weight"]

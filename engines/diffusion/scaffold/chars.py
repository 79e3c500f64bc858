"""Sets of characters as sorted ranges of code points, surrogates never among them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import lru_cache

CharSet = tuple[tuple[int, int], ...]
"""Sorted, disjoint, non-adjacent ranges, both ends included."""

ANY: CharSet = ((0, 0xD7FF), (0xE000, sys.maxunicode))
DIGITS: CharSet = ((0x30, 0x39),)
CONTROLS: CharSet = ((0, 0x1F), (0x7F, 0x9F))


def of(text: str) -> CharSet:
    """The characters of `text`."""
    return merged((ord(char), ord(char)) for char in text)


def merged(ranges: Iterable[tuple[int, int]]) -> CharSet:
    """The union of ranges in any order."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def intersection(left: CharSet, right: CharSet) -> CharSet:
    found, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            found.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def complement(chars: CharSet) -> CharSet:
    """All other characters."""
    found, start = [], 0
    for low, high in chars:
        if start < low:
            found.append((start, low - 1))
        start = high + 1
    if start <= sys.maxunicode:
        found.append((start, sys.maxunicode))
    return intersection(tuple(found), ANY)


def difference(left: CharSet, right: CharSet) -> CharSet:
    return intersection(left, complement(right))


@lru_cache(maxsize=8)
def where(test: Callable[[str], bool]) -> CharSet:
    """All characters that pass `test`, e.g. `str.isspace`. Looks at every code point once (0.1 s)."""
    ranges: list[tuple[int, int]] = []
    for low, high in ANY:
        start: int | None = None
        for code in range(low, high + 2):
            holds = code <= high and test(chr(code))
            if holds and start is None:
                start = code
            elif not holds and start is not None:
                ranges.append((start, code - 1))
                start = None
    return merged(ranges)


SPACES: CharSet = merged(
    [
        *[(9, 13), (28, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)],
        *[(0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)],
    ]
)
"""What `str.isspace` calls white space."""

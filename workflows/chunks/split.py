"""Cutting a text into parts of at most so many tokens, where its structure allows: before headings, between
paragraphs, lines, sentences, words. Nothing is lost: the parts joined, less their overlap, are the text."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from carrara.engines.errors import CarraraError
from carrara.workflows.chunks.headings import Heading, headings_of

Count = Callable[[str], int]
"""The tokens of a text."""

LEAST_TOKENS = 16
_LETTERS_A_TOKEN = 3.5

_BREAKS = (
    re.compile(r"\n(?=[ \t]*\n)"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…])\s+(?=\S)"),
    re.compile(r"\s+"),
)
"""Below headings, from the strongest border to the weakest; a part ends behind what matches."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Characters `start` to `end` of the text. `headings`: the Markdown headings above it, outermost first."""

    start: int
    end: int
    text: str
    headings: tuple[str, ...] = ()


def estimated(text: str) -> int:
    """About how many tokens a text has, without a tokenizer."""
    return int(len(text) / _LETTERS_A_TOKEN) + 1


def split(text: str, tokens: int, *, overlap: int = 0, count: Count = estimated) -> list[Chunk]:
    """Parts of `text` of at most `tokens` tokens, the strongest borders first; one part if it fits.

    `overlap`: so many tokens of the part before stand at the beginning of each part again, from a line or word on. A
    Markdown table that is cut is not given its header again: choose `tokens` above the size of tables.

    Raises:
        CarraraError: `tokens` is below 16, or `overlap` is not below half of it.
    """
    if tokens < LEAST_TOKENS or not 0 <= overlap <= tokens // 2:
        raise CarraraError(
            f"a part holds at least {LEAST_TOKENS} tokens, at most half of them overlap; got {tokens} and {overlap}"
        )
    room = tokens - overlap
    headings = headings_of(text)
    borders = [0, len(text)]
    if count(text) > room:
        borders = [0, *_cuts(text, 0, len(text), room, count, _levels(text, headings))]
    above = _Above(headings)
    chunks = []
    for start, end in _packed(text, borders, room, count):
        first = _overlapped(text, start, overlap, count) if start else start
        chunks.append(Chunk(first, end, text[first:end], above(start)))
    return chunks


_Level = Callable[[int, int], Iterable[int]]
"""The places between two characters where a text may be cut, in order."""


def _levels(text: str, headings: Sequence[Heading]) -> Sequence[_Level]:
    """From the strongest borders to the weakest: chapters and pages, headings, then the breaks below."""
    pages = (match.end() for match in re.finditer("\f", text))
    chapters = (heading.start for heading in headings if heading.depth == 1)
    sorted_places = [sorted({*pages, *chapters}), [heading.start for heading in headings]]
    return [*map(_among, sorted_places), *(_behind(pattern, text) for pattern in _BREAKS)]


def _among(places: Sequence[int]) -> _Level:
    return lambda start, end: places[bisect_right(places, start) : bisect_left(places, end)]


def _behind(pattern: re.Pattern[str], text: str) -> _Level:
    return lambda start, end: (match.end() for match in pattern.finditer(text, start, end))


def _cuts(
    text: str, start: int, end: int, room: int, count: Count, levels: Sequence[_Level]
) -> Iterator[int]:
    """The ends of pieces of text[start:end], each within `room`, cut at the strongest borders that suffice."""
    at, below = start, levels[1:]
    for place in chain(levels[0](start, end), (end,)) if levels else ((start + end) // 2, end):
        if place <= at:
            continue
        if place - at == 1 or count(text[at:place]) <= room:
            yield place
        else:
            yield from _cuts(text, at, place, room, count, below)
        at = place


def _packed(
    text: str, borders: Sequence[int], room: int, count: Count
) -> Iterator[tuple[int, int]]:
    """Neighbouring pieces joined as long as they fit. How many do is found by doubling and halving: a part may have a
    thousand lines, each of which would be counted again with all before it."""
    at, last = 0, len(borders) - 1
    while at < last:
        fits, step = at + 1, 1
        while fits < last and step:
            to = min(fits + step, last)
            if count(text[borders[at] : borders[to]]) <= room:
                fits, step = to, step * 2
            else:
                step //= 2
        yield borders[at], borders[fits]
        at = fits


def _overlapped(text: str, start: int, overlap: int, count: Count) -> int:
    """The place before `start` from which on at most `overlap` tokens are repeated: where a line begins if one does,
    else a word."""
    if not overlap:
        return start
    first = line = start
    window = max(0, start - 16 * overlap)
    for match in reversed(list(re.finditer(r"\S+", text[window:start]))):
        place = window + match.start()
        if count(text[place:start]) > overlap:
            break
        first = place
        begun = text.rfind("\n", window, place)
        if begun >= 0 and not text[begun:place].strip():
            line = place
    return line if line < start else first


class _Above:
    """The headings that are open above a place: one that stands there closes those of its depth. Asked for in
    ascending order."""

    def __init__(self, headings: Sequence[Heading]) -> None:
        self._headings = headings
        self._next = 0
        self._open: list[Heading] = []

    def __call__(self, start: int) -> tuple[str, ...]:
        while self._next < len(self._headings) and self._headings[self._next].start < start:
            self._enter(self._headings[self._next].depth)
            self._open.append(self._headings[self._next])
            self._next += 1
        if self._next < len(self._headings) and self._headings[self._next].start == start:
            self._enter(self._headings[self._next].depth)
        return tuple(heading.name for heading in self._open)

    def _enter(self, depth: int) -> None:
        self._open = [heading for heading in self._open if heading.depth < depth]


__all__ = ["LEAST_TOKENS", "Chunk", "Count", "estimated", "split"]

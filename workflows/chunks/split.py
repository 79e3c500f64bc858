"""Cutting a text into parts of at most so many tokens, where its structure allows: before headings, between
paragraphs, lines, sentences, words. Nothing is lost: the parts joined, less their overlap, are the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from carrara.engines.errors import CarraraError

Count = Callable[[str], int]
"""The tokens of a text."""

LEAST_TOKENS = 16
_LETTERS_A_TOKEN = 3.5

_BORDERS = (
    re.compile(r"\f|\n(?=# )"),
    re.compile(r"\n(?=#{1,6} )"),
    re.compile(r"\n(?=[ \t]*\n)"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…])\s+(?=\S)"),
    re.compile(r"\s+"),
)
"""From the strongest border to the weakest; a part ends behind what matches."""
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$", re.MULTILINE)


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
    borders = [0, *_cuts(text, 0, len(text), room, count, 0)]
    pieces = _packed(text, borders, room, count)
    chunks = []
    for start, end in pieces:
        first = _overlapped(text, start, overlap, count) if start else start
        chunks.append(Chunk(first, end, text[first:end], _headings(text, start)))
    return chunks


def _cuts(text: str, start: int, end: int, room: int, count: Count, level: int) -> Iterator[int]:
    """The ends of pieces of text[start:end], each within `room`, cut at the strongest borders that suffice."""
    if start >= end:
        return
    if count(text[start:end]) <= room:
        yield end
        return
    if level == len(_BORDERS):
        middle = (start + end) // 2
        yield from _cuts(text, start, middle, room, count, level)
        yield from _cuts(text, middle, end, room, count, level)
        return
    at = start
    for match in _BORDERS[level].finditer(text, start, end):
        if match.end() > at:
            yield from _cuts(text, at, match.end(), room, count, level + 1)
            at = match.end()
    yield from _cuts(text, at, end, room, count, level + 1)


def _packed(text: str, borders: Sequence[int], room: int, count: Count) -> list[tuple[int, int]]:
    """Neighbouring pieces joined as long as they fit."""
    pieces: list[tuple[int, int]] = []
    for start, end in pairwise(borders):
        if pieces and count(text[pieces[-1][0] : end]) <= room:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    return pieces or [(0, len(text))]


def _overlapped(text: str, start: int, overlap: int, count: Count) -> int:
    """The place before `start` from which on at most `overlap` tokens are repeated."""
    if not overlap:
        return start
    first = start
    for match in reversed(list(re.finditer(r"\S+", text[max(0, start - 16 * overlap) : start]))):
        place = max(0, start - 16 * overlap) + match.start()
        if count(text[place:start]) > overlap:
            break
        first = place
    return first


def _headings(text: str, start: int) -> tuple[str, ...]:
    """The headings that are open above `start`: one that stands there closes those of its depth."""
    opened: list[tuple[int, str]] = []
    for match in _HEADING.finditer(text, 0, start):
        depth = len(match[1])
        opened = [one for one in opened if one[0] < depth] + [(depth, match[2])]
    own = _HEADING.match(text, start)
    return tuple(name for depth, name in opened if own is None or depth < len(own[1]))


__all__ = ["LEAST_TOKENS", "Chunk", "Count", "estimated", "split"]

"""A text that can be searched as it is, without regard to case and white space, and roughly."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

How = Literal["exact", "case", "number", "date", "fuzzy"]

FUZZY_FROM = 90.0
"""The least likeness, in percent, of a rough match; see rapidfuzz.fuzz.partial_ratio."""
FUZZY_LETTERS = 6
"""Shorter values are found exactly or not at all: everything is like a short word."""

_AT_ONCE = 65_536
_WORD = re.compile(r"\w", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (behind the last) of the source. `how` they were found: as written; but for case,
    white space and forms of the same letter; as another way to write the number or date; roughly, with `score` in
    [0, 1] for how alike they are."""

    start: int
    end: int
    how: How = "exact"
    score: float = 1.0


class SourceText:
    """`text`, prepared once for many searches."""

    def __init__(self, text: str) -> None:
        self.text = text

    def find(self, wanted: str, near: int = 0, *, rough: bool = True) -> Span | None:
        """The occurrence of `wanted` that is whole words and begins first at or behind `near`, else the first of
        all; exactly, else but for case and white space, else `rough`ly. None for none."""
        wanted = wanted.strip()
        if not wanted:
            return None
        found = self.written(wanted, near) or self._but_for_case(wanted, near)
        return found or (self._like(wanted) if rough else None)

    def count(self, wanted: str) -> int:
        """How often `wanted` stands in the text as whole words, but for case and white space."""
        pattern = _fold(wanted)[0].strip()
        return sum(1 for _ in _occurrences(self._folded[0], pattern)) if pattern else 0

    def written(self, wanted: str, near: int = 0, how: How = "exact") -> Span | None:
        """An occurrence of exactly these characters."""
        found = _nearest(_occurrences(self.text, wanted), near)
        return None if found is None else Span(found, found + len(wanted), how)

    def _but_for_case(self, wanted: str, near: int) -> Span | None:
        folded, places = self._folded
        pattern = _fold(wanted)[0].strip()
        if not pattern:
            return None
        starts = [places[start] for start in _occurrences(folded, pattern)]
        ends = {places[at]: places[at + len(pattern) - 1] for at in _occurrences(folded, pattern)}
        found = _nearest(starts, near)
        return None if found is None else Span(found, self._behind(ends[found]), "case")

    def _like(self, wanted: str) -> Span | None:
        """Roughly, where rapidfuzz is installed (extra `spans`)."""
        if len(wanted) < FUZZY_LETTERS:
            return None
        try:
            from rapidfuzz.fuzz import partial_ratio_alignment, ratio
        except ImportError:
            return None
        folded, places = self._folded
        pattern = _fold(wanted)[0].strip()
        if len(pattern) > len(folded):
            return None
        found = partial_ratio_alignment(pattern, folded, score_cutoff=FUZZY_FROM)
        if found is None or found.dest_end <= found.dest_start:
            return None
        first, behind = _whole_words(folded, found.dest_start, found.dest_end)
        score = ratio(pattern, folded[first:behind])
        if score < FUZZY_FROM:
            return None
        return Span(places[first], self._behind(places[behind - 1]), "fuzzy", round(score / 100, 3))

    def _behind(self, last: int) -> int:
        """The place behind the character at `last` with what combines with it."""
        end = last + 1
        while end < len(self.text) and unicodedata.combining(self.text[end]):
            end += 1
        return end

    @cached_property
    def _folded(self) -> tuple[str, array[int]]:
        return _fold(self.text)


def _fold(text: str) -> tuple[str, array[int]]:
    """Case folded, compatibility forms as one, runs of white space as one space; with the place in `text` of
    each character."""
    done: list[str] = []
    letters: list[str] = []
    places = array("L")
    for place, letter in enumerate(text):
        if (
            len(letters) > _AT_ONCE
        ):  # a text of 50 MB: a list of its letters would be eight times as large
            done.append("".join(letters[:-1]))
            del letters[:-1]
        if letter.isspace():
            if letters and letters[-1] == " ":
                continue
            letters.append(" ")
            places.append(place)
            continue
        if letter.isascii():
            letters.append(letter.lower())
            places.append(place)
            continue
        for part in unicodedata.normalize("NFKD", letter).casefold():
            if not unicodedata.combining(part) and not (part == " " and letters[-1:] == [" "]):
                letters.append(part)
                places.append(place)
    return "".join((*done, *letters)), places


def _occurrences(text: str, wanted: str) -> Iterator[int]:
    """The starts of `wanted` as whole words: no letter or digit goes on at its ends."""
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not _goes_on(text, start, -1) and not _goes_on(text, end, 1):
            yield start
        start = text.find(wanted, start + 1)


def _goes_on(text: str, at: int, step: int) -> bool:
    """Whether a word or a number goes on over the border before `at`, seen from within in direction `step`: letters
    and digits on both sides, or a point or comma between two digits."""
    inside, outside = (at, at - 1) if step < 0 else (at - 1, at)
    if not 0 <= outside < len(text) or not _WORD.match(text[inside]):
        return False
    if _WORD.match(text[outside]):
        return True
    beyond = outside + step
    return (
        text[inside].isdigit()
        and text[outside] in ".,'"
        and 0 <= beyond < len(text)
        and text[beyond].isdigit()
    )


def _whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """A stretch with the words that it cuts, and without white space at its ends."""
    while start > 0 and _WORD.match(text[start]) and _WORD.match(text[start - 1]):
        start -= 1
    while end < len(text) and _WORD.match(text[end - 1]) and _WORD.match(text[end]):
        end += 1
    while start < end - 1 and text[start] == " ":
        start += 1
    while end > start + 1 and text[end - 1] == " ":
        end -= 1
    return start, end


def _nearest(starts: Iterator[int] | list[int], near: int) -> int | None:
    first = None
    for start in starts:
        if start >= near:
            return start
        first = start if first is None else first
    return first


__all__ = ["FUZZY_FROM", "FUZZY_LETTERS", "How", "SourceText", "Span"]

"""A text that can be searched as it is, without regard to case and white space, and roughly."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from carrara.workflows.spans.rough import FUZZY_FROM, Rough
from carrara.workflows.spans.words import Words, whole_words

How = Literal["exact", "case", "number", "date", "fuzzy"]

FUZZY_LETTERS = 6
"""Shorter values are found exactly or not at all: everything is like a short word."""

_AT_ONCE = 65_536


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
    """`text`, prepared once for many searches. One that has been gone through often is indexed: the `patience` is that
    of `Words` and `Rough`, None for theirs."""

    def __init__(self, text: str, patience: int | None = None) -> None:
        self.text = text
        self._patience = {} if patience is None else {"patience": patience}

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
        return sum(1 for _ in self._folded_words.occurrences(pattern)) if pattern else 0

    def written(self, wanted: str, near: int = 0, how: How = "exact") -> Span | None:
        """An occurrence of exactly these characters."""
        found = _nearest(self._words.occurrences(wanted), near)
        return None if found is None else Span(found, found + len(wanted), how)

    def _but_for_case(self, wanted: str, near: int) -> Span | None:
        places = self._folded[1]
        pattern = _fold(wanted)[0].strip()
        if not pattern:
            return None
        found_at = list(self._folded_words.occurrences(pattern))
        starts = [places[at] for at in found_at]
        ends = {places[at]: places[at + len(pattern) - 1] for at in found_at}
        found = _nearest(starts, near)
        return None if found is None else Span(found, self._behind(ends[found]), "case")

    def _like(self, wanted: str) -> Span | None:
        """Roughly, where rapidfuzz is installed (extra `spans`)."""
        if len(wanted) < FUZZY_LETTERS:
            return None
        folded, places = self._folded
        pattern = _fold(wanted)[0].strip()
        found = self._rough.find(pattern)
        if found is None:
            return None
        from rapidfuzz.fuzz import ratio

        first, behind = whole_words(folded, *found)
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
    def _words(self) -> Words:
        return Words(self.text, **self._patience)

    @cached_property
    def _folded_words(self) -> Words:
        return Words(self._folded[0], **self._patience)

    @cached_property
    def _rough(self) -> Rough:
        return Rough(self._folded[0], **self._patience)

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


def _nearest(starts: Iterator[int] | list[int], near: int) -> int | None:
    first = None
    for start in starts:
        if start >= near:
            return start
        first = start if first is None else first
    return first


__all__ = ["FUZZY_FROM", "FUZZY_LETTERS", "How", "SourceText", "Span"]

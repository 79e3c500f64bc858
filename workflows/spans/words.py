"""Whole words looked for in a text: as it stands at first, and by an index once that would have paid."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence

PATIENCE = 32
"""Searches through the whole text before it is indexed, which takes about as long."""

_STOP = 64
"""Letters that are gone through in the time that a place takes where the words go on."""

_WORD = re.compile(r"\w", re.UNICODE)
_WORDS = re.compile(r"\w+", re.UNICODE)


class Words:
    """A text, and where in it what is looked for stands as whole words: no letter or digit goes on at its ends."""

    def __init__(self, text: str, patience: int = PATIENCE) -> None:
        self._text = text
        self._letters_left = patience * len(text)
        self._index: dict[str, array[int]] | None = None

    def occurrences(self, wanted: str) -> Iterator[int]:
        """The starts of `wanted`, which is not empty, in ascending order."""
        text = self._text
        for start in self._candidates(wanted):
            end = start + len(wanted)
            if not _goes_on(text, start, -1) and not _goes_on(text, end, 1):
                yield start
            else:
                self._letters_left -= _STOP

    def _candidates(self, wanted: str) -> Iterator[int]:
        """Where these characters stand, at least where they are whole words."""
        if self._index is None and self._letters_left <= 0:
            self._index = _indexed(self._text)
        if self._index is not None:
            rarest, offset = _rarest(wanted, self._index)
            if rarest is not None:
                starts = (place - offset for place in rarest if place >= offset)
                yield from (start for start in starts if self._text.startswith(wanted, start))
                return
        self._letters_left -= len(self._text)
        start = self._text.find(wanted)
        while start >= 0:
            yield start
            start = self._text.find(wanted, start + 1)


def _indexed(text: str) -> dict[str, array[int]]:
    """The places of every word: of letters and digits with none before and behind them."""
    places: dict[str, array[int]] = {}
    for found in _WORDS.finditer(text):
        word = found[0]
        known = places.get(word)
        if known is None:
            known = places[word] = array("L")
        known.append(found.start())
    return places


def _rarest(wanted: str, index: dict[str, array[int]]) -> tuple[Sequence[int] | None, int]:
    """The places of the word of `wanted` that the text has the least of, and where it stands in `wanted`; None without
    a word."""
    rarest: Sequence[int] | None = None
    offset = 0
    for found in _WORDS.finditer(wanted):
        places: Sequence[int] = index.get(found[0], ())
        if rarest is None or len(places) < len(rarest):
            rarest, offset = places, found.start()
    return rarest, offset


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


def whole_words(text: str, start: int, end: int) -> tuple[int, int]:
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


__all__ = ["PATIENCE", "Words", "whole_words"]

"""What is like a value in a text, roughly; values that stand nowhere are told by an index once that would have paid.

The index is of the pieces of three letters. After the q-gram lemma (Ukkonen 1992) an edit changes at most three of
them, so that a stretch which is like the value shares all but some, in about the same places. Needs rapidfuzz (extra
`spans`), and numpy for the index.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

FUZZY_FROM = 90.0
"""The least likeness, in percent, of a rough match; see rapidfuzz.fuzz.partial_ratio."""

PATIENCE = 16
"""Searches through the whole text, for a value of up to 64 letters, before it is indexed, which takes as long."""

_LONGEST = 1 << 23
"""Letters of a text that is indexed, at most: the index takes 4 bytes for each, and 30 while it is made."""

_BLOCK = 64
"""Letters up to which rapidfuzz finds the best of all stretches."""

_MARKS = 1 << 18
_SPARE = 6
"""Pieces that are looked for beyond those that edits may change: more are surer, and take longer."""


class Rough:
    """A text in which something like a pattern is looked for."""

    def __init__(self, text: str, patience: int = PATIENCE) -> None:
        self._text = text
        can_index = len(text) <= _LONGEST and find_spec("numpy") is not None
        self._searches_left = patience if can_index else None
        self._pieces: _Pieces | None = None
        self._known: dict[str, tuple[int, int] | None] = {}

    def find(self, pattern: str) -> tuple[int, int] | None:
        """Where what is most like the pattern begins and ends, None where nothing is, or rapidfuzz is not there."""
        if pattern not in self._known:
            self._known[pattern] = self._find(pattern)
        return self._known[pattern]

    def _find(self, pattern: str) -> tuple[int, int] | None:
        try:
            from rapidfuzz.fuzz import partial_ratio_alignment
        except ImportError:
            return None
        if len(pattern) > len(self._text) or not self._may_be_there(pattern):
            return None
        if self._searches_left is not None:
            self._searches_left -= 1 + len(pattern) // _BLOCK
        found = partial_ratio_alignment(pattern, self._text, score_cutoff=FUZZY_FROM)
        if found is None or found.dest_end <= found.dest_start:
            return None
        return found.dest_start, found.dest_end

    def _may_be_there(self, pattern: str) -> bool:
        """False where the index knows that nothing is like the pattern."""
        if self._pieces is None:
            if self._searches_left is None or self._searches_left > 0:
                return True
            self._pieces = _Pieces(self._text)
        if len(pattern) <= _BLOCK:
            return self._is_near(pattern, self._pieces)
        # Of a pattern that is there one block at least is, with no more than its share of the edits.
        count = -(-len(pattern) // _BLOCK)
        borders = [len(pattern) * at // count for at in range(count + 1)]
        blocks = (pattern[a:b] for a, b in pairwise(borders))
        return any(next(self._pieces.stretches(block, _edits(block)), None) for block in blocks)

    def _is_near(self, pattern: str, pieces: _Pieces) -> bool:
        from rapidfuzz.fuzz import partial_ratio

        return any(
            partial_ratio(pattern, self._text[first:behind], score_cutoff=FUZZY_FROM)
            for first, behind in pieces.stretches(pattern, _edits(pattern))
        )


def _edits(pattern: str) -> int:
    """How many letters are taken out or put in at most: what is like the pattern is no longer than it."""
    return int(2 * len(pattern) * (100 - FUZZY_FROM) / 100)


class _Pieces:
    """Where the pieces of a text are."""

    def __init__(self, text: str) -> None:
        import numpy

        self._numpy = numpy
        self._length = len(text)
        marks = self._marks(text)
        counts = numpy.bincount(marks, minlength=_MARKS)
        self._ends = numpy.concatenate(([0], numpy.cumsum(counts)))
        self._places = numpy.argsort(marks, kind="stable").astype(numpy.uint32)

    def stretches(self, wanted: str, most_edits: int) -> Iterator[tuple[int, int]]:
        """From where to where something may stand that at most `most_edits` letters, taken out or put in, make
        `wanted`; nothing of the kind stands elsewhere."""
        numpy = self._numpy
        marks = self._marks(wanted)
        least = min(_SPARE, len(marks) - 3 * most_edits)
        counts = self._ends[marks + 1] - self._ends[marks]
        rarest = numpy.argsort(counts, kind="stable")[: 3 * most_edits + max(least, 0)]
        if least < 1 or int(counts[rarest].sum()) > self._length // 4:  # too much to be worth it
            yield 0, self._length
            return
        shifts = numpy.concatenate([self._at(int(marks[at])) - at for at in rarest])
        yield from self._dense(shifts + len(wanted), least, len(wanted), 2 * most_edits + 1)

    def _at(self, mark: int) -> Any:
        """The places of a piece."""
        places = self._places[self._ends[mark] : self._ends[mark + 1]]
        return places.astype(self._numpy.int64)

    def _dense(self, shifts: Any, least: int, length: int, width: int) -> Iterator[tuple[int, int]]:
        """The stretches around `least` shifts that lie within `width`. A shift is where the value would begin after
        one of its pieces, and its `length` more."""
        counts = self._numpy.bincount(shifts // width)
        both = counts.copy()
        both[:-1] += counts[1:]
        first = last = None
        for place in self._numpy.flatnonzero(both >= least):
            start = int(place) * width - length
            if first is None or last is None:
                first = start
            elif start - 4 * length > last:
                yield max(0, first - length), last + 2 * length
                first = start
            last = start + 2 * width
        if first is not None and last is not None:
            yield max(0, first - length), last + 2 * length

    def _marks(self, text: str) -> Any:
        """A number below _MARKS for each piece; different pieces may share one."""
        numpy = self._numpy
        letters = numpy.frombuffer(text.encode("utf-32-le", "surrogatepass"), numpy.uint32)
        mixed = letters[:-2] * numpy.uint32(2654435761)
        mixed ^= letters[1:-1] * numpy.uint32(648_047)
        mixed += letters[2:] * numpy.uint32(2246822519)
        mixed ^= mixed >> numpy.uint32(15)
        mixed &= numpy.uint32(_MARKS - 1)
        return mixed


__all__ = ["FUZZY_FROM", "Rough"]

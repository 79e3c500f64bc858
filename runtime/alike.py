"""Texts that begin alike, up to the numbers in them, are counted as one and shown as the first of them, with a mark
where others came that are not the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

MOST_KINDS = 1000
OTHERS = "others"
"""What texts count under once there are MOST_KINDS kinds of them: memory must not grow with a run."""

_LOOKED_AT = 200  # characters: what differs only behind them counts as one
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def kind_of(text: str) -> str:
    """What a text has in common with those that are alike."""
    return _NUMBER.sub("…", text)[:_LOOKED_AT]


def shown_as(first: str, *, varied: bool) -> str:
    """How a kind of texts is shown by the first of them; `varied`: not all of them were the same."""
    return f"{first} (and like it)" if varied else first


class Alike(Counter[str]):
    """How often each kind of text came. The keys are the first text of each kind, as `shown_as` gives it."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        super().__init__()
        self._firsts: dict[str, str] = {}
        self._varied: set[str] = set()
        for text in texts:
            self.note(text)

    def note(self, text: str) -> None:
        """The text came once more, or one like it."""
        kind = kind_of(text)
        if kind not in self._firsts and len(self._firsts) >= MOST_KINDS:
            kind = text = OTHERS
        first = self._firsts.setdefault(kind, text)
        if text != first and kind not in self._varied:
            self._varied.add(kind)
            self[shown_as(first, varied=True)] = self.pop(first)
        self[shown_as(first, varied=kind in self._varied)] += 1


__all__ = ["MOST_KINDS", "OTHERS", "Alike", "kind_of", "shown_as"]

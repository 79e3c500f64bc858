"""Texts that begin alike, up to the numbers in them, are counted as one and shown as the first of them."""

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


class Alike(Counter[str]):
    """How often each kind of text came. The keys are the first text of each kind, as it was."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        super().__init__()
        self._firsts: dict[str, str] = {}
        for text in texts:
            self.note(text)

    def note(self, text: str) -> None:
        """The text came once more, or one like it."""
        kind = kind_of(text)
        if kind not in self._firsts and len(self._firsts) >= MOST_KINDS:
            kind = text = OTHERS
        self[self._firsts.setdefault(kind, text)] += 1


__all__ = ["MOST_KINDS", "OTHERS", "Alike", "kind_of"]

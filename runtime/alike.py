"""Texts that begin alike, up to the numbers in them, are counted as one and shown as the first of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_LOOKED_AT = 200  # characters: what differs only behind them counts as one
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Alike(Counter[str]):
    """How often each kind of text came. The keys are the first text of each kind, as it was."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        super().__init__()
        self._firsts: dict[str, str] = {}
        for text in texts:
            self.note(text)

    def note(self, text: str) -> None:
        """The text came once more, or one like it."""
        self[self._firsts.setdefault(_NUMBER.sub("…", text)[:_LOOKED_AT], text)] += 1


__all__ = ["Alike"]

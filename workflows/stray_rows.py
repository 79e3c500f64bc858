"""Finished rows that are not those of the records in their places, and which records they are of.

A record is known by its content and its key. Rows of equal content go to their keys first; where the keys are only
places (lines without an id), they go in their order.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator

from carrara.runtime.journal.stored import Places
from carrara.workflows.key_set import KeySet

_NONE = -1


class StrayRows:
    """Rows by their places, each to be claimed once."""

    def __init__(self) -> None:
        self._places = Places(())
        self._keys = KeySet()
        self._contents = KeySet()
        self._firsts = array("q")  # the first place of equal content, by place
        self._more: dict[int, deque[int]] = {}

    def add(self, place: int, key: str, content: str) -> None:
        """Places come in ascending order. `content` "" is not known, and never claimed."""
        self._places.add(place)
        self._keys.add(key, place)
        self._firsts.extend([_NONE] * (place - len(self._firsts)))
        if not content:
            self._firsts.append(_NONE)
            return
        first = self._contents.add(content, place)
        self._firsts.append(place if first is None else first)
        if first is not None:
            self._more.setdefault(first, deque()).append(place)

    def claim(self, key: str, content: str) -> int | None:
        """The row of a record that stands elsewhere now, None where there is none left."""
        first = self._contents.first(content) if content else None
        if first is None:
            return None
        own = self._keys.first(key)
        if own is not None and own in self._places and self._firsts[own] == first:
            found = own
        elif first in self._places:
            found = first
        else:
            more = self._more.get(first, deque())
            while more and more[0] not in self._places:
                more.popleft()
            if not more:
                return None
            found = more.popleft()
        self._places.discard(found)
        return found

    def of(self, key: str) -> int | None:
        """The row with this key, None where it is not there or has been claimed."""
        place = self._keys.first(key)
        return place if place in self._places else None

    def is_of(self, place: int, key: str) -> bool:
        """Whether the row in this place was the first with this key."""
        return self._keys.first(key) == place

    def left(self) -> Iterator[int]:
        """Those that nobody has claimed."""
        return iter(self._places)


__all__ = ["StrayRows"]

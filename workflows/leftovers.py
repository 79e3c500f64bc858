"""What a job that goes on has left of rows that do not count any more."""

from __future__ import annotations

from carrara.workflows.key_set import KeySet


class Leftovers:
    """Keys of earlier rows of the job whose records run again, as the record or the workflow has changed. A table holds
    such a row until a new one takes its place; where the record fails instead, it is to go."""

    def __init__(self) -> None:
        self._keys = KeySet()
        self._replaced = KeySet()

    def add(self, key: str) -> None:
        self._keys.add(key, 0)

    def replace(self, key: str) -> None:
        """There is a new row with this key."""
        if key in self:
            self._replaced.add(key, 0)

    def __contains__(self, key: str, /) -> bool:
        return self._keys.first(key) is not None and self._replaced.first(key) is None


__all__ = ["Leftovers"]

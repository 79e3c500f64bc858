"""Which steps of a journal have made the finished row of which record of a job, in four bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

_NEAR = 1024


class StepOwners:
    """The place of a record by the place of a step. Those of one run lie together: each takes the bytes of the numbers
    near it."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def add(self, record: int, steps: Iterable[int]) -> None:
        """Give `steps` to the record in this place."""
        for step in steps:
            number, at = divmod(step, _NEAR)
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = array("i", bytes(4 * _NEAR))
            page[at] = record + 1

    def of(self, step: int) -> int | None:
        """The place of the record that has a step, None where none has it."""
        number, at = divmod(step, _NEAR)
        page = self._pages.get(number)
        return page[at] - 1 if page is not None and page[at] else None


__all__ = ["StepOwners"]

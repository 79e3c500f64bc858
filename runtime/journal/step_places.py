"""Which steps of a journal have been used, in a byte each."""

from __future__ import annotations

_NEAR = 1024


class StepPlaces:
    """A set of places of steps. Those of one run lie together: each takes the bytes of the numbers near it."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def __contains__(self, place: int) -> bool:
        number, at = divmod(place, _NEAR)
        page = self._pages.get(number)
        return page is not None and page[at] == 1

    def add(self, place: int) -> None:
        number, at = divmod(place, _NEAR)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(_NEAR)
        page[at] = 1


__all__ = ["StepPlaces"]

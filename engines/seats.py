"""Who waits and who is seated in a batch, and the words in which every batcher plans."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Feed:
    """Feed `count` tokens of a request from its token `start` on; they go into the same slots of cache row `row`."""

    ticket: int
    row: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Spot:
    """A block to denoise, behind the first `length` slots of `row`."""

    ticket: int
    row: int
    length: int


class Ticketed(Protocol):
    ticket: int


S = TypeVar("S", bound=Ticketed)


class Seats(Generic[S]):
    """Requests by ticket: those who wait, in the order of their rank, and those who hold a row of the cache."""

    def __init__(self) -> None:
        self._waiting: list[tuple[tuple[float, int], S]] = []
        self._seated: dict[int, S] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def seated(self) -> int:
        return len(self._seated)

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._seated

    def leave(self, ticket: int) -> None:
        """A request is done or was given up, waiting or seated; its row is free."""
        if self._seated.pop(ticket, None) is None:
            self._waiting = [entry for entry in self._waiting if entry[1].ticket != ticket]
            heapq.heapify(self._waiting)

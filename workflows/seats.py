"""The seats of a session's engines, for a job: how many records keep them taken, and how many of them were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from carrara.engines.engine import Engine
from carrara.engines.occupancy import Occupancy

T = TypeVar("T")

FEWEST = 32
"""Records under way where no engine is open yet, or none says how many seats it has: as many as the connections that
an engine behind HTTP keeps, and two for each seat of a local one on a CPU."""

AHEAD = 2
"""Records under way for each seat: while one is in it, the next one has its prompt made and waits."""

MOST = 256
"""Records under way at most; more would only wait in the engine's queue."""


class Seats:
    """`engines` are those that are open, as of now: they open when the first record asks for them."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines
        self._seen = 0
        self._enough = FEWEST
        self._before = self._counted()
        self._found: dict[str, Occupancy] | None = None

    def enough(self) -> int:
        """How many records are to be under way, so that no seat of the largest engine is empty."""
        if len(self._engines) != self._seen:
            self._seen = len(self._engines)
            most = max((engine.facts.seats for engine in self._engines.values()), default=0)
            self._enough = min(max(FEWEST, AHEAD * most), MOST)
        return self._enough

    def until_the_end(self, records: Iterable[T]) -> Iterator[T]:
        """The same records; what engines do after the last one was taken does not count: nothing is left then that
        could take a seat."""
        yield from records
        self._found = self._since()

    @property
    def occupancy(self) -> Mapping[str, Occupancy]:
        """By the engine's name, how full it was while there were records to begin. Without engines that do not count,
        or were not asked."""
        return self._since() if self._found is None else self._found

    def _since(self) -> dict[str, Occupancy]:
        counted = self._counted()
        found = {
            name: now.since(self._before.get(name, Occupancy())) for name, now in counted.items()
        }
        return {name: told for name, told in found.items() if told.rounds}

    def _counted(self) -> dict[str, Occupancy]:
        return {name: engine.facts.occupancy for name, engine in self._engines.items()}


__all__ = ["AHEAD", "FEWEST", "MOST", "Seats"]

"""Writing down a mistake at its place: a Source and a collector, held together."""

from __future__ import annotations

from dataclasses import dataclass

from carrara.workflows.yaml.mistakes import Mistake, Mistakes
from carrara.workflows.yaml.source import Location, Mark, Source


@dataclass(frozen=True, slots=True)
class Notes:
    """Adds mistakes about one file. `where` is a location in its data."""

    source: Source
    mistakes: Mistakes

    def at_key(self, where: Location, message: str) -> None:
        self._add(self.source.at_key(where), message)

    def at_value(self, where: Location, message: str) -> None:
        self._add(self.source.at_value(where), message)

    def inside(
        self, where: Location, message: str, *, line: int, word: str = "", nth: int = 0
    ) -> None:
        """At `word` in line `line` (from 1) of the text at `where`."""
        self._add(self.source.inside(where, line, word, nth), message)

    def _add(self, mark: Mark, message: str) -> None:
        self.mistakes.add(Mistake(self.source.name, mark.line, mark.column, message))

"""What steps took in earlier runs of a workflow, for the scheduler's estimates."""

from __future__ import annotations

import json
from collections.abc import Iterator

from carrara.runtime.journal.store import Sql

NEWEST = 0.3
"""The weight of the newest run in the mean."""

_ORDINALS = 32
_NODES = 2000
"""Nodes beyond these (of one path, of one run) are alike: they are learned by the name of their step only."""


_WRITE = """INSERT INTO durations VALUES (?,?) ON CONFLICT (workflow) DO UPDATE SET
 seconds=excluded.seconds"""


class Latencies:
    """The means of one run, by node ("path", "path#ordinal") and by step name."""

    __slots__ = ("_nodes", "_sums")

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}  # by step name: [sum, count]
        self._nodes: dict[str, float] = {}

    def add(self, name: str, path: str, ordinal: int, seconds: float) -> None:
        found = self._sums.get(name)
        if found is None:
            self._sums[name] = [seconds, 1.0]
        else:
            found[0] += seconds
            found[1] += 1.0
        if ordinal < _ORDINALS and len(self._nodes) < _NODES:
            self._nodes[f"{path}#{ordinal}" if ordinal else path] = seconds

    def means(self) -> Iterator[tuple[str, float]]:
        for name, (total, count) in self._sums.items():
            yield name, total / count
        yield from self._nodes.items()


class Durations:
    """The means of all workflows that a journal has seen, written at most once a second.

    They are hints: a process that dies loses those of its last second, and of two processes that learn about
    one workflow at the same time the later one is believed.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, float]] = {}
        self._dirty: set[str] = set()
        self._written_at = 0.0

    @property
    def is_dirty(self) -> bool:
        return bool(self._dirty)

    def of(self, connection: Sql, workflow: str) -> dict[str, float]:
        """By node and by step name."""
        known = self._known.get(workflow)
        if known is None:
            row = connection.execute(
                "SELECT seconds FROM durations WHERE workflow=?", (workflow,)
            ).fetchone()
            self._known[workflow] = known = json.loads(row[0]) if row else {}
        return known

    def learn(self, connection: Sql, workflow: str, run: Latencies, now: float) -> None:
        """Take a run into the means. Within the caller's transaction."""
        means = self.of(connection, workflow)
        for node, seconds in run.means():
            before = means.get(node, seconds)
            means[node] = before + NEWEST * (seconds - before)
            self._dirty.add(workflow)
        if now - self._written_at >= 1.0:
            self.write(connection, now)

    def write(self, connection: Sql, now: float) -> None:
        """Write what has been learned. Within the caller's transaction.

        The means of a workflow are one row: a thousand rows would cost a fifth of what the commits of the
        run do that they were learned from.
        """
        for workflow in self._dirty:
            text = json.dumps(self._known[workflow], separators=(",", ":"))
            connection.execute(_WRITE, (workflow, text))
        self._dirty.clear()
        self._written_at = now

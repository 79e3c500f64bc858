"""What steps took in earlier runs of a workflow, for the scheduler's estimates."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

NEWEST = 0.3
"""The weight of the newest run in the mean."""

_ORDINALS = 32
_NODES = 2000
"""Nodes beyond these (of one path, of one run) are alike: they are learned by the name of their step only."""


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


def learned(connection: sqlite3.Connection, workflow: str) -> dict[str, float]:
    """By node and by step name."""
    return dict(
        connection.execute("SELECT node, seconds FROM durations WHERE workflow=?", (workflow,))
    )


def learn(connection: sqlite3.Connection, workflow: str, run: Latencies) -> None:
    """Take a run into the means. Within the caller's transaction."""
    connection.executemany(
        f"""INSERT INTO durations VALUES (?,?,?) ON CONFLICT (workflow, node) DO UPDATE SET
        seconds = seconds + {NEWEST} * (excluded.seconds - seconds)""",
        [(workflow, node, seconds) for node, seconds in run.means()],
    )

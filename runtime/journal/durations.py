"""What steps took in earlier runs of a workflow, for the scheduler's estimates."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping

from carrara.runtime.journal.schema import FAILED

NEWEST = 0.3
"""The weight of the newest run in the mean."""

_MOST_NODES = 2000
"""Runs of more nodes than this are learned by step name only: their nodes are alike, and the table stays small."""

_INDEX = re.compile(r"\[\d+\]$")


def step_name(path: str) -> str:
    """The step's name in a node's path: "book/extract[3]" -> "extract"."""
    return _INDEX.sub("", path.rpartition("/")[2])


def learned(connection: sqlite3.Connection, workflow: str) -> dict[str, float]:
    """By node ("path", "path#ordinal") and by step name."""
    return dict(
        connection.execute("SELECT node, seconds FROM durations WHERE workflow=?", (workflow,))
    )


def learn(connection: sqlite3.Connection, workflow: str, first: int, last: int) -> None:
    """Take the steps with ids in [first, last) into the means. Within the caller's transaction."""
    taken = connection.execute(
        "SELECT path, ordinal, seconds FROM steps WHERE id>=? AND id<? AND status<>?",
        (first, last, FAILED),
    ).fetchall()
    sums: dict[str, tuple[float, int]] = {}
    for path, ordinal, seconds in taken:
        for node in _names(path, ordinal, by_node=len(taken) <= _MOST_NODES):
            total, count = sums.get(node, (0.0, 0))
            sums[node] = (total + seconds, count + 1)
    connection.executemany(
        f"""INSERT INTO durations VALUES (?,?,?) ON CONFLICT (workflow, node) DO UPDATE SET
        seconds = seconds + {NEWEST} * (excluded.seconds - seconds)""",
        _means(workflow, sums),
    )


def _names(path: str, ordinal: int, *, by_node: bool) -> Iterator[str]:
    yield step_name(path)
    if by_node:
        yield f"{path}#{ordinal}" if ordinal else path


def _means(
    workflow: str, sums: Mapping[str, tuple[float, int]]
) -> Iterator[tuple[str, str, float]]:
    for node, (total, count) in sums.items():
        yield workflow, node, total / count

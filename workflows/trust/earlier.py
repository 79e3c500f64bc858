"""What was told of answers before a job was cut, in a temporary database: a job that makes its rows again may have
millions of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from carrara.runtime.codec import decode, encode
from carrara.runtime.events import Accepted, Event, RunStarted, from_data, to_data

_MEMORY_KIB = 8 * 1024


class Earlier:
    """The accepted answers by path. Where a path stands for several calls, of one opening of the job or of several,
    nobody knows which of them a value is from: nothing is told of it."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._told: sqlite3.Connection | None = None
        opening = 0
        for event in events:
            if isinstance(event, RunStarted):
                opening += 1
            elif isinstance(event, Accepted):
                self._put(event, opening)

    def get(self, path: str) -> Accepted | None:
        if self._told is None:
            return None
        found = self._told.execute(
            "SELECT told FROM answers WHERE path=? AND NOT shared", (path,)
        ).fetchone()
        event = None if found is None else from_data(decode(found[0]))
        return event if isinstance(event, Accepted) else None

    def close(self) -> None:
        """Nothing is asked for any more."""
        if self._told is not None:
            self._told.close()
            self._told = None

    def _put(self, event: Accepted, opening: int) -> None:
        if self._told is None:
            self._told = _database()
        self._told.execute(
            "INSERT INTO answers VALUES (?,?,?,0,?) ON CONFLICT (path) DO UPDATE SET told=excluded.told,"
            " shared = shared OR node<>excluded.node OR opening<>excluded.opening",
            (event.path, opening, event.node, encode(to_data(event))),
        )


def _database() -> sqlite3.Connection:
    """SQLite keeps it in a file of its own, as far as it is too large for memory, and removes it."""
    made = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    made.execute(f"PRAGMA cache_size = -{_MEMORY_KIB}")
    made.execute("PRAGMA journal_mode = OFF")
    made.execute(
        "CREATE TABLE answers (path TEXT PRIMARY KEY, opening INTEGER, node INTEGER, shared INTEGER,"
        " told TEXT) WITHOUT ROWID"
    )
    return made


__all__ = ["Earlier"]

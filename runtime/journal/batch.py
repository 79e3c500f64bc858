"""What is written together: rows for the tables, and who is told once they are durable."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from carrara.runtime.journal.api import Done
from carrara.runtime.journal.schema import ASIDE
from carrara.runtime.journal.store import Sql, ending

INLINE = 4096
"""Payloads longer than this lie in `blobs`, by the hash of their text."""

INSERT_STEP = "INSERT INTO steps VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
INSERT_EVENT = "INSERT INTO events VALUES (?,?)"
_BLOB = "INSERT INTO blobs VALUES (?,?) ON CONFLICT DO NOTHING"
# A row that is done stays as it is; one that failed gives way to the next try.
_ROW = """INSERT INTO rows VALUES (?,?,?,?,?,?) ON CONFLICT (run, place) DO UPDATE SET
 key=excluded.key, state=excluded.state, payload=excluded.payload, error=excluded.error
 WHERE rows.state <> 'done'"""
# Said again after a connection was lost, it does nothing: the row in its old place is another one by then.
_ASIDE = f"""UPDATE rows SET place=?, state='{ASIDE}', payload=NULL, error='' WHERE run=? AND place=?
 AND NOT EXISTS (SELECT 1 FROM rows AS there WHERE there.run=? AND there.place=?)"""


@dataclass(slots=True)
class Batch:
    """Rows as tuples in the order of the columns. `forgotten` are rows of jobs, (run, place), that go before others
    come, `aside` those that make room for them, (run, place, its new place). `heavy` counts characters of payload still
    to be packed."""

    steps: list[Sequence[Any]] = field(default_factory=list)
    events: list[Sequence[Any]] = field(default_factory=list)
    rows: list[Sequence[Any]] = field(default_factory=list)
    forgotten: list[tuple[int, int]] = field(default_factory=list)
    aside: list[tuple[int, int, int]] = field(default_factory=list)
    blobs: list[tuple[bytes, bytes]] = field(default_factory=list)
    dones: list[Done] = field(default_factory=list)
    heavy: int = 0

    @property
    def size(self) -> int:
        of_jobs = len(self.rows) + len(self.forgotten) + len(self.aside)
        return len(self.steps) + len(self.events) + of_jobs

    @property
    def is_one_step(self) -> bool:
        return len(self.steps) == 1 and not (
            self.events or self.rows or self.blobs or self.forgotten or self.aside
        )

    def hold(self, text: str) -> bytes:
        """Take a payload as a blob; its hash, for the payload column."""
        raw = text.encode()
        name = blake2b(raw, digest_size=16).digest()
        self.blobs.append((name, raw))
        self.heavy += len(raw)
        return name

    def finish(self, error: BaseException | None) -> None:
        """Tell everybody who waits. On the loop."""
        for done in self.dones:
            done(error)


def write(connection: Sql, batch: Batch) -> None:
    """Commit a batch in one transaction; what fails leaves nothing of it.

    Raises:
        sqlite3.Error: as it comes.
    """
    if batch.is_one_step:
        # One statement is its own transaction: a chain pays for no BEGIN and COMMIT.
        connection.execute(INSERT_STEP, batch.steps[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    with ending(connection):
        insert(connection, batch)


def insert(connection: Sql, batch: Batch, known: str = "") -> None:
    """The rows of a batch, within a transaction. `known` is a clause for steps and events that are there already."""
    if batch.blobs:
        connection.executemany(_BLOB, [(name, zlib.compress(raw, 1)) for name, raw in batch.blobs])
    if batch.steps:
        connection.executemany(INSERT_STEP + known, batch.steps)
    if batch.events:
        connection.executemany(INSERT_EVENT + known, batch.events)
    if batch.forgotten:
        connection.executemany("DELETE FROM rows WHERE run=? AND place=?", batch.forgotten)
    if batch.aside:
        moved = [(there, run, place, run, there) for run, place, there in batch.aside]
        connection.executemany(_ASIDE, moved)
    if batch.rows:
        connection.executemany(_ROW, batch.rows)


def read_payload(connection: Sql, payload: str | bytes) -> str:
    """The JSON text behind a payload column.

    Raises:
        ValueError: its blob is missing or damaged.
    """
    if isinstance(payload, str):
        return payload
    found = connection.execute("SELECT packed FROM blobs WHERE hash=?", (payload,)).fetchone()
    if found is None:
        raise ValueError(f"the stored value {payload.hex()} is missing")
    try:
        return zlib.decompress(found[0]).decode()
    except zlib.error as error:
        raise ValueError(f"the stored value {payload.hex()} is damaged: {error}") from error

"""The writer thread: commits batches where the loop's thread must not wait, several in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from time import perf_counter

from carrara.runtime.errors import JournalError
from carrara.runtime.journal.batch import Batch, write
from carrara.runtime.journal.schema import connect

LOCK_WAIT_S = 60
"""How long another process may keep the lock before that is an error."""

Answer = Callable[[Batch, "sqlite3.Error | JournalError | None"], None]
_Job = tuple[Batch, asyncio.AbstractEventLoop, Answer]


class Writer:
    """Owns a connection and a thread. `average_s` is how long its commits take; after an error it writes
    nothing more and answers every batch with it."""

    def __init__(self, path: Path, *, full: bool) -> None:
        self.error: sqlite3.Error | JournalError | None = None
        self.average_s = 0.0
        self._path = path
        self._full = full
        self._jobs: deque[_Job] = deque()
        self._changed = Condition()
        self._working = 0
        self._closed = False
        self._thread = Thread(target=self._work, name="carrara-journal-writer", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return bool(self._working)

    def put(self, batch: Batch, loop: asyncio.AbstractEventLoop, answer: Answer) -> None:
        """Have a batch written; `answer` is called on `loop`."""
        with self._changed:
            self._jobs.append((batch, loop, answer))
            self._working += 1
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until everything that was put is written or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._working)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        connection = self._connect()
        try:
            while jobs := self._next():
                self._write(connection, [batch for batch, _, _ in jobs])
                self._answer(jobs)
        finally:
            if connection is not None:
                connection.close()

    def _connect(self) -> sqlite3.Connection | None:
        try:
            connection = connect(self._path, durability="full" if self._full else "normal")
            connection.execute(f"PRAGMA busy_timeout={LOCK_WAIT_S * 1000}")
        except (sqlite3.Error, JournalError) as error:
            self.error = error
            return None
        return connection

    def _next(self) -> list[_Job]:
        """Everything that waits, once there is something; nothing when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            taken = list(self._jobs)
            self._jobs.clear()
            return taken

    def _write(self, connection: sqlite3.Connection | None, batches: list[Batch]) -> None:
        if self.error is not None or connection is None:
            return
        begun = perf_counter()
        try:
            write(connection, _merged(batches))
        except sqlite3.Error as error:
            self.error = error
        self.average_s += 0.1 * (perf_counter() - begun - self.average_s)

    def _answer(self, jobs: list[_Job]) -> None:
        for batch, loop, answer in jobs:
            # A loop that has closed meanwhile has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(answer, batch, self.error)
        with self._changed:
            self._working -= len(jobs)
            self._changed.notify_all()


def _merged(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    whole = Batch()
    for batch in batches:
        whole.steps += batch.steps
        whole.events += batch.events
        whole.rows += batch.rows
        whole.blobs += batch.blobs
    return whole

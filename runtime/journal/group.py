"""Group commit: what is recorded within one turn of the event loop becomes one transaction.

With durability "normal" the loop's own thread commits, because handing a row to a thread and back costs
more than the commit itself (10 to 15 µs, no fsync). Whatever could make that wait goes to the writer thread
instead: another process has the lock, the disk is slow, the batch is big. With "full" every batch goes
there, and is synced to the disk while the next one collects.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import perf_counter
from typing import Any

from carrara.runtime.journal.api import Done
from carrara.runtime.journal.batch import INSERT_STEP, Batch, insert, write
from carrara.runtime.journal.collecting import Collecting
from carrara.runtime.journal.pin import Pin
from carrara.runtime.journal.schema import connect, is_busy
from carrara.runtime.journal.store import SqliteStore
from carrara.runtime.journal.writer import Writer

LOCK_WAIT_S = 60
"""How long another process may keep the lock from the writer before that is an error."""

SLOW_S = 0.002
"""Commits that take longer than this on average, and as much more for every 64 rows, go to the writer."""

BIG = 1 << 18
"""Characters of payload to compress from which a batch is not for the loop's thread; a row counts as ten."""

FEWEST_ALONE, MOST_ALONE = 4, 64
"""After a turn that brought a single step, so many steps are committed as they come, twice as many after each
further such turn; then a turn is collected again. In a chain nothing can be grouped, and collecting costs
15 µs."""

_SNAPSHOT_IS_OLD = 517  # SQLITE_BUSY_SNAPSHOT: another connection has written since the pin was set


class GroupCommit(Collecting):
    """The group of an SQLite file."""

    def __init__(self, path: Path, *, full: bool) -> None:
        self.connection = connect(path, durability="full" if full else "normal")
        super().__init__(SqliteStore(path, self.connection))
        self.path = path
        self.connection.execute("PRAGMA busy_timeout=0")
        self.pin = Pin(self.connection)
        self.written = 0  # rows since the WAL file was last emptied
        self._cursor = self.connection.cursor()
        self._execute = self._cursor.execute
        self._full = full
        self._average_s = 0.0
        self._alone = 0  # steps that may still be committed as they come
        self._credit = FEWEST_ALONE

    def renew(self) -> None:
        self._alone = 0
        self.pin.drop()
        super().renew()

    def hold(self, text: str) -> bytes:
        self._alone = 0
        return self.batch.hold(text)

    def put_step(self, row: tuple[Any, ...], done: Done) -> None:
        """Commit a step, with this turn's others or at once. A long payload is in the batch already."""
        alone = self._alone
        if alone:
            self._alone = 0  # what `done` sets off belongs to a new turn
            try:
                self._execute(INSERT_STEP, row)
            except Exception:
                pass  # the ordinary way finds out what is wrong
            else:
                self.written += 1
                done(None)
                if not self._due:
                    self._alone = alone - 1
                return
        super().put_step(row, done)

    def _new_turn(self) -> None:
        self._alone = 0

    def _turn(self) -> None:
        self._due = False
        alone = self.batch.is_one_step
        if not alone:
            self._credit = FEWEST_ALONE
            if not self.batch.size:  # flushed in this turn already, and perhaps closed since
                return
        if self._commit() and alone and not self._due:
            self._alone = self._credit
            self._credit = min(2 * self._credit, MOST_ALONE)

    def _commit(self) -> bool:
        """See to the batch; True if it was committed on this thread, and quickly."""
        batch, self.batch = self.batch, Batch()
        if self.error is not None:
            batch.finish(self.error)
        elif self._is_for_the_writer(batch) or not self._commit_here(batch):
            self._hand_over(batch)
        else:
            return self._average_s < SLOW_S
        return False

    def _is_for_the_writer(self, batch: Batch) -> bool:
        if self._full or batch.heavy + 10 * len(batch.steps) > BIG:
            return True
        writer = self._writer
        if writer is not None:
            if writer.is_busy:  # keep the order
                return True
            if self._average_s > SLOW_S and writer.average_s < SLOW_S / 2:
                self._average_s = 0.0
        return self._average_s > SLOW_S

    def _commit_here(self, batch: Batch) -> bool:
        """Commit on this thread and tell those who wait; False if another connection has the lock."""
        begun = perf_counter()
        try:
            self.pin.set(begun, self._loop)
            try:
                write(self._cursor, batch)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != _SNAPSHOT_IS_OLD:
                    raise
                self.pin.drop()
                write(self._cursor, batch)
        except Exception as error:  # told to everybody who waits: nobody else hears of it
            self.pin.drop()
            if is_busy(error):
                return False
            self._fail(batch, error)
            return True
        self.pin.last = ended = perf_counter()
        size = batch.size
        self._average_s += 0.1 * ((ended - begun) / (1 + size / 64) - self._average_s)
        self.written += size + batch.heavy // 2048
        batch.finish(None)
        return True

    def _hand_over(self, batch: Batch) -> None:
        self.pin.drop()
        self.written += batch.size + batch.heavy // 2048
        super()._hand_over(batch)

    def _new_writer(self) -> Writer[sqlite3.Connection]:
        return Writer(self._connect_for_writer, write)

    def _connect_for_writer(self) -> sqlite3.Connection:
        connection = connect(self.path, durability="full" if self._full else "normal")
        connection.execute(f"PRAGMA busy_timeout={LOCK_WAIT_S * 1000}")
        return connection

    def begin(self) -> None:
        """Begin a transaction on this thread, waiting for the lock if another process has it.

        Raises:
            sqlite3.Error: as it comes; busy after half a minute.
        """
        self.pin.drop()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            self.connection.execute("PRAGMA busy_timeout=30000")
            try:
                self.connection.execute("BEGIN IMMEDIATE")
            finally:
                self.connection.execute("PRAGMA busy_timeout=0")

    def _insert(self, batch: Batch) -> None:
        insert(self.connection, batch)

    def close(self) -> None:
        self.pin.drop()
        super().close()

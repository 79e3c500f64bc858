"""Group commit: what is recorded within one turn of the event loop becomes one transaction.

With durability "normal" the loop's own thread commits, because handing a row to a thread and back costs
more than the commit itself (10 to 15 µs, no fsync). Whatever could make that wait goes to the writer thread
instead: another process has the lock, the disk is slow, the batch is big. With "full" every batch goes
there, and is synced to the disk while the next one collects.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from carrara.runtime.errors import JournalError
from carrara.runtime.journal.api import Done
from carrara.runtime.journal.batch import INSERT_STEP, Batch, ending, insert, write
from carrara.runtime.journal.pin import Pin
from carrara.runtime.journal.schema import connect, failure, is_busy
from carrara.runtime.journal.writer import Writer

SLOW_S = 0.002
"""Commits that take longer than this on average, and as much more for every 64 rows, go to the writer."""

BIG = 1 << 18
"""Characters of payload to compress from which a batch is not for the loop's thread; a row counts as ten."""

FEWEST_ALONE, MOST_ALONE = 4, 64
"""After a turn that brought a single step, so many steps are committed as they come, twice as many after each
further such turn; then a turn is collected again. In a chain nothing can be grouped, and collecting costs
15 µs."""

_SNAPSHOT_IS_OLD = 517  # SQLITE_BUSY_SNAPSHOT: another connection has written since the pin was set


class GroupCommit:
    """Collects rows in `batch`; `push` sees that it is written. All methods are for the loop's thread."""

    def __init__(self, path: Path, *, full: bool) -> None:
        self.path = path
        self.batch = Batch()
        self.connection = connect(path, durability="full" if full else "normal")
        self.connection.execute("PRAGMA busy_timeout=0")
        self.pin = Pin(self.connection)
        self.written = 0  # rows since the WAL file was last emptied
        self.error: JournalError | None = None
        self._cursor = self.connection.cursor()
        self._execute = self._cursor.execute
        self._full = full
        self._writer: Writer | None = None
        self._average_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: asyncio.AbstractEventLoop | None = None
        self._alone = 0  # steps that may still be committed as they come
        self._credit = FEWEST_ALONE

    def renew(self) -> None:
        """A run begins, perhaps on another loop than the last. An error of earlier runs is forgotten: the
        disk that was full may have room again."""
        self._alone = 0
        self.pin.drop()
        if self.error is not None and self._writer is not None:
            self._writer.close()
            self._writer = None
        self.error = None

    def hold(self, text: str) -> bytes:
        """Take a long payload into the batch; what to put in its column."""
        self._alone = 0
        return self.batch.hold(text)

    def put_step(self, row: tuple[Any, ...], done: Done) -> None:
        """Commit a step, with this turn's others or at once. A long payload is in the batch already."""
        alone = self._alone
        if alone:
            self._alone = 0  # what `done` sets off belongs to a new turn
            try:
                self._execute(INSERT_STEP, row)
            except sqlite3.Error:
                pass  # the ordinary way finds out what is wrong
            else:
                self.written += 1
                done(None)
                if self._due is None:
                    self._alone = alone - 1
                return
        self.batch.steps.append(row)
        self.batch.dones.append(done)
        self.push()

    def push(self) -> None:
        """See that the batch is committed in this turn of the loop. Call after every addition to it."""
        loop = asyncio.get_running_loop()
        if self._due is not loop:  # what was due on a loop that has ended since comes along
            self._due = self._loop = loop
            self._alone = 0
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = None
        alone = self.batch.is_one_step
        if not alone:
            self._credit = FEWEST_ALONE
            if not self.batch.size:  # flushed in this turn already, and perhaps closed since
                return
        if self._commit() and alone and self._due is None:
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
        self.pin.set(begun, self._loop)
        try:
            try:
                write(self._cursor, batch)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != _SNAPSHOT_IS_OLD:
                    raise
                self.pin.drop()
                write(self._cursor, batch)
        except sqlite3.Error as error:
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
        if self._writer is None:
            self._writer = Writer(self.path, full=self._full)
        self.pin.drop()
        self.written += batch.size + batch.heavy // 2048
        assert self._loop is not None
        self._writer.put(batch, self._loop, self._answered)

    def _answered(self, batch: Batch, error: sqlite3.Error | JournalError | None) -> None:
        """The writer is done with a batch. On the loop."""
        if error is None:
            batch.finish(None)
        else:
            self._fail(batch, error)

    def _fail(self, batch: Batch, error: sqlite3.Error | JournalError) -> None:
        if self.error is None:
            self.error = error if isinstance(error, JournalError) else failure(self.path, error)
            self.error.__cause__ = error if error is not self.error else None
        batch.finish(self.error)

    def flush(self, also: Callable[[], None] | None = None) -> None:
        """Commit what is collected and wait for the writer, however long another process holds the lock.

        What `also` writes goes into the same transaction, after the rest.

        Raises:
            JournalError: something could not be written.
        """
        if self._writer is not None:
            self._writer.drain()
            if self.error is None and self._writer.error is not None:
                self._fail(Batch(), self._writer.error)
        batch, self.batch = self.batch, Batch()
        if self.error is not None:
            batch.finish(self.error)
            raise self.error
        if batch.size or also is not None:
            self._flush(batch, also)

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

    def _flush(self, batch: Batch, also: Callable[[], None] | None) -> None:
        try:
            self.begin()
            with ending(self.connection):
                insert(self.connection, batch)
                if also is not None:
                    also()
        except sqlite3.Error as error:
            self._fail(batch, error)
        if self.error is not None:
            raise self.error
        batch.finish(None)

    def close(self) -> None:
        """Free everything; what is still collected is committed first.

        Raises:
            JournalError: it could not be written. An error that was told before is not told again.
        """
        try:
            if self.error is None:
                self.flush()
        finally:
            self.pin.drop()
            if self._writer is not None:
                self._writer.close()
            self.connection.close()

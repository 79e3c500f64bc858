"""Group commit: what is recorded within one turn of the event loop becomes one transaction.

With durability "normal" the loop's own thread commits, because handing a row to a thread and back costs more than
the commit (about 15 µs with the read pin below, no fsync). Whatever could make that wait goes to the writer thread
instead: another process has the lock, the disk is slow, the batch is big. With "full" every batch goes there, and
is synced to the disk while the next one collects.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from time import perf_counter

from carrara.runtime.errors import JournalError
from carrara.runtime.journal.batch import Batch, write
from carrara.runtime.journal.schema import connect, failure, is_busy
from carrara.runtime.journal.writer import Writer

SLOW_S = 0.002
"""Commits that take longer than this on average are no longer made on the loop's thread."""

BIG = 1 << 18
"""Characters of payload to compress, and a tenth of it rows, from which a batch is not for the loop's thread."""

_SNAPSHOT_IS_OLD = 517  # SQLITE_BUSY_SNAPSHOT: another connection has written since the pin was set
_PIN_IDLE_S = 0.05
_PIN_BURST_S = 0.005


class GroupCommit:
    """Collects rows in `batch`; `push` sees that it is written. All methods are for the loop's thread."""

    def __init__(self, path: Path, *, full: bool) -> None:
        self.path = path
        self.batch = Batch()
        self.connection = connect(path)
        self.connection.execute("PRAGMA busy_timeout=0")
        self.written = 0  # commits since the file was last checkpointed, roughly in pages
        self._full = full
        self._writer: Writer | None = None
        self._due: asyncio.AbstractEventLoop | None = None
        self._average_s = 0.0
        self._last = 0.0
        self._pin: sqlite3.Cursor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.pinnable = True  # False while the WAL file is being emptied
        self.error: JournalError | None = None

    def push(self) -> None:
        """See that the batch is committed in this turn of the loop. Call after every addition."""
        loop = asyncio.get_running_loop()
        if self._due is not loop:  # nothing due yet, or due on a loop that has ended since
            self._due = self._loop = loop
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = None
        if self.batch.dones or len(self.batch):
            self._commit(self._take())

    def _take(self) -> Batch:
        taken, self.batch = self.batch, Batch()
        return taken

    def _commit(self, batch: Batch) -> None:
        if self.error is not None:
            batch.finish(self.error)
            return
        if self._is_for_the_writer(batch) or not self._commit_here(batch):
            self._hand_over(batch)

    def _is_for_the_writer(self, batch: Batch) -> bool:
        if self._full or batch.heavy + 10 * len(batch) > BIG:
            return True
        writer = self._writer
        if writer is None:
            return self._average_s > SLOW_S
        if writer.is_busy:  # keep the order
            return True
        if self._average_s > SLOW_S and writer.average_s < SLOW_S / 2:
            self._average_s = 0.0
        return self._average_s > SLOW_S

    def _commit_here(self, batch: Batch) -> bool:
        """Commit on this thread; False if another connection has the lock."""
        begun = perf_counter()
        self._pin_if_bursting(begun)
        try:
            try:
                write(self.connection, batch)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != _SNAPSHOT_IS_OLD:
                    raise
                self.unpin()
                write(self.connection, batch)
        except sqlite3.Error as error:
            self.unpin()
            if is_busy(error):
                return False
            self._failed(batch, error)
            return True
        self._last = ended = perf_counter()
        self._average_s += 0.1 * (ended - begun - self._average_s)
        self.written += len(batch)
        batch.finish(None)
        return True

    # The pin: an open SELECT keeps the connection's read lock, so that a commit takes and gives back only
    # the write lock: 4 system calls instead of 8, 10 instead of 17 µs. It also keeps the WAL file from being
    # emptied; hence only within a burst of commits, and never while a checkpoint is due.

    def _pin_if_bursting(self, now: float) -> None:
        if self._pin is None and now - self._last < _PIN_BURST_S and self.pinnable:
            self._pin = self.connection.execute("SELECT rowid FROM sqlite_schema")
            self._pin.fetchone()
            if self._loop is not None:
                self._loop.call_later(_PIN_IDLE_S, self._unpin_if_idle, self._loop)

    def _unpin_if_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._pin is None:
            return
        if perf_counter() - self._last < _PIN_IDLE_S:
            loop.call_later(_PIN_IDLE_S, self._unpin_if_idle, loop)
        else:
            self.unpin()

    def unpin(self) -> None:
        if self._pin is not None:
            self._pin.close()
            self._pin = None

    def _hand_over(self, batch: Batch) -> None:
        if self._writer is None:
            self._writer = Writer(self.path, full=self._full)
        self.unpin()
        self.written += len(batch)
        self._writer.put(batch, self._loop, self._answered)

    def _answered(self, batch: Batch, error: sqlite3.Error | JournalError | None) -> None:
        """The writer is done with a batch. On the loop."""
        if error is None:
            batch.finish(None)
        else:
            self._failed(batch, error)

    def _failed(self, batch: Batch, error: sqlite3.Error | JournalError) -> None:
        self.error = error if isinstance(error, JournalError) else failure(self.path, error)
        self.error.__cause__ = error if error is not self.error else None
        batch.finish(self.error)

    def flush(self) -> None:
        """Commit what is collected and wait for the writer, however long another process holds the lock.

        Raises:
            JournalError: something could not be written.
        """
        self.unpin()
        if self._writer is not None:
            self._writer.drain()
            if self.error is None and self._writer.error is not None:
                self.error = failure(self.path, self._writer.error)
        if self.error is None and (self.batch.dones or len(self.batch)):
            batch = self._take()
            self.connection.execute("PRAGMA busy_timeout=30000")
            try:
                write(self.connection, batch)
            except sqlite3.Error as error:
                self._failed(batch, error)
            else:
                batch.finish(None)
            finally:
                self.connection.execute("PRAGMA busy_timeout=0")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Free everything; what is still collected is committed first.

        Raises:
            JournalError: it could not be written.
        """
        try:
            self.flush()
        finally:
            if self._writer is not None:
                self._writer.close()
            self.connection.close()

"""What is recorded gathers here until it is committed: what the groups of all stores share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from carrara.runtime.errors import JournalError
from carrara.runtime.journal.api import Done
from carrara.runtime.journal.batch import Batch
from carrara.runtime.journal.store import Store, ending
from carrara.runtime.journal.writer import Writer


class Collecting(ABC):
    """Collects rows in `batch`; `push` sees that it is written. All methods are for the loop's thread.

    `store` is the loop's own connection. After `error` nothing more is written, until a run begins.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.batch = Batch()
        self.error: JournalError | None = None
        self._writer: Writer[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = False  # this turn of the loop ends with `_turn`

    @abstractmethod
    def _new_writer(self) -> Writer[Any]: ...

    @abstractmethod
    def _turn(self) -> None:
        """A turn of the loop has brought something: see to the batch."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction on this thread. Raises what the store raises."""

    @abstractmethod
    def _insert(self, batch: Batch) -> None:
        """Write a batch on this thread, within the transaction that has begun."""

    def renew(self) -> None:
        """A run begins, perhaps on another loop than the last. An error of earlier runs is forgotten: the
        disk that was full may have room again. What was due on a loop that has ended comes along with what is new."""
        self._due = False
        if self.error is not None and self._writer is not None:
            self._writer.close()
            self._writer = None
        self.error = None

    def hold(self, text: str) -> str | bytes:
        """Take a long payload into the batch; what to put in its column."""
        return self.batch.hold(text)

    def put_step(self, row: tuple[Any, ...], done: Done) -> None:
        """Commit a step with this turn's others. A long payload is in the batch already."""
        self.batch.steps.append(row)
        self.batch.dones.append(done)
        self.push()

    def push(self) -> None:
        """See that the batch is committed in this turn of the loop. Call after every addition to it."""
        if not self._due:
            self._due = True
            self._loop = loop = asyncio.get_running_loop()
            self._new_turn()
            loop.call_soon(self._turn)

    def _new_turn(self) -> None:  # noqa: B027 - most have nothing to do
        """Called before the first addition of a turn is due."""

    def _hand_over(self, batch: Batch) -> None:
        if self._writer is None:
            self._writer = self._new_writer()
        assert self._loop is not None
        self._writer.put(batch, self._loop, self._answered)

    def _answered(self, batch: Batch, error: Exception | None) -> None:
        """The writer is done with a batch. On the loop."""
        if error is None:
            batch.finish(None)
        else:
            self._fail(batch, error)

    def _fail(self, batch: Batch, error: Exception) -> None:
        if self.error is None:
            self.error = error if isinstance(error, JournalError) else self.store.failure(error)
            self.error.__cause__ = error if error is not self.error else None
        batch.finish(self.error)

    def flush(self, also: Callable[[], None] | None = None) -> None:
        """Commit what is collected and wait for the writer, however long that takes.

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
            try:
                self.transact(batch, also)
            except Exception as error:  # told to everybody who waits
                self._fail(batch, error)
            if self.error is not None:
                raise self.error
            batch.finish(None)

    def transact(self, batch: Batch, also: Callable[[], None] | None) -> None:
        """One transaction on this thread. Raises what the store raises."""
        self.begin()
        with ending(self.store):
            self._insert(batch)
            if also is not None:
                also()

    def close(self) -> None:
        """Free everything; what is still collected is committed first.

        Raises:
            JournalError: it could not be written. An error that was told before is not told again.
        """
        try:
            if self.error is None:
                self.flush()
        finally:
            if self._writer is not None:
                self._writer.close()
            self.store.close()


__all__ = ["Collecting"]

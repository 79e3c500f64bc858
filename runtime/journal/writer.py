"""The writer thread: commits batches where the loop's thread must not wait, several in one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from carrara.runtime.journal.batch import Batch

Answer = Callable[[Batch, Exception | None], None]
_Job = tuple[Batch, asyncio.AbstractEventLoop, Answer]


class Closing(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


class Writer(Generic[C]):
    """Owns a connection and a thread. `average_s` is how long its commits take; after an error it writes
    nothing more and answers every batch with it. `connect` and `write` are called on its thread."""

    def __init__(self, connect: Callable[[], C], write: Callable[[C, Batch], None]) -> None:
        self.error: Exception | None = None
        self.average_s = 0.0
        self._connect_to = connect
        self._write_to = write
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

    def _connect(self) -> C | None:
        try:
            return self._connect_to()
        except Exception as error:
            self.error = error
            return None

    def _next(self) -> list[_Job]:
        """Everything that waits, once there is something; nothing when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            taken = list(self._jobs)
            self._jobs.clear()
            return taken

    def _write(self, connection: C | None, batches: list[Batch]) -> None:
        if self.error is not None or connection is None:
            return
        begun = perf_counter()
        try:
            self._write_to(connection, _merged(batches))
        except Exception as error:  # told to everybody who waits
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
        whole.forgotten += batch.forgotten
        whole.aside += batch.aside
        whole.blobs += batch.blobs
    return whole

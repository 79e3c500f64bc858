"""The keeper thread: heartbeats of the runs that are open, and checkpoints that keep the WAL file small.

Both wait for the disk, so neither happens on the loop's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import time

from carrara.runtime.errors import JournalError
from carrara.runtime.journal.lease import BEAT_S
from carrara.runtime.journal.openings import Lease, beat
from carrara.runtime.journal.schema import connect


class Keeper:
    """`hold` and `release` runs; ask for a `checkpoint` when much has been written."""

    def __init__(self, path: Path, clock: Callable[[], float] = time) -> None:
        self._path = path
        self._clock = clock
        self._leases: dict[int, Lease] = {}
        self._lock = Lock()
        self._wake = Event()
        self._closed = False
        self._after: Callable[[], None] | None = None
        self._thread: Thread | None = None

    def hold(self, lease: Lease) -> None:
        with self._lock:
            self._leases[lease.number] = lease
        self._start()

    def release(self, run: int) -> None:
        with self._lock:
            self._leases.pop(run, None)

    def checkpoint(self, after: Callable[[], None]) -> None:
        """Move the WAL into the file and start it anew; `after` is then called on the keeper's thread."""
        self._after = after
        self._start()
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._work, name="carrara-journal-keeper", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while not self._closed:
            if self._wake.wait(BEAT_S):
                self._wake.clear()
            if self._closed:
                return
            after, self._after = self._after, None
            # What fails here fails again, and loudly, when the next step is committed.
            with suppress(sqlite3.Error, JournalError):
                self._keep(checkpoint=after is not None)
            if after is not None:
                after()

    def _keep(self, *, checkpoint: bool) -> None:
        connection = connect(self._path, create=False)
        try:
            if checkpoint:
                # The first pass copies and syncs the bulk beside the writers, the second stops them for the
                # rest.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                connection.execute("PRAGMA busy_timeout=200")
                connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            # Also the first write into a WAL started anew, which syncs its header: better here than in a
            # step.
            with self._lock:
                held = tuple(self._leases.values())
            for lease in held:
                beat(connection, lease, self._clock())
        finally:
            connection.close()

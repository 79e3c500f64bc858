"""The journal on a PostgreSQL server: the promises of the SQLite one, for coordinators on many machines.

Every batch is one transaction, which first takes the lease of its runs anew: it writes their heartbeats where their
openings are still those that this process has begun. Whoever has taken up a run in the meantime has counted its
openings up; then nothing of the batch is written. A batch whose end was not heard of, because the server went away, is
written again: what is there already stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event, Lock, Thread

from sqlalchemy.exc import SQLAlchemyError

from carrara.runtime.errors import JournalError
from carrara.runtime.journal.batch import Batch, insert
from carrara.runtime.journal.collecting import Collecting
from carrara.runtime.journal.lease import BEAT_S
from carrara.runtime.journal.openings import Lease, beat
from carrara.runtime.journal.postgres_store import PATIENCE_S, Place, PostgresStore
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.journal.schema import RUN_SPAN
from carrara.runtime.journal.store import ending
from carrara.runtime.journal.writer import Writer

_KNOWN = " ON CONFLICT DO NOTHING"
"""Only the holder of a run's lease writes under its ids: what is there is this very row, from before."""


class TakenUp(JournalError):
    """Another process has taken up the run; this one writes nothing more of it."""


class Leases:
    """The runs that this process runs. Heartbeats are written with each batch, and by a thread where none comes."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._held: dict[int, Lease] = {}
        self._lock = Lock()
        self._closed = Event()
        self._thread: Thread | None = None

    def hold(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.number] = lease
        if self._thread is None:
            self._thread = Thread(target=self._work, name="carrara-journal-keeper", daemon=True)
            self._thread.start()

    def release(self, run: int) -> None:
        with self._lock:
            self._held.pop(run, None)

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def fence(self, store: PostgresStore, runs: Iterable[int]) -> None:
        """Write the heartbeats of `runs`, within the transaction that writes their rows.

        Raises:
            TakenUp: one of them is another process's now.
        """
        now = store.now()
        for number in sorted(runs):  # in one order, so that no two transactions wait for each other
            with self._lock:
                lease = self._held.get(number)
            if lease is None or not beat(store, lease, now):
                raise TakenUp(
                    f"journal {store.shown}: another process has taken up a run that this one was running, because "
                    "its heartbeat had stopped; this process writes nothing more of it"
                )

    def _work(self) -> None:
        store = PostgresStore(self._place, patience_s=0.0)
        while not self._closed.wait(BEAT_S):
            with self._lock:
                held = tuple(self._held.values())
            try:
                now = store.now()
                for lease in held:
                    beat(store, lease, now)  # whether it is lost is found with the next batch
            except SQLAlchemyError:
                continue  # what fails here fails again, and loudly, when the next step is committed
        store.close()


class PostgresGroup(Collecting):
    """Batches go to the writer's thread: while one is under way the next collects. Long payloads stay where they are:
    the server compresses them."""

    store: PostgresStore

    def __init__(self, place: Place, leases: Leases, patience_s: float) -> None:
        store = PostgresStore(place, patience_s=patience_s)
        try:
            store.prepare(create=True)
        except BaseException:
            store.close()
            raise
        super().__init__(store)
        self._leases = leases

    def hold(self, text: str) -> str:
        return text

    def begin(self) -> None:
        self.store.execute("BEGIN")

    def transact(self, batch: Batch, also: Callable[[], None] | None) -> None:
        once = super().transact
        self.store.lasting(lambda: once(batch, also))

    def _turn(self) -> None:
        self._due = False
        if not self.batch.size:  # flushed in this turn already, and perhaps closed since
            return
        batch, self.batch = self.batch, Batch()
        if self.error is not None:
            batch.finish(self.error)
        else:
            self._hand_over(batch)

    def _new_writer(self) -> Writer[PostgresStore]:
        return Writer(self.store.another, self._write)

    def _write(self, store: PostgresStore, batch: Batch) -> None:
        """On the writer's thread."""

        def once() -> None:
            store.execute("BEGIN")
            with ending(store):
                self._put(store, batch)

        store.lasting(once)

    def _insert(self, batch: Batch) -> None:
        self._put(self.store, batch)

    def _put(self, store: PostgresStore, batch: Batch) -> None:
        numbered = {row[0] // RUN_SPAN for rows in (batch.steps, batch.events) for row in rows}
        jobs = {row[0] for row in (*batch.rows, *batch.forgotten)}
        self._leases.fence(store, numbered | jobs)
        insert(store, batch, _KNOWN)


class PostgresJournal(Recorder):
    """A journal on a server. `place` is `postgresql://user@host/database`, with `#schema` for another schema than
    "carrara". Passwords are best left to PGPASSWORD or ~/.pgpass; one in the URL is never shown or written down.

    A run waits `patience_s` seconds for a server that goes away.
    """

    def __init__(self, place: str, *, patience_s: float = PATIENCE_S) -> None:
        """Connect, and make the tables if need be.

        Raises:
            JournalError: the server cannot be reached or written, or holds a newer journal.
        """
        where = Place.of(place)
        leases = Leases(where)
        super().__init__(PostgresGroup(where, leases, patience_s), leases, where.shown)


def reading_store(place: str) -> PostgresStore:
    """A connection to read a journal. Raises JournalError, or UnknownRun where there is none."""
    store = PostgresStore(Place.of(place))
    try:
        store.prepare(create=False)
    except BaseException:
        store.close()
        raise
    return store


__all__ = ["Leases", "PostgresJournal", "TakenUp", "reading_store"]

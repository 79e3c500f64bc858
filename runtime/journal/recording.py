"""Writing a journal: what `api.Journal` promises, for every store; the reading side is its base.

A store brings the group that commits what is recorded, and the keeper of the heartbeats.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any, Protocol

from carrara.runtime.codec import CodecError, encode
from carrara.runtime.errors import JournalError
from carrara.runtime.events import Event, RunFinished, RunStarted, StepFinished, to_data
from carrara.runtime.identity import identity
from carrara.runtime.journal import openings, sameness
from carrara.runtime.journal.api import Done, Key, RunRecord, StepRecord, StoredStep
from carrara.runtime.journal.batch import INLINE
from carrara.runtime.journal.collecting import Collecting
from carrara.runtime.journal.durations import Latencies
from carrara.runtime.journal.openings import Lease, Status
from carrara.runtime.journal.reading import Reader, Row, RunSummary
from carrara.runtime.journal.sameness import EqualStep
from carrara.runtime.journal.schema import (
    FAILED,
    REUSABLE,
    RUN_SPAN,
    UNKEPT,
    UNKEYED,
)
from carrara.runtime.journal.store import ending
from carrara.runtime.journal.stored import Finished, Places, record_of
from carrara.runtime.step import StepSpec

_AWAY = 1 << 40
"""More than any place of a row."""

_HELD: set[tuple[str, int]] = set()
"""(journal, run) of the runs that are open in this process: a lease alone cannot tell two journals in it apart."""


class Keeping(Protocol):
    """Keeps the heartbeats of the runs that are open."""

    def hold(self, lease: Lease) -> None: ...

    def release(self, run: int) -> None: ...

    def close(self) -> None: ...


class KeptSteps(Protocol):
    """The steps that the rows of a job, as an earlier opening has left them, were made with."""

    def owner(self, step: int) -> int | None:
        """The place of the record that a step is for, None where it is for none."""
        ...

    def steps(self, place: int) -> Sequence[int]:
        """Those of the row in a place whose record runs again, as far as they are known."""
        ...


@dataclass(slots=True)
class _Open:
    """A run that this journal is writing: its lease, its first place in this opening and its next free one, what this
    opening has done. Of a job `kept` are the rows of before; `made_with` are the steps of the records at work, and
    `own` those that their rows of before were made with, by the place of the record."""

    lease: Lease
    first: int
    next: int
    workflow: str
    kept: KeptSteps | None = None
    made_with: dict[int, list[int]] = field(default_factory=dict)
    own: dict[int, Mapping[tuple[str, int], list[EqualStep]]] = field(default_factory=dict)
    latencies: Latencies = field(default_factory=Latencies)
    steps: int = 0
    reused: int = 0

    def record_of(self, path: str) -> int | None:
        """The place of the record that a path is in, None in a run that is no job."""
        return None if self.kept is None else record_of(path)

    def placed(self, event: Event) -> tuple[int, str]:
        """The row of an event, at the next place."""
        place = self.next
        self.next = place + 1
        return place, encode(to_data(event))


class Recorder(Reader):
    """A journal that runs are written to. One at a time per event loop; other processes may have theirs.

    `identified` tells the place from every other one, however it is spelt.
    """

    def __init__(self, group: Collecting, keeper: Keeping, identified: str) -> None:
        super().__init__(group.store)
        self._group = group
        self._keeper = keeper
        self._identified = identified
        self._runs: dict[str, _Open] = {}
        self._pid = os.getpid()
        self._unhashable: dict[str, str] = {}
        self._indexes: set[str] = set()

    # -- runs -----------------------------------------------------------------------------------------

    def open_run(self, run: RunRecord) -> None:
        """Begin or reopen a run; durable when it returns.

        Raises:
            JournalError: the store cannot be written, or another process is running this run.
        """
        if run.run_id in self._runs:
            raise _runs_here(run.run_id)
        self._group.renew()
        with self._writing(run.run_id):
            lease = openings.begin(self._connection, run, self._connection.now())
            number = lease.number
            if (self._identified, number) in _HELD:
                raise _runs_here(run.run_id)
            first = number * RUN_SPAN
            if not lease.is_new:
                first = openings.next_place(self._connection, number)
        self._runs[run.run_id] = opened = _Open(lease, first, first, run.workflow)
        started = RunStarted(run.run_id, run.started_at, run.workflow, not lease.is_new)
        self._group.batch.events.append(opened.placed(started))  # goes along with the first commit
        _HELD.add((self._identified, number))
        self._keeper.hold(lease)

    def note_source(self, run_id: str, source: str) -> None:
        """Write down another source of a run that is open here; durable when it returns.

        Raises:
            JournalError: the store cannot be written.
        """
        with self._writing(run_id):
            openings.note_source(self._connection, self._runs[run_id].lease.number, source)

    def close_run(
        self, run_id: str, ok: bool, error: str, seconds: float, *, cut: bool = False
    ) -> None:
        """End a run, learn from its latencies, give its lease back; durable when it returns.

        Raises:
            JournalError: something of it could not be written; the run can be resumed.
        """
        run = self._runs[run_id]
        number = run.lease.number
        steps = run.steps + run.reused
        ended = RunFinished(run_id, time(), ok, error, seconds, steps, run.reused, cut)
        status: Status = "done" if ok else "interrupted" if cut else "failed"
        self._group.batch.events.append(run.placed(ended))

        def end() -> None:
            openings.end(self._connection, number, status, _text(error), seconds)
            self._durations.learn(self._connection, run.workflow, run.latencies, time())

        try:
            self._group.flush(also=end)
        finally:
            del self._runs[run_id]
            _HELD.discard((self._identified, number))
            self._keeper.release(number)

    @contextmanager
    def _writing(self, run_id: str) -> Iterator[None]:
        """A transaction on this thread that waits for the lock."""
        try:
            self._group.begin()
            with ending(self._connection):
                yield
        except self._connection.errors as error:
            raise self._connection.failure(error, run_id) from error

    # -- steps ----------------------------------------------------------------------------------------

    def finished(self, run_id: str) -> Mapping[Key, StoredStep]:
        """The reusable steps of this run's earlier openings, by key; payloads are read when asked for. Those of a job's
        finished rows are not among them: row `i` is what `record[i]` gave, and needs them no more."""
        run = self._runs[run_id]
        if run.lease.is_new:
            return {}
        number = run.lease.number
        with self._reading():
            places = self._connection.execute(
                "SELECT place FROM rows WHERE run=? AND state='done' ORDER BY place", (number,)
            )
            settled = Places(place for (place,) in places)
            return Finished(self._connection, number * RUN_SPAN, (number + 1) * RUN_SPAN, settled)

    def equal_steps(
        self, run_id: str, key: Key, same: StoredStep | None, *, repeatable: bool
    ) -> Iterator[StoredStep]:
        """See `Journal`. Of many equal steps only some are looked at (`sameness.MOST`)."""
        run = self._runs[run_id]
        own = [step.stored for step in self._own(run, key)]
        first = own if same is None else [*own, same]
        yield from first
        given = {stored.place for stored in first}
        for stored in (step.stored for step in self._each_equal(run, key)):
            mine = repeatable or not self.is_anothers(run_id, key, stored)
            if mine and stored.place not in given:
                yield stored

    def is_anothers(self, run_id: str, key: Key, step: StoredStep) -> bool:
        """See `Journal`."""
        kept = self._runs[run_id].kept
        owner = None if kept is None else kept.owner(step.place)
        return owner is not None and owner != record_of(key.path)

    def take(self, run_id: str, key: Key, step: StoredStep) -> None:
        """See `Journal`."""
        run = self._runs[run_id]
        record = run.record_of(key.path)
        if record is not None:
            run.made_with.setdefault(record, []).append(step.place)

    def made_with(self, run_id: str, place: int) -> list[int]:
        """The steps of the record in a place, made or taken in this opening. It has ended: they are let go of."""
        run = self._runs[run_id]
        run.own.pop(place, None)
        return run.made_with.pop(place, [])

    def _own(self, run: _Open, key: Key) -> list[EqualStep]:
        """The steps that the row of its record was made with."""
        record = run.record_of(key.path)
        if record is None or run.kept is None:
            return []
        found = run.own.get(record)
        if found is None:
            opening = sameness.Opening(run.lease.number, run.first)
            with self._reading():
                found = sameness.in_places(self._connection, run.kept.steps(record), opening)
            run.own[record] = found
        return sameness.ranked(key, found.get((key.identity, key.occurrence), ()))

    def _each_equal(self, run: _Open, key: Key) -> Iterator[EqualStep]:
        opening = sameness.Opening(run.lease.number, run.first)
        nearest: list[EqualStep] = []
        with self._reading():
            self._index(sameness.BY_SAMENESS)
            if sameness.BY_PATH in self._indexes:  # there are many: 0.1 ms instead of 1.3
                here = sameness.at_path(self._connection, key, opening)
                nearest = [step for step in here if step.is_own or run.lease.is_new]
        yield from sameness.ranked(key, nearest)
        with self._reading():
            found = sameness.newest(self._connection, key, opening)
            if len(found) >= sameness.MOST:
                self._index(sameness.BY_PATH)
                found += sameness.at_path(self._connection, key, opening)
        given = {step.stored.place for step in nearest}
        yield from sameness.ranked(key, (s for s in found if s.stored.place not in given))

    def keep_rows(self, run_id: str, kept: KeptSteps) -> None:
        """The run is a job's: what the rows of before were made with is no other record's, unless it is repeatable."""
        self._runs[run_id].kept = kept

    def _index(self, statement: str) -> None:
        """Made by the first who reuses results across runs: everybody else's commits stay a page smaller."""
        if statement not in self._indexes:
            with self._writing(""):
                self._connection.execute(statement)
            self._indexes.add(statement)

    def identity(self, spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The hash of definition and inputs, "" where there is none; why is kept with the record."""
        if not spec.fingerprint:
            return ""
        try:
            return identity(spec.fingerprint, args, kwargs)
        except CodecError as error:
            self._unhashable[spec.name] = f"an input cannot be hashed: {error}"
            return ""

    def record(self, step: StepRecord, done: Done) -> None:
        """Write a step down with the next group commit.

        Raises:
            ValueError: the value cannot be stored; the message names step and part.
        """
        run = self._runs[step.run_id]
        group = self._group
        key = step.key
        spec = step.spec
        payload: str | bytes | None = None
        error: str | None = _text(step.error) or None
        if step.status == "failed":
            status = FAILED
        elif not step.keep:
            status = UNKEPT
        elif not key.identity:
            status = UNKEYED
            error = self._unhashable.get(spec.name, "its definition has no fingerprint")
        else:
            status = REUSABLE
            try:
                payload = encode(step.value, spec.returns)
            except CodecError as reason:
                raise _unstorable(step, reason) from reason
            if len(payload) > INLINE:
                payload = group.hold(payload)
        if status != FAILED:
            run.steps += 1
            run.latencies.add(spec.name, key.path, step.ordinal, step.seconds)
        place = run.next
        run.next = place + 1
        if status == REUSABLE and (record := run.record_of(key.path)) is not None:
            run.made_with.setdefault(record, []).append(place)
        group.put_step(
            (
                place,
                key.path,
                key.identity,
                key.occurrence,
                spec.fingerprint,
                status,
                payload,
                error,
                step.node,
                step.ordinal,
                step.attempt,
                self._pid,
                step.ready_at,
                step.started_at,
                step.seconds,
            ),
            done,
        )
        self._written()

    def event(self, run_id: str, event: Event) -> None:
        """Write an event down with the next group commit. The run's own beginning and end are written by
        `open_run` and `close_run`."""
        if isinstance(event, RunStarted | RunFinished):
            return
        run = self._runs[run_id]
        if isinstance(event, StepFinished) and event.reused:
            run.reused += 1
        self._group.batch.events.append(run.placed(event))
        self._group.push()

    # -- rows of jobs -----------------------------------------------------------------------------------

    def put_row(
        self,
        run_id: str,
        place: int,
        key: str,
        state: str,
        payload: Any = None,
        *,
        error: str = "",
        done: Done | None = None,
        replaces: bool = False,
        aside: int | None = None,
    ) -> None:
        """Write an output row with the next group commit. A row whose state is "done" is never written again, unless
        this one `replaces` it, in the same transaction, in which the old one can be set `aside` (see `set_rows_aside`);
        one of another state is replaced by the next try. `done` is called as for `record`.

        Raises:
            ValueError: the payload cannot be stored.
        """
        run = self._runs[run_id]
        text = None if payload is None else encode(payload)
        held = self._group.hold(text) if text is not None and len(text) > INLINE else text
        batch = self._group.batch
        if replaces and aside is not None:
            batch.aside.append((run.lease.number, place, aside))
        elif replaces:
            batch.forgotten.append((run.lease.number, place))
        batch.rows.append((run.lease.number, place, key, state, held, _text(error)))
        if done is not None:
            batch.dones.append(done)
        self._group.push()

    def forget_rows(self, run_id: str, places: Iterable[int]) -> None:
        """Forget output rows of a run that is open here; durable when it returns. They can be written again.

        Raises:
            JournalError: the store cannot be written.
        """
        number = self._runs[run_id].lease.number
        self._group.batch.forgotten += [(number, place) for place in places]
        self._group.flush()

    def move_rows(self, run_id: str, old: Sequence[int], new: Sequence[int]) -> None:
        """Let output rows of a run that is open here go from their `old` places to the `new` ones, all at once; durable
        when it returns. What stands in a place to which one goes, and goes nowhere itself, is forgotten.

        Raises:
            JournalError: the store cannot be written.
        """
        number = self._runs[run_id].lease.number
        self._group.flush()
        with self._writing(run_id):
            write = self._connection
            # By way of places that no row has: one goes where another comes from.
            write.executemany(
                "UPDATE rows SET place=? WHERE run=? AND place=?",
                ((_AWAY + to, number, place) for place, to in zip(old, new, strict=True)),
            )
            write.executemany(
                "DELETE FROM rows WHERE run=? AND place=?", ((number, place) for place in new)
            )
            write.execute(
                "UPDATE rows SET place=place-? WHERE run=? AND place>=?", (_AWAY, number, _AWAY)
            )

    def forget_row(self, run_id: str, place: int) -> None:
        """The same for one row, with the next group commit."""
        self._group.batch.forgotten.append((self._runs[run_id].lease.number, place))
        self._group.push()

    def set_rows_aside(self, run_id: str, moves: Iterable[tuple[int, int]]) -> None:
        """Keep only the keys of output rows of a run that is open here: each moves from its place to the other one,
        below 0 and free, where it counts as no row and can be forgotten; durable when it returns.

        Raises:
            JournalError: the store cannot be written.
        """
        number = self._runs[run_id].lease.number
        self._group.batch.aside += [(number, *move) for move in moves]
        self._group.flush()

    def rows_aside(self, run_id: str) -> Iterator[tuple[int, str]]:
        self.flush()
        return super().rows_aside(run_id)

    def rows(self, run_id: str) -> list[Row]:
        self.flush()
        return super().rows(run_id)

    def timeline(self, run_id: str) -> list[Event]:
        self.flush()
        return super().timeline(run_id)

    def events(self, run_id: str) -> Iterator[Event]:
        self.flush()
        return super().events(run_id)

    def runs(self, limit: int | None = None) -> list[RunSummary]:
        self.flush()
        return super().runs(limit)

    # -- the store -----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Wait until everything recorded so far is written.

        Raises:
            JournalError: it could not be.
        """
        self._group.flush()

    def _written(self) -> None:
        """Called after each step."""

    def close(self) -> None:
        """Write what is left and close the store. Idempotent.

        Raises:
            JournalError: something could not be written, and nobody was told so before.
        """
        self._keeper.close()
        try:
            if self._durations.is_dirty and self._group.error is None:
                self._group.flush(also=lambda: self._durations.write(self._connection, time()))
        finally:
            self._group.close()


def _text(error: str) -> str:
    """A reason as text that every store takes: one may quote half a character."""
    return error if error.isascii() else error.encode(errors="backslashreplace").decode()


def _runs_here(run_id: str) -> JournalError:
    return JournalError(f"run {run_id} is running in this process already", run=run_id)


def _unstorable(step: StepRecord, reason: CodecError) -> ValueError:
    return ValueError(f"step {step.key.path!r} returned {type(step.value).__qualname__}: {reason}")

"""Reading a journal: which runs there are, what they were given, what they wrote down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from carrara.engines.nearest import nearest
from carrara.runtime.codec import decode
from carrara.runtime.database_url import is_server
from carrara.runtime.errors import JournalError, UnknownRun
from carrara.runtime.events import Accepted, Event, RunStarted, from_data
from carrara.runtime.journal.batch import read_payload
from carrara.runtime.journal.durations import Durations
from carrara.runtime.journal.lease import Holder
from carrara.runtime.journal.schema import FAILED, RUN_SPAN, connect_to_read
from carrara.runtime.journal.store import SqliteStore, Store
from carrara.runtime.timeline import StepRow, by_node, timeline

DEFAULT_PATH = Path(".carrara") / "journal.db"
"""Where the command line keeps the journal, from the working folder."""

RunStatus = Literal["running", "interrupted", "done", "failed"]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as the list shows it.

    "interrupted": it was stopped, or its process is gone; `resume` takes it up. A job is "failed" where none of
    its records succeeded. `seconds` of the last opening, None while it runs or where the process died; `steps`
    that ended well, `failures` that did not, over all openings; of a job that has rows the records that failed.
    `openings` is 1, and 1 more for each resume. `no_resume` says why it cannot be resumed from its stored
    inputs, "" if it can.
    """

    run_id: str
    workflow: str
    source: str
    status: RunStatus
    error: str
    started_at: float
    ended_at: float | None
    seconds: float | None
    steps: int
    failures: int
    openings: int
    versions: Mapping[str, str]
    no_resume: str


@dataclass(frozen=True, slots=True)
class Row:
    """One output row of a job. `state` is "done" or what the job called a row that is not; `payload`
    is None where it was given none."""

    place: int
    key: str
    state: str
    payload: Any
    error: str


class Reader:
    """Reads one journal. Other processes may write it meanwhile. `shown` is its place for messages."""

    def __init__(self, store: Store) -> None:
        self.shown = store.shown
        self._connection = store
        self._durations = Durations()

    @classmethod
    def open(cls, place: Path | str = DEFAULT_PATH) -> Reader:
        """The journal in a file, or at the URL of a PostgreSQL server.

        Raises:
            UnknownRun: there is no journal. JournalError: it cannot be read.
            CarraraError: the packages for PostgreSQL are not installed.
        """
        if isinstance(place, str) and is_server(place):
            from carrara.runtime.journal.opening import server_to_read

            return Reader(server_to_read(place))
        where = Path(place)
        return Reader(SqliteStore(where, connect_to_read(where)))

    def another(self) -> Reader:
        """A second reader of the same journal. Raises JournalError."""
        return Reader(self._connection.another())

    def runs(self, limit: int | None = None) -> list[RunSummary]:
        """The newest first."""
        with self._reading():
            found = self._connection.execute(
                f"{_RUNS} ORDER BY started_at DESC, run DESC LIMIT ?",
                (_ALL if limit is None else limit,),
            ).fetchall()
            return [self._summary(row) for row in found]

    def find(self, name: str) -> RunSummary:
        """The run with this id, the only one whose id starts so, or the newest for "last".

        Raises:
            UnknownRun: there is none, or more than one.
        """
        if name == "last":
            newest = self.runs(1)
            if not newest:
                raise UnknownRun(f"journal {self.shown} holds no runs yet")
            return newest[0]
        with self._reading():
            found = self._connection.execute(
                f"{_RUNS} WHERE run_id=? OR substr(run_id, 1, ?)=?"
                " ORDER BY run_id<>?, started_at DESC LIMIT 6",
                (name, len(name), name, name),
            ).fetchall()
            if not found or not name:
                raise UnknownRun(
                    f"journal {self.shown} holds no run {name!r}.{self._meant(name)} `carrara runs` lists them.",
                    run=name,
                )
            if len(found) > 1 and found[0][1] != name:
                ids = ", ".join(row[1] for row in found[:5])
                more = ", …" if len(found) > 5 else ""
                raise UnknownRun(f"{name!r} could be any of the runs {ids}{more}", run=name)
            return self._summary(found[0])

    def inputs(self, run_id: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the workflow was called with.

        Raises:
            JournalError: there is no such run, or its arguments could not be stored or read.
        """
        with self._reading():
            row = self._connection.execute(
                "SELECT inputs, inputs_error FROM runs WHERE run=?", (self._number(run_id),)
            ).fetchone()
            if row[0] is None:
                raise JournalError(
                    f"run {run_id} cannot be resumed from its journal: {row[1]}", run=run_id
                )
            try:
                args, kwargs = decode(row[0])
            except ValueError as error:
                raise JournalError(f"the inputs of run {run_id}: {error}", run=run_id) from error
            return tuple(args), kwargs

    def durations(self, workflow: str) -> Mapping[str, float]:
        """Mean seconds by "path", "path#ordinal" and step name, weighted towards the newest runs."""
        with self._reading():
            return dict(self._durations.of(self._connection, workflow))

    def rows(self, run_id: str) -> list[Row]:
        """The output rows of a job, in the order of their places."""
        with self._reading():
            return [
                Row(place, key, state, self._value(payload), error)
                for place, key, state, payload, error in self._connection.execute(
                    "SELECT place, key, state, payload, error FROM rows WHERE run=? AND place>=0"
                    " ORDER BY place",
                    (self._number(run_id),),
                )
            ]

    def rows_from(self, run_id: str, place: int, limit: int) -> list[Row]:
        """The first `limit` rows at `place` and after it."""
        with self._reading():
            return [
                Row(place, key, state, self._value(payload), error)
                for place, key, state, payload, error in self._connection.execute(
                    "SELECT place, key, state, payload, error FROM rows WHERE run=? AND place>=?"
                    " ORDER BY place LIMIT ?",
                    (self._number(run_id), place, limit),
                ).fetchall()
            ]

    def each_row(self, run_id: str) -> Iterator[Row]:
        """All of them, a page at a time."""
        place = 0
        while page := self.rows_from(run_id, place, _PAGE):
            yield from page
            place = page[-1].place + 1

    def rows_aside(self, run_id: str) -> Iterator[tuple[int, str]]:
        """The places, below 0, and keys of the rows that were set aside (see `Recorder.set_rows_aside`), a page at a
        time."""
        place = 0
        while True:
            with self._reading():
                page = self._connection.execute(
                    "SELECT place, key FROM rows WHERE run=? AND place<? ORDER BY place DESC LIMIT ?",
                    (self._number(run_id), place, _PAGE),
                ).fetchall()
            if not page:
                return
            yield from page
            place = page[-1][0]

    def events(self, run_id: str) -> Iterator[Event]:
        """Everything that happened in a run, over all its openings, node after node: see `by_node`. Memory does not
        grow with the run, unlike that of `timeline`.

        Raises:
            JournalError: there is no such run, or an event of it cannot be read.
        """
        with self._reading():
            number = self._number(run_id)
            workflow, started_at = self._connection.execute(
                "SELECT workflow, started_at FROM runs WHERE run_id=?", (run_id,)
            ).fetchone()
        steps = map(_step_row, self._pages(_STEPS, number))
        told = ((place, decode(data)) for place, data in self._pages(_EVENTS, number))
        try:
            first = True
            for event in by_node(run_id, steps, told):
                if first and not isinstance(event, RunStarted):  # it died before its first commit
                    yield RunStarted(run_id, started_at, workflow)
                first = False
                yield event
        except ValueError as error:
            raise JournalError(f"the events of run {run_id}: {error}", run=run_id) from error
        if first:
            yield RunStarted(run_id, started_at, workflow)

    def _pages(self, query: str, number: int) -> Iterator[Sequence[Any]]:
        """The rows of a query by their id, a page at a time: others may write meanwhile."""
        place, end = _span(number)
        while True:
            with self._reading():
                page = self._connection.execute(
                    f"{query} WHERE id>=? AND id<? ORDER BY id LIMIT ?", (place, end, _PAGE)
                ).fetchall()
            yield from page
            if len(page) < _PAGE:
                return
            place = page[-1][0] + 1

    def accepted(self, place: int) -> Accepted | None:
        """What was told of the answer that is the result of the step at a place; None where nothing was.

        Raises:
            JournalError: an event of the run cannot be read.
        """
        with self._reading():
            step = self._connection.execute(
                "SELECT path, node FROM steps WHERE id=?", (place,)
            ).fetchone()
        for event in self._back_from(place) if step else ():
            if isinstance(event, RunStarted):  # another opening has other nodes
                return None
            if isinstance(event, Accepted) and (event.path, event.node) == tuple(step):
                return event
        return None

    def _back_from(self, place: int) -> Iterator[Event]:
        """The events of a run before a place, the newest first."""
        low = place - place % RUN_SPAN
        while True:
            with self._reading():
                page = self._connection.execute(
                    f"{_EVENTS} WHERE id>=? AND id<? ORDER BY id DESC LIMIT {_FEW}", (low, place)
                ).fetchall()
            for _, data in page:
                try:
                    yield from_data(decode(data))
                except ValueError as error:
                    raise JournalError(f"the events in {self.shown}: {error}") from error
            if len(page) < _FEW:
                return
            place = page[-1][0]

    def timeline(self, run_id: str) -> list[Event]:
        """Everything that happened in a run, over all its openings, in order.

        Raises:
            JournalError: there is no such run, or an event of it cannot be read.
        """
        with self._reading():
            span = _span(self._number(run_id))
            workflow, started_at = self._connection.execute(
                "SELECT workflow, started_at FROM runs WHERE run_id=?", (run_id,)
            ).fetchone()
            steps = self._connection.execute(f"{_STEPS} WHERE id>=? AND id<?", span)
            events = self._connection.execute(f"{_EVENTS} WHERE id>=? AND id<?", span)
            try:
                told = [(place, decode(data)) for place, data in events]
                found = timeline(run_id, map(_step_row, steps), told)
            except ValueError as error:
                raise JournalError(f"the events of run {run_id}: {error}", run=run_id) from error
        if not found or not isinstance(found[0], RunStarted):  # it died before its first commit
            found.insert(0, RunStarted(run_id, started_at, workflow))
        return found

    def _meant(self, name: str) -> str:
        """What may have been meant by the name of a run, as a sentence."""
        newest = self._connection.execute(f"{_RUNS} ORDER BY started_at DESC LIMIT 200").fetchall()
        meant = nearest(name, ["last", *(row[1] for row in newest)])
        return "" if meant is None else f" Did you mean {meant!r}?"

    def _value(self, payload: str | bytes | None) -> Any:
        return None if payload is None else decode(read_payload(self._connection, payload))

    def _number(self, run_id: str) -> int:
        found = self._connection.execute(
            "SELECT run FROM runs WHERE run_id=?", (run_id,)
        ).fetchone()
        if found is None:
            raise UnknownRun(f"journal {self.shown} holds no run {run_id!r}", run=run_id)
        return int(found[0])

    def _summary(self, row: Sequence[Any]) -> RunSummary:
        number, status, inputs, versions = row[0], row[4], row[9], row[11]
        steps, failures = self._connection.execute(
            f"SELECT count(*) FILTER (WHERE status<>{FAILED}), count(*) FILTER (WHERE status={FAILED})"
            " FROM steps WHERE id>=? AND id<?",
            _span(number),
        ).fetchone()
        bad, records = self._connection.execute(
            "SELECT count(*) FILTER (WHERE state<>'done'), count(*) FROM rows WHERE run=? AND place>=0",
            (number,),
        ).fetchone()
        error = row[5]
        if status == "done" and records and bad == records:
            status, error = "failed", f"none of its {records} records succeeded"
        return RunSummary(
            run_id=row[1],
            workflow=row[2],
            source=row[3],
            status=status if status != "running" else _running_or_not(row, self._connection.now()),
            error=error,
            started_at=row[6],
            ended_at=row[7],
            seconds=row[8],
            steps=steps,
            failures=bad if records else failures,
            openings=row[10],
            versions=json.loads(versions),
            no_resume="" if inputs is not None else row[12],
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except self._connection.errors as error:
            raise self._connection.failure(error) from error

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_PAGE = 256
_FEW = 16
_STEPS = "SELECT id, path, node, status, error, attempt, ready_at, started_at, seconds FROM steps"
_EVENTS = "SELECT id, data FROM events"
_ALL = 1 << 60
"""More rows than there are."""

_RUNS = """SELECT run, run_id, workflow, source, status, error, started_at, ended_at, seconds, inputs,
 openings, versions, inputs_error, host, pid, born, beat_at FROM runs"""


def _running_or_not(row: Sequence[Any], now: float) -> RunStatus:
    host, pid, born, beat_at = row[13:17]
    alive = host and Holder(host, pid, born).is_alive(beat_at=beat_at, now=now)
    return "running" if alive else "interrupted"


def _span(number: int) -> tuple[int, int]:
    return number * RUN_SPAN, (number + 1) * RUN_SPAN


def _step_row(row: Sequence[Any]) -> StepRow:
    place, path, node, status, error, attempt, ready_at, started_at, seconds = row
    return StepRow(
        place, path, node, status == FAILED, error or "", attempt, ready_at, started_at, seconds
    )

"""What a job writes to while it runs: its rows, the files beside them, and what an earlier process had done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from carrara.runtime.database_url import shown_url
from carrara.runtime.events import Event, Listener
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.run import run_id_here
from carrara.workflows.batch import Binder, Done
from carrara.workflows.calls import Definition
from carrara.workflows.following import moves_of
from carrara.workflows.kept_rows import EarlierRows, Moves
from carrara.workflows.places import PlaceError
from carrara.workflows.records import Record, SourceError
from carrara.workflows.rows import Row, Rows
from carrara.workflows.rows_aside import RowsAside
from carrara.workflows.sinks.apart import is_same, refuse_filled, refuse_source
from carrara.workflows.sinks.declared import DeclaredRows
from carrara.workflows.sinks.held import held
from carrara.workflows.sinks.opening import is_table, shown
from carrara.workflows.sinks.shape import complete, row_columns
from carrara.workflows.sinks.sink import Sink
from carrara.workflows.sinks.tables import TableSink
from carrara.workflows.still_open import checked, still_open
from carrara.workflows.trust.beside import Trusted, path_beside

if TYPE_CHECKING:
    from carrara.workflows.job import Job


class Opened:
    """What a job writes to, from `begin` on: the rows, what is beside them, and what was there before; `aside` is None
    where the job has had no table. Used in `with`."""

    rows: Rows
    earlier: EarlierRows
    aside: RowsAside | None = None
    trusted: Trusted | None = None
    still_failed = 0
    refused = 0
    refused_of_before = 0
    refused_remade = 0

    def __init__(
        self,
        job: Job,
        workflow: Definition[..., Any],
        binder: Binder,
        journal: Recorder,
        sink: Sink,
        run_id: str | None,
        definition: str,
    ) -> None:
        self._job, self._workflow, self._binder = job, workflow, binder
        self._journal, self._sink, self._run_id = journal, sink, run_id
        self._definition = definition
        self._stack = ExitStack()

    def check(self) -> None:
        """Raises PlaceError where a file would be written over that is not the job's own, or that it reads."""
        job = self._job
        refuse_source(job.input, job.folder, job.place, _files(job, self._sink))
        self._refuse_filled()

    def _refuse_filled(self) -> None:
        job = self._job
        files = _files(job, self._sink)
        if self._run_id is None:
            refuse_filled(files)
            return
        first = job.from_source(self._journal.find(self._run_id).source)
        refuse_filled(files, own=_files(first, self._sink) if _is_own(job, first) else ())

    def _rows_aside(self) -> RowsAside | None:
        """The rows of before that count no more and that a table of the job may hold; None where it has had none."""
        if self._run_id is None:
            return None
        places = self._job.from_source(self._journal.find(self._run_id).source).places
        tables = [number for number, place in enumerate(places) if is_table(place)]
        own = next((each for each in tables if is_same(places[each], self._job.place)), None)
        others = [each for each in tables if each != own]
        table = self._sink if isinstance(self._sink, TableSink) else None
        return RowsAside(self._journal, self._run_id, table, own, others) if tables else None

    def _note_place(self) -> None:
        """Make the output the job's own, before anything of it is written: a job that goes on may be given another,
        where no row of it is left."""
        if self._run_id is not None:
            first = self._job.from_source(self._journal.find(self._run_id).source)
            if not _is_own(self._job, first):
                self._journal.note_source(self._run_id, first.written_to(self._job.output).source)

    def hold(self) -> None:
        """Keep the place to this job. Nothing is written.

        Raises:
            PlaceError: another job has it, or has left something there since `check`.
        """
        self._stack.enter_context(held(self._sink.lock, self._sink.shown))
        self._refuse_filled()

    def begin(self, accept_changes: bool, records: Iterator[Record]) -> Iterator[Record | Done]:
        """Open everything and make it hold what is done; the place is held, and the journal knows of the run. What is
        still open of the `records`, see `still_open`.

        Raises:
            SourceError, OutputError: see `run_job`.
        """
        job, run_id, fresh = self._job, self._run_id, self._run_id is None
        declared = DeclaredRows(complete(row_columns(self._workflow)))
        self.aside = aside = self._rows_aside()
        self.earlier = earlier = EarlierRows(
            self._journal, run_id, self._definition, declared, aside
        )
        self._stack.enter_context(earlier)
        if earlier.unfit and not accept_changes:
            raise PlaceError(_other_types(shown(job.place), earlier))
        shown_input, again = shown_url(job.input), partial(job.records, self._binder.keep)
        if accept_changes and not fresh:
            if job.input == "-":
                raise SourceError("standard input cannot be read twice, as --accept-changes must")
            moves = moves_of(earlier, again, job.limit)
            self._refuse_unfit_behind(earlier, moves)
            self._stack.callback(self._sink.close)
            self._sink.open()  # what is refused there is refused before the journal forgets a row
            earlier.follow(self._journal, moves, again)
            earlier.drop_unfit()
            earlier.let_go(self._journal)
            if earlier.stale:
                earlier.set_outdated_aside(job.limit)
            still = still_open(records, job.limit, earlier, shown_input)
        elif job.input == "-":
            still = still_open(records, job.limit, earlier, shown_input, 0)
        else:
            still = checked(records, again, job.limit, earlier, shown_input)
        self.rows = rows = Rows(self._sink, earlier, job.order, self._refuse, aside)
        trusted = _trusted(job, self._workflow, self._binder, self._sink.failed, self._journal)
        self._note_place()
        rows.begin(fresh=fresh)
        self._stack.enter_context(rows)
        self._stack.callback(self._keep_failed)
        if trusted is not None:
            trusted.begin(earlier, fresh=fresh)
            self._stack.enter_context(trusted)
            self.trusted = trusted
        return still

    def _refuse_unfit_behind(self, earlier: EarlierRows, moves: Moves) -> None:
        """Raises PlaceError where rows do not fit today's types and their records are not to run again: the output
        holds rows of one type."""
        limit = self._job.limit
        if limit is None:
            return
        kept = (place for place in earlier.unfit if place not in moves.dropped)
        behind = [place for place in kept if moves.heir(place) >= limit]
        if behind:
            raise PlaceError(
                f"{shown(self._job.place)}: {len(behind)} of the rows behind --limit {limit} are of another type than "
                f"those that the workflow gives now; {earlier.why_unfit(behind[0])}. Go on without --limit, which runs "
                "their records again; or declare the type that was there before, or begin anew with another --output"
            )

    def _refuse(self, rows: Sequence[Row]) -> None:
        """Rows that counted as done until their table refused them are failed records."""
        run_id = run_id_here()
        for row in rows:
            if self.aside is not None and row.index in self.earlier:
                self.aside.note_elsewhere(row.fields["key"])
        self._journal.forget_rows(run_id, [row.index for row in rows])
        for row in rows:
            fields = row.fields
            self._journal.put_row(
                run_id, row.index, fields["key"], "failed", fields, error=fields["error"]
            )
        self.refused += len(rows)
        self.refused_of_before += sum(row.index in self.earlier for row in rows)
        self.refused_remade += sum(self.earlier.is_outdated(row.index) for row in rows)

    def _keep_failed(self) -> None:
        """What was not tried again is still failed."""
        for fields in self.earlier.still_failed():
            self.rows.put_failed(fields)
            self.still_failed += 1

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Who is to hear the run's events: nobody where nothing is put beside the output, so that none are made."""
        return (self._listen,) if _has_beside(self._job) else ()

    def _listen(self, event: Event) -> None:
        if self.trusted is not None:
            self.trusted.listen(event)

    def close(self) -> None:
        """All rows are there: write what is held, and close everything.

        Raises:
            OutputError: it cannot be written.
        """
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _is_own(job: Job, first: Job) -> bool:
    """Whether the job's output is one that it had before, as `first` in the journal."""
    return any(is_same(place, job.place) for place in first.places)


def _files(job: Job, sink: Sink) -> list[Path]:
    """All files that the job makes anew."""
    found = [path for path in (sink.output, sink.failed) if path is not None]
    if sink.failed is not None and _has_beside(job):
        kinds = ("trust",) if job.review is None else ("trust", "review")
        found += [path_beside(_stands_for(sink.failed), kind) for kind in kinds]
    return found


def _other_types(place: str, earlier: EarlierRows) -> str:
    count, why = len(earlier.unfit), earlier.why_unfit(earlier.unfit[0])
    return (
        f"{place}: {count} of the rows that the job has made are of another type than those that the workflow gives "
        f"now; {why}. --accept-changes drops them and runs their records again; or declare the type that "
        "was there before, or begin anew with another --output"
    )


def _stands_for(failed: Path) -> Path:
    """The file after which those beside the output are called: a table has side files as a file has."""
    return failed.with_name(f"{failed.name.removesuffix('.failed.jsonl')}.jsonl")


def _has_beside(job: Job) -> bool:
    """Whether something is put beside the output."""
    return job.trust or job.review is not None


def _trusted(
    job: Job,
    workflow: Definition[..., Any],
    binder: Binder,
    failed: Path | None,
    journal: Recorder,
) -> Trusted | None:
    """What writes beside the output, where that was asked for."""
    if not _has_beside(job):
        return None
    if failed is None:
        raise PlaceError(f"{shown(job.place)}: nothing can be put beside it; name a file")
    return Trusted(workflow, binder, _stands_for(failed), job.review, journal.accepted)


__all__ = ["Opened"]

"""Jobs: a workflow over many records, one output row for each, exactly once, whatever happens in between.

A finished row is committed to the journal first and to the output file then. A job that was killed goes on
under its run id: its files are rebuilt from the journal, finished records are passed over, half-finished ones
take their finished steps from the journal, failed ones are tried again.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from carrara.runtime.errors import StepError
from carrara.runtime.events import Event, Listener, RunStarted
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.batch import Binder, Outcome, batch_of
from carrara.workflows.calls import Definition
from carrara.workflows.definition_hash import definition_hash
from carrara.workflows.kept_rows import kept_rows, still_open, to_keep
from carrara.workflows.places import OutputError
from carrara.workflows.plain import plain
from carrara.workflows.records import SourceError, content_hash
from carrara.workflows.row_format import job_format
from carrara.workflows.rows import Order, Row, RowFiles
from carrara.workflows.session import Session
from carrara.workflows.target import load_workflow
from carrara.workflows.trust.beside import Trusted

SOURCE_KIND = "job:"
"""How the journal tells the source of a job from that of a single run."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a job is, as plain data; the journal keeps it, so that it can go on after a crash.

    `target` is a pipeline file, "module:name" or "file.py:name"; `columns` maps inputs to the record's
    fields, `constants` gives inputs one value for all records. `limit` takes the first records only. Relative
    paths are meant from `folder`, "" for the working folder; a job that begins notes it down, so that it goes on
    from anywhere. `trust` writes what is known of each field beside the output, `review` also the rows that are less
    sure than it.
    """

    target: str
    input: str
    output: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    concurrency: int = 16
    order: Order = "input"
    folder: str = ""
    trust: bool = False
    review: float | None = None

    def placed(self) -> Job:
        """The job with its folder."""
        return self if self.folder else replace(self, folder=os.getcwd())

    def path(self, name: str) -> str:
        """A file of the job as it is found from the working folder."""
        return name if self.folder in ("", os.getcwd()) else os.path.join(self.folder, name)

    @property
    def source(self) -> str:
        return SOURCE_KIND + json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_source(cls, source: str) -> Job:
        """The inverse of `source`."""
        return cls(**json.loads(source.removeprefix(SOURCE_KIND)))


@dataclass(frozen=True, slots=True)
class JobResult:
    """`done` rows stand in `output`, `reused` of them from before; `failed` ones stand in `failed_output`, None where
    the output is a device or pipe.

    `outdated` of the reused rows were made when the workflow was defined otherwise. `to_review` rows stand in
    `review_output`, too; None where no review was asked for.
    """

    run_id: str
    done: int
    failed: int
    reused: int
    seconds: float
    output: Path
    failed_output: Path | None
    outdated: int = 0
    to_review: int = 0
    review_output: Path | None = None


Seen = Callable[[Outcome], None]
"""Told of every record that ends."""


async def run_job(
    job: Job,
    session: Session,
    *,
    run_id: str | None = None,
    seen: Seen | None = None,
    outdated: Callable[[int], None] | None = None,
    listeners: Sequence[Listener] = (),
) -> JobResult:
    """Run a job, or with `run_id` go on with one that was cut or had failures. Before anything runs `outdated` is
    told how many rows are kept from an earlier definition of the workflow, if there are any.

    Raises:
        SourceError: the input cannot be read at all, or is another one than before.
        InputError: an input is named that the workflow does not have.
        OutputError: an output file cannot be written, or (PlaceError) holds something already.
        JournalError: the journal cannot be written, or another process runs this job.
    """
    job = job.placed()
    workflow = load_workflow(job.target, job.folder)
    journal = session.journal
    if not isinstance(journal, SqliteJournal):
        raise SourceError("a job needs a journal: its rows are committed there first")
    binder = Binder(workflow, columns=job.columns, constants=job.constants)
    definition = definition_hash(workflow)
    earlier = kept_rows(journal.rows(run_id)) if run_id else {}
    stale = sum(row.definition not in ("", definition) for row in earlier.values())
    output = Path(job.path(job.output))
    files = RowFiles(output, job.order, job_format(output, workflow))
    files.begin([Row(place, True, row.fields) for place, row in earlier.items()], fresh=not run_id)
    trusted = _trusted(job, workflow, binder, output, journal, run_id, earlier)
    if trusted is not None:
        trusted.begin({place: row.beside for place, row in earlier.items()}, fresh=not run_id)
    if stale and outdated is not None:
        outdated(stale)
    started = time.perf_counter()
    with files, trusted or nullcontext():
        writer = _Writer(journal, files, definition, seen, trusted)
        records = still_open(job.input, job.limit, earlier, job.folder)
        batch = batch_of(workflow, records, binder, writer.write, concurrency=job.concurrency)
        result = await session.execute(
            batch,
            name=job_name(workflow),
            source=job.source,
            run_id=run_id,
            listeners=(writer.listen, *([trusted.listen] if trusted else []), *listeners),
            settings_of=workflow,
        )
    unsure = trusted.files.get("review") if trusted is not None else None
    return JobResult(
        result.run_id,
        len(earlier) + writer.done,
        writer.failed,
        len(earlier),
        time.perf_counter() - started,
        files.output,
        files.failed,
        stale,
        0 if unsure is None else unsure.count,
        None if unsure is None else unsure.path,
    )


def _trusted(
    job: Job,
    workflow: Definition[..., Any],
    binder: Binder,
    output: Path,
    journal: SqliteJournal,
    run_id: str | None,
    done: Collection[int],
) -> Trusted | None:
    """What writes beside the output, where that was asked for."""
    if not job.trust and job.review is None:
        return None
    earlier = journal.timeline(run_id) if run_id else ()
    return Trusted(workflow, binder, output, job.review, earlier, done)


def job_name(workflow: Definition[..., Any]) -> str:
    return f"{workflow.name} (job)"


def find_job(job: Job, journal: SqliteJournal) -> str | None:
    """The id of the newest run of this very job that can go on, None if there is none.

    How many records run at once does not matter; what, from where and to where does.
    """
    wanted = _same(job)
    for run in journal.runs():
        if run.source.startswith(SOURCE_KIND) and _same(Job.from_source(run.source)) == wanted:
            return run.run_id
    return None


def _same(job: Job) -> tuple[Any, ...]:
    job = job.placed()
    paths = (os.path.join(job.folder, name) for name in (job.target, job.input, job.output))
    return (*paths, dict(job.columns), dict(job.constants), job.order)


class _Writer:
    """Takes outcomes: the journal first, then the files."""

    def __init__(
        self,
        journal: SqliteJournal,
        files: RowFiles,
        definition: str,
        seen: Seen | None,
        trusted: Trusted | None = None,
    ) -> None:
        self._journal = journal
        self._files = files
        self._definition = definition
        self._seen = seen
        self._trusted = trusted
        self._run_id = ""
        self.done = 0
        self.failed = 0

    def listen(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._run_id = event.run_id

    async def write(self, outcome: Outcome) -> None:
        record = outcome.record
        row = self._row(outcome)
        durable = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if not durable.done():
                durable.set_result(error)

        state, reason = ("done", "") if row.ok else ("failed", row.fields["error"])
        trusted = self._trusted
        beside = await trusted.beside(record, row.fields if row.ok else None) if trusted else None
        content = content_hash(record)
        payload = to_keep(row.fields, content, self._definition, beside) if row.ok else None
        self._journal.put_row(
            self._run_id, record.index, record.key, state, payload, error=reason, done=done
        )
        error = await durable
        if error is not None:
            raise error
        self._files.put(row)
        if trusted is not None and beside is not None:
            trusted.put(record.index, beside)
        self.done += row.ok
        self.failed += not row.ok
        if self._seen is not None:
            failure = outcome.error or (None if row.ok else OutputError(row.fields["error"]))
            self._seen(replace(outcome, error=failure))

    def _row(self, outcome: Outcome) -> Row:
        record = outcome.record
        if outcome.error is None:
            try:
                return Row(record.index, True, {"key": record.key, **_outputs(outcome.value)})
            except TypeError as error:
                reason = f"the result cannot be written: {error}"
        else:
            reason = str(outcome.error)
        where = {"key": record.key, "where": record.where, "error": reason}
        return Row(record.index, False, {**where, **_attempts(outcome.error)})


def _outputs(value: Any) -> dict[str, Any]:
    """The fields of a row: those of the result where it has some, else the result as `value`; so, too, where
    one of them is called `key`, which is the record's.

    Raises:
        TypeError: a part of the result has no JSON form.
    """
    found = plain(value)
    return found if isinstance(found, dict) and "key" not in found else {"value": found}


def _attempts(error: BaseException | None) -> dict[str, Any]:
    """What a failed record tells beside its reason: the step, and the raw text where there is one."""
    told: dict[str, Any] = {}
    if isinstance(error, StepError):
        told["step"] = error.step
    while error is not None:
        text = getattr(error, "text", None)
        if isinstance(text, str) and text:
            told["raw"] = text
        error = error.__cause__
    return told


__all__ = ["Job", "JobResult", "OutputError", "find_job", "job_name", "run_job"]

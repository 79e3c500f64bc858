"""Jobs: a workflow over many records, one output row for each, exactly once, whatever happens in between.

A finished row is committed to the journal first and to the output file then. A job that was killed goes on with
`resume`: its files are rebuilt from the journal, finished records are passed over, half-finished ones take their
finished steps from the journal, failed ones are tried again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.batch import Outcome, RecordError, batch_of, binder
from carrara.workflows.outputs import plain_outputs
from carrara.workflows.records import Record, SourceError, read_records
from carrara.workflows.rows import Order, Row, RowFiles
from carrara.workflows.session import Session
from carrara.workflows.steps import Workflow
from carrara.workflows.target import load_target

SOURCE_KIND = "job:"
"""How the journal tells the source of a job from that of a single run."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a job is, as plain data; the journal keeps it, so that `resume` can make it again.

    `target` is a pipeline file, "module:name" or "file.py:name"; `columns` maps inputs to the record's
    fields, `constants` gives inputs one value for all records. `limit` takes the first records only.
    """

    target: str
    input: str
    output: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    concurrency: int = 16
    order: Order = "input"

    @property
    def source(self) -> str:
        return SOURCE_KIND + json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_source(cls, source: str) -> Job:
        """The job of a journal's source; the inverse of `source`."""
        return cls(**json.loads(source.removeprefix(SOURCE_KIND)))


@dataclass(frozen=True, slots=True)
class JobResult:
    """`done` rows stand in `output`, `reused` of them from before; `failed` ones stand in `failed_output`."""

    run_id: str
    done: int
    failed: int
    reused: int
    seconds: float
    output: Path
    failed_output: Path


@dataclass(slots=True)
class _Tally:
    done: int = 0
    failed: int = 0
    reused: int = 0


Seen = Callable[[Outcome], None]


async def run_job(
    job: Job, session: Session, *, run_id: str | None = None, seen: Seen | None = None
) -> JobResult:
    """Run a job, or with `run_id` go on with one. `seen` is told of every record that ends.

    Raises:
        SourceError: the input cannot be read at all, or none of its fields fits.
        OutputError: an output file cannot be written.
        JournalError: the journal cannot be written, or another process runs this job.
    """
    target = load_target(job.target)
    journal = session.journal
    if not isinstance(journal, SqliteJournal):
        raise SourceError("a job needs a journal: its rows are committed there first")
    earlier = {row.place: row for row in journal.rows(run_id) if row.state == "done"} if run_id else {}
    files = RowFiles(Path(job.output), job.order)
    if run_id:
        files.rebuild(Row(i, True, earlier[i].payload) for i in sorted(earlier))
    elif files.output.is_file() and files.output.stat().st_size:
        raise SourceError(
            f"{files.output} exists already; go on with its job (--resume) or name another --output"
        )
    tally = _Tally(done=len(earlier), reused=len(earlier))
    started = time.perf_counter()
    with files:
        writer = _Writer(journal, files, tally, seen)
        batch = batch_of(
            target,
            _open_records(job, target, earlier, files),
            binder(_needed(target), columns=job.columns, constants=job.constants),
            writer.write,
            concurrency=job.concurrency,
        )
        async with writer.named(session, batch, target, job, run_id) as found:
            pass
    return JobResult(
        found,
        tally.done,
        tally.failed,
        tally.reused,
        time.perf_counter() - started,
        files.output,
        files.failed,
    )

"""Jobs: a workflow over many records, one output row for each, exactly once, whatever happens in between.

A finished row is committed to the journal first and to the output file then. A job that was killed goes on
under its run id: its files are rebuilt from the journal, finished records are passed over, half-finished ones
take their finished steps from the journal, failed ones are tried again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.occupancy import Occupancy
from carrara.runtime.database_url import is_server, without_password
from carrara.runtime.errors import RunCancelled
from carrara.runtime.events import EngineFilled, Listener
from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.routing.policy import Policy
from carrara.runtime.run import run_id_here, tell_here
from carrara.workflows.batch import Binder, Done, Outcome, batch_of
from carrara.workflows.calls import Definition
from carrara.workflows.definition_hash import definition_hash
from carrara.workflows.errors import InputError
from carrara.workflows.item_keys import apart_from_items
from carrara.workflows.opened import Opened
from carrara.workflows.places import OutputError
from carrara.workflows.records import Record, SourceError, read_records
from carrara.workflows.row_writer import RowWriter, Seen
from carrara.workflows.rows import Order
from carrara.workflows.seats import Seats
from carrara.workflows.selection import Selection
from carrara.workflows.session import Session
from carrara.workflows.sinks.opening import is_table, placed, shown, sink_of
from carrara.workflows.sinks.shape import row_columns, types_hash
from carrara.workflows.sources.sql import in_folder
from carrara.workflows.target import load_workflow
from carrara.workflows.until import End, Until

if TYPE_CHECKING:
    from carrara.workflows.cluster.plan import OnRay
    from carrara.workflows.cluster.pool import Pool

SOURCE_KIND = "job:"
"""How the journal tells the source of a job from that of a single run."""


@dataclass(frozen=True, slots=True, repr=False)
class Job:
    """What a job is, as plain data; the journal keeps it, so that it can go on after a crash.

    `target` is a pipeline file, "module:name" or "file.py:name"; `columns` maps inputs to the record's
    fields, `constants` gives inputs one value for all records. `key` names the field that is a record's key; `where`,
    `shard`, `sample` and `seed` choose among the records (see Selection), of which `limit` takes the first only.
    `concurrency` records are under way at once; None: as many as keep the engines' seats taken.
    `flatten` names a list whose items become rows. `trust` writes what is known of each field beside the output,
    `review` also the rows that are less sure than it. Relative paths are meant from `folder`, "" for the working
    folder; a job that begins notes it down, so that it goes on from anywhere. A password in the URL of a database is
    used and never written down. `also` are outputs that it was given later, as it went on: they are its own, too.
    `answered_by` are the options of the command that begins it which say who answers (`engine`, `model`, `quick`,
    `policy`), for the command that goes on; None where it was begun otherwise. Here they change nothing: the session
    has the engines.
    """

    target: str
    input: str
    output: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    concurrency: int | None = None
    order: Order = "input"
    folder: str = ""
    trust: bool = False
    review: float | None = None
    key: str | None = None
    where: str = ""
    shard: str = ""
    sample: int | None = None
    seed: int = 0
    flatten: str | None = None
    also: tuple[str, ...] = ()
    answered_by: Mapping[str, Any] | None = None

    def placed(self) -> Job:
        """The job with its folder."""
        return self if self.folder else replace(self, folder=os.getcwd())

    def as_begun(self, source: str) -> Job:
        """The job with the files beside its output, and those who answer, that it had when it began, which `source`
        tells."""
        first = Job.from_source(source)
        review = first.review if self.review is None else self.review
        trust = self.trust or first.trust
        return replace(self, trust=trust, review=review, answered_by=first.answered_by)

    def moved(self, output: str) -> Job:
        """The job with its rows elsewhere, as seen from the working folder."""
        place = in_folder(output, os.getcwd()) if is_table(output) else os.path.abspath(output)
        return replace(self, output=place)

    def path(self, name: str) -> str:
        """A file of the job as it is found from the working folder."""
        here = self.folder in ("", os.getcwd()) or is_server(name)
        return name if here else os.path.join(self.folder, name)

    @property
    def place(self) -> str:
        """The output as it is found from the working folder."""
        return placed(self.output, self.folder)

    @property
    def places(self) -> tuple[str, ...]:
        """The output, and those that it was given later."""
        return (self.place, *(placed(output, self.folder) for output in self.also))

    def written_to(self, output: str) -> Job:
        """The job with one output more that is its own."""
        return replace(self, also=(*self.also, without_password(output)))

    def records(self, keep: tuple[type, ...] = ()) -> Iterator[Record]:
        """The records that are chosen, in order and counted from 0; `keep` as in `read_records`.

        Raises:
            InputError: `where` or `shard` cannot be. SourceError: see `read_records`.
        """
        chosen = Selection(self.where, self.shard, self.sample, self.seed)
        records = read_records(self.input, self.folder, self.key, keep)
        return chosen.of(records if self.flatten is None else apart_from_items(records))

    @property
    def source(self) -> str:
        told = replace(
            self, input=without_password(self.input), output=without_password(self.output)
        )
        return SOURCE_KIND + json.dumps(asdict(told), sort_keys=True)

    def __repr__(self) -> str:
        return f"Job.from_source({self.source!r})"

    @classmethod
    def from_source(cls, source: str) -> Job:
        """The inverse of `source`, but for passwords: the database's client finds them (PGPASSWORD, ~/.pgpass)."""
        told = json.loads(source.removeprefix(SOURCE_KIND))
        return cls(**{**told, "also": tuple(told.get("also", ()))})


@dataclass(frozen=True, slots=True)
class JobResult:
    """`done` rows stand in `output`, `reused` of them from before; `failed` ones stand in `failed_output`, None where
    the output is a device or pipe. `output` is a path, or the URL of a table.

    `outdated` of the reused rows were made when the workflow was defined otherwise. `stopped` says why the job ended
    before its records did, "" where it did not, and `left_open` how many records it had begun in vain by then: they are
    neither done nor failed. `dropped` rows were given up because the source, or the type of the rows, had changed;
    those of `moved` records, which only stand elsewhere now, are among the reused ones.
    `remade` rows took the place of rows that an earlier definition of the workflow had made.
    `to_review` rows stand in `review_output`, too; None where no review was asked for.
    `occupancy` tells how full the batches of the engines were while there were records to begin; of those of this
    process that count it.
    """

    run_id: str
    done: int
    failed: int
    reused: int
    seconds: float
    output: Path | str
    failed_output: Path | None
    outdated: int = 0
    stopped: str = ""
    dropped: int = 0
    to_review: int = 0
    review_output: Path | None = None
    moved: int = 0
    remade: int = 0
    occupancy: Mapping[str, Occupancy] = field(default_factory=dict)
    left_open: int = 0


async def run_job(
    job: Job,
    session: Session,
    *,
    run_id: str | None = None,
    until: Until = Until(),  # noqa: B008 - frozen
    seen: Seen | None = None,
    outdated: Callable[[int], None] | None = None,
    accept_changes: bool = False,
    listeners: Sequence[Listener] = (),
    clock: Callable[[], float] = time.monotonic,
    on: OnRay | None = None,
) -> JobResult:
    """Run a job, or with `run_id` go on with one that was cut or had failures. Before anything runs `outdated` is
    told how many rows are kept from an earlier definition of the workflow, if there are any.

    A source whose finished records have changed is refused, before anything runs or is written where it can be read
    twice; with `accept_changes` these are run again, and so are records whose rows an earlier definition of the
    workflow has made: each of those keeps its row in the journal until the new one is there. The row of a record that
    stands elsewhere now goes with it; rows of records that are gone are dropped (a table keeps them). Steps whose
    definition and inputs are what they were, in whatever run or place, are taken from the journal then.

    A job that ends before its records do is "interrupted" in the journal, with the reason (`JobResult.stopped`).

    Memory does not grow with the number of records. With `on` the workflow runs on a cluster: each of its workers has
    `job.concurrency` records (16) under way. This process reads, and writes journal and sink.

    Raises:
        SourceError: the input cannot be read at all, or is another one than before, or cannot be read twice, which
            `accept_changes` needs.
        InputError: an input is named that the workflow does not have; a selection that cannot be; no prices for
            `until.cost`.
        OutputError: an output cannot be written, or (PlaceError) holds something already, does not fit, or is a table
            in the file that is read.
        JournalError: the journal cannot be written, or another process runs this job.
        CarraraError: with `on`: the cluster cannot be reached, or the session has what cannot be had there.
    """
    course = _Course(job.placed(), session, run_id, seen)
    policy = None if until.cost is None else _within(until.cost, session, course.workflow)
    end = End(until, clock)

    async def whole() -> None:
        if run_id is not None:
            course.opened.hold()  # only now: no other process has the run, and with it the files
        # The journal knows of the run: what is written from here on can be gone on with.
        course.begin(accept_changes, outdated)
        await course.run(end)

    async with AsyncExitStack() as stack:
        stack.enter_context(course.opened)
        if run_id is None:
            course.opened.hold()  # a place that is taken begins no run
        if on is not None:
            course.pool = await stack.enter_async_context(_pool(course, on, policy))
        try:
            await session.execute(
                whole,
                name=job_name(course.workflow),
                source=course.job.source,
                run_id=run_id,
                listeners=(*course.opened.listeners, *listeners),
                settings_of=course.workflow,
                policy=policy,
                reuse="any" if accept_changes else None,
                remember=True,
            )
        except RunCancelled:
            if not end.reason:
                raise
    return course.result(end)


class _Course:
    """A job on its way through this process: what it reads, what runs, where its rows go.

    Making one refuses what is wrong with the job, and leaves no trace. `opened` holds its place, and `begin` comes,
    before `run`. `pool` are the workers of a cluster, None where the workflow runs in this process.
    """

    pool: Pool | None = None
    _writer: RowWriter
    _still_open: Iterator[Record | Done]

    def __init__(self, job: Job, session: Session, run_id: str | None, seen: Seen | None) -> None:
        self.job, self.session = job, session
        self.workflow = workflow = load_workflow(job.target, job.folder)
        if not isinstance(session.journal, Recorder):
            raise SourceError("a job needs a journal: its rows are committed there first")
        self._journal = journal = session.journal
        self._binder = binder = Binder(workflow, columns=job.columns, constants=job.constants)
        self._records = _begun(job.records(binder.keep))
        types = types_hash(row_columns(workflow))
        self._definition = definition = f"{definition_hash(workflow)}:{types}"
        sink = sink_of(job.place, workflow, job.flatten, job.shard)
        self.opened = Opened(job, workflow, binder, journal, sink, run_id, definition)
        self.opened.check()
        self._seats = Seats(session.engines)
        self._seen = seen
        self._left_open = 0

    def begin(self, accept_changes: bool, outdated: Callable[[int], None] | None) -> None:
        """Open the files. As `run_job`."""
        self._still_open = self.opened.begin(accept_changes, self._records)
        if outdated is not None and self.opened.earlier.stale:
            outdated(self.opened.earlier.stale)

    async def run(self, end: End) -> None:
        """The run's workflow function: puts the records that are still open through the workflow, up to `end`. All
        that has come of them is written then.

        Raises:
            RunCancelled: `end` came before the last record.
        """
        opened, pool = self.opened, self.pool
        at_once = self.job.concurrency or self._seats.enough
        self._run_id = run_id_here()
        self._journal.keep_rows(self._run_id, opened.earlier)
        self._writer = writer = RowWriter(
            self._journal, opened, self.workflow, self._definition, self._seen
        )

        async def take(outcome: Outcome) -> None:
            if end.caused(outcome.error):  # it makes no row: the record is still open
                self._left_open += 1
            else:
                await writer.write(outcome)

        await batch_of(
            self.workflow,
            self._seats.until_the_end(end.cut(self._still_open)),
            self._binder,
            take,
            concurrency=at_once if pool is None else pool.capacity,
            room=opened.rows.has_room,
            elsewhere=None if pool is None else pool.run,
        )()
        for name, counted in self._seats.occupancy.items():
            tell_here(EngineFilled, engine=name, **asdict(counted))
        opened.close()  # while the run is still this process's
        if end.reason:
            raise RunCancelled(end.reason, run=self._run_id)

    def result(self, end: End) -> JobResult:
        """What has come of it, after `run`."""
        job, opened, writer = self.job, self.opened, self._writer
        earlier, trusted = opened.earlier, opened.trusted
        unsure = trusted.files.get("review") if trusted is not None else None
        return JobResult(
            self._run_id,
            done=earlier.count + writer.done - opened.refused,
            failed=writer.failed + opened.still_failed + opened.refused,
            reused=earlier.count - opened.refused_of_before,
            seconds=end.elapsed_s,
            output=shown(job.place) if is_table(job.place) else Path(job.place),
            failed_output=opened.rows.sink.failed,
            outdated=earlier.stale,
            stopped=end.reason,
            dropped=len(earlier.dropped),
            to_review=0 if unsure is None else unsure.count,
            review_output=None if unsure is None else unsure.path,
            moved=earlier.moved,
            remade=writer.remade - opened.refused_remade,
            occupancy=self._seats.occupancy,
            left_open=self._left_open,
        )


def _pool(course: _Course, on: OnRay, policy: Policy | None) -> AbstractAsyncContextManager[Pool]:
    from carrara.workflows.cluster.far_job import pool_of

    return pool_of(course.job, course.session, course.workflow, on, policy)


def _begun(records: Iterator[Record]) -> Iterator[Record]:
    """The same records, the first of them read now: a source that cannot be read at all begins no run."""
    first = next(records, None)
    return records if first is None else chain((first,), records)


def _within(cost: float, session: Session, workflow: Definition[..., Any]) -> Policy:
    """The policy with a budget.

    Raises:
        InputError: no price is known, so that nothing would count.
    """
    if not session.any_costs(workflow):
        raise InputError(
            "--max-cost: no engine has a price, neither in the routing policy nor of its own, so nothing would ever "
            "count as spent; give `prices:` in the policy"
        )
    policy = session.policy_of(workflow)
    return replace(policy, budget=replace(policy.budget, cost=cost))


def job_name(workflow: Definition[..., Any]) -> str:
    return f"{workflow.name} (job)"


def find_job(job: Job, journal: Reader) -> str | None:
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
    named = map(without_password, (job.target, job.input, job.output))
    paths = (os.path.join(job.folder, name) for name in named)
    chosen = (job.key, job.where, job.shard, job.sample, job.seed, job.flatten)
    return (*paths, dict(job.columns), dict(job.constants), job.order, *chosen)


__all__ = ["Job", "JobResult", "OutputError", "Until", "find_job", "job_name", "run_job"]

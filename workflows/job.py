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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.errors import EngineBusy, EngineDown, LoadingError
from carrara.engines.occupancy import Occupancy
from carrara.runtime.database_url import is_server, shown_url, without_password
from carrara.runtime.errors import RunCancelled, StepError
from carrara.runtime.events import EngineFilled, Listener
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.routing.budget import OverBudget
from carrara.runtime.routing.policy import Policy
from carrara.runtime.run import run_id_here, tell_here
from carrara.workflows.batch import DONE, Binder, Done, Outcome, batch_of
from carrara.workflows.calls import Definition
from carrara.workflows.definition_hash import definition_hash
from carrara.workflows.errors import InputError
from carrara.workflows.item_keys import apart_from_items
from carrara.workflows.kept_rows import still_open, to_keep
from carrara.workflows.opened import Opened
from carrara.workflows.places import OutputError
from carrara.workflows.plain import NoNumber, place_of_refused, plain
from carrara.workflows.records import Record, SourceError, content_hash, read_records
from carrara.workflows.rows import Order, Row
from carrara.workflows.seats import Seats
from carrara.workflows.selection import Selection
from carrara.workflows.session import Session
from carrara.workflows.sinks.declared import DeclaredRows
from carrara.workflows.sinks.opening import is_table, placed, shown, sink_of
from carrara.workflows.sinks.shape import row_columns
from carrara.workflows.sources.sql import in_folder
from carrara.workflows.target import load_workflow

if TYPE_CHECKING:
    from carrara.workflows.cluster.plan import OnRay
    from carrara.workflows.cluster.pool import Pool

SOURCE_KIND = "job:"
"""How the journal tells the source of a job from that of a single run."""
_REASON_END = 4096


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
    used and never written down.
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

    def placed(self) -> Job:
        """The job with its folder."""
        return self if self.folder else replace(self, folder=os.getcwd())

    def as_begun(self, source: str) -> Job:
        """The job with the files beside its output that it had when it began, which `source` tells."""
        first = Job.from_source(source)
        review = first.review if self.review is None else self.review
        return replace(self, trust=self.trust or first.trust, review=review)

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
        return cls(**json.loads(source.removeprefix(SOURCE_KIND)))


@dataclass(frozen=True, slots=True)
class Until:
    """What ends a job early. `cost` in US dollars is what this process may spend on engines, by the prices that
    the policy or they tell; after `deadline_s` seconds no record is begun. What is under way ends; the job can go on
    later."""

    cost: float | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """`done` rows stand in `output`, `reused` of them from before; `failed` ones stand in `failed_output`, None where
    the output is a device or pipe. `output` is a path, or the URL of a table.

    `outdated` of the reused rows were made when the workflow was defined otherwise. `stopped` says why the job ended
    before its records did, "" where it did not. `dropped` rows were given up because the source had changed;
    those of `moved` records, which only stand elsewhere now, were made again of what the journal holds.
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
    occupancy: Mapping[str, Occupancy] = field(default_factory=dict)


Seen = Callable[[Outcome], None]
"""Told of every record that ends."""


async def run_job(
    job: Job,
    session: Session,
    *,
    run_id: str | None = None,
    until: Until = Until(),
    seen: Seen | None = None,
    outdated: Callable[[int], None] | None = None,
    accept_changes: bool = False,
    listeners: Sequence[Listener] = (),
    clock: Callable[[], float] = time.monotonic,
    on: OnRay | None = None,
) -> JobResult:
    """Run a job, or with `run_id` go on with one that was cut or had failures. Before anything runs `outdated` is
    told how many rows are kept from an earlier definition of the workflow, if there are any.

    A source whose finished records have changed is refused; with `accept_changes` these are run again, and rows of
    records that are gone are dropped (a table keeps them). Of a record that only stands elsewhere now, the finished
    steps are taken from the journal.

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
    job = job.placed()
    workflow = load_workflow(job.target, job.folder)
    journal = session.journal
    if not isinstance(journal, Recorder):
        raise SourceError("a job needs a journal: its rows are committed there first")
    binder = Binder(workflow, columns=job.columns, constants=job.constants)
    records = _begun(job.records(binder.keep if on is None else ()))
    policy = None if until.cost is None else _within(until.cost, session, workflow)
    definition = definition_hash(workflow)
    sink = sink_of(job.place, workflow, job.flatten)
    opened = Opened(job, workflow, binder, journal, sink, run_id, definition)
    opened.check()
    end, seats = _End(until, clock), Seats(session.engines)
    started = clock()
    writer: _Writer

    def begin() -> None:
        opened.begin(accept_changes)
        if opened.earlier.stale and outdated is not None:
            outdated(opened.earlier.stale)

    async with AsyncExitStack() as stack:
        stack.enter_context(opened)
        if run_id is None:
            begin()  # what cannot be written begins no run
        pool = await _pool(stack, job, session, workflow, on, policy)

        async def whole() -> None:
            nonlocal writer, run_id
            if run_id is not None:
                begin()  # only now: no other process has the run, and with it the files
            if opened.earlier.dropped:
                journal.forget_rows(run_id_here(), opened.earlier.dropped)
            declared = DeclaredRows(row_columns(workflow))
            writer = _Writer(journal, opened, declared, definition, seen, end)
            to_do = still_open(records, job.limit, opened.earlier, shown_url(job.input))
            await batch_of(
                workflow,
                seats.until_the_end(end.cut(to_do)),
                binder,
                writer.write,
                concurrency=(job.concurrency or seats.enough) if pool is None else pool.capacity,
                room=opened.rows.has_room,
                elsewhere=None if pool is None else pool.run,
            )()
            for name, counted in seats.occupancy.items():
                tell_here(EngineFilled, engine=name, **asdict(counted))
            opened.close()  # while the run is still this process's
            run_id = run_id_here()
            if end.reason:
                raise RunCancelled(end.reason, run=run_id)

        try:
            await session.execute(
                whole,
                name=job_name(workflow),
                source=job.source,
                run_id=run_id,
                listeners=(*opened.listeners, *listeners),
                settings_of=workflow,
                policy=policy,
                reuse="any" if accept_changes else None,
            )
        except RunCancelled:
            if not end.reason:
                raise
    assert run_id is not None
    return _result(job, run_id, opened, writer, end, seats, clock() - started)


def _result(
    job: Job,
    run_id: str,
    opened: Opened,
    writer: _Writer,
    end: _End,
    seats: Seats,
    seconds: float,
) -> JobResult:
    earlier, trusted = opened.earlier, opened.trusted
    unsure = trusted.files.get("review") if trusted is not None else None
    return JobResult(
        run_id,
        earlier.count + writer.done,
        writer.failed + opened.still_failed,
        earlier.count,
        seconds,
        shown(job.place) if is_table(job.place) else Path(job.place),
        opened.rows.sink.failed,
        earlier.stale,
        end.reason,
        len(earlier.dropped) - earlier.moved,
        0 if unsure is None else unsure.count,
        None if unsure is None else unsure.path,
        earlier.moved,
        seats.occupancy,
    )


async def _pool(
    stack: AsyncExitStack,
    job: Job,
    session: Session,
    workflow: Definition[..., Any],
    on: OnRay | None,
    policy: Policy | None,
) -> Pool | None:
    """The cluster's workers, None where the workflow runs in this process."""
    if on is None:
        return None
    from carrara.workflows.cluster.far_job import pool_of

    return await stack.enter_async_context(pool_of(job, session, workflow, on, policy))


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


def find_job(job: Job, journal: Recorder) -> str | None:
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


class _End:
    """When to take no more records, and why."""

    def __init__(self, until: Until, clock: Callable[[], float]) -> None:
        self._deadline_s = until.deadline_s
        self._clock = clock
        self._began = clock()
        self.reason = ""

    def cut(self, records: Iterable[Record | Done]) -> Iterator[Record | Done]:
        """The records up to the end."""
        for record in records:
            if record is not DONE and self._is_over():
                return
            yield record

    def _is_over(self) -> bool:
        late = self._deadline_s
        if not self.reason and late is not None and self._clock() - self._began >= late:
            self.reason = f"the deadline of {late:g} s has passed"
        return bool(self.reason)

    def caused(self, error: BaseException | None) -> bool:
        """Whether a record failed for what is not its own, and meets the next ones too: the budget is spent, or no
        engine can answer it. Then it is still open, and none is begun after it."""
        while error is not None:
            if (why := _why_all_end(error)) is not None:
                self.reason = self.reason or why
                return True
            error = error.__cause__
        return False


def _why_all_end(error: BaseException) -> str | None:
    match error:
        case OverBudget():
            return f"the budget has no room for more: {error}"
        case EngineDown():
            return f"no engine could answer (start it, or name another with --engine): {error}"
        case EngineBusy():
            return f"the engine is busy for longer than a call waits for it: {error}"
        case LoadingError():
            return f"no engine can be opened: {error}"
        case _:
            return None


class _Writer:
    """Takes outcomes: the journal first, then the files."""

    def __init__(
        self,
        journal: Recorder,
        opened: Opened,
        declared: DeclaredRows,
        definition: str,
        seen: Seen | None,
        end: _End,
    ) -> None:
        self._journal = journal
        self._rows = opened.rows
        self._declared = declared
        self._earlier = opened.earlier
        self._end = end
        self._definition = definition
        self._seen = seen
        self._trusted = opened.trusted
        self.done = 0
        self.failed = 0

    async def write(self, outcome: Outcome) -> None:
        record = outcome.record
        if self._end.caused(outcome.error):
            return
        row = self._row(outcome)
        durable = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if not durable.done():
                durable.set_result(error)

        state, reason = ("done", "") if row.ok else ("failed", row.fields["error"])
        trusted = self._trusted
        beside = await trusted.beside(record, row.fields if row.ok else None) if trusted else None
        content = content_hash(record)
        payload = to_keep(row.fields, content, self._definition, beside) if row.ok else row.fields
        self._journal.put_row(
            run_id_here(), record.index, record.key, state, payload, error=reason, done=done
        )
        error = await durable
        if error is not None:
            raise error
        self._earlier.tried(record.index)
        self._rows.put(row)
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
                fields = self._declared({"key": record.key, **_outputs(outcome.value)})
                return Row(record.index, True, fields, self._rows.sink.prepare(fields))
            except (TypeError, ValueError, OutputError) as error:
                reason = f"the result cannot be written: {error}"
        else:
            reason = _bounded(str(outcome.error))
        where = {"key": record.key, "where": record.where, "error": reason}
        return Row(record.index, False, {**where, **_attempts(outcome.error)})


def _outputs(value: Any) -> dict[str, Any]:
    """The fields of a row: those of the result where it has some, else the result as `value`; so, too, where
    one of them is called `key`, which is the record's. Decimals are text, so that no digit is lost.

    Raises:
        ValueError: a part of the result has no JSON form; names the field.
    """
    try:
        found = plain(value, exact=True, strict=True)
    except (TypeError, NoNumber) as error:
        raise ValueError(f"{place_of_refused(value) or 'value'}: {error}") from error
    return found if isinstance(found, dict) and "key" not in found else {"value": found}


def _bounded(reason: str) -> str:
    """A reason that may quote its document is told with its beginning and its end."""
    if len(reason) <= 2 * _REASON_END:
        return reason
    return f"{reason[:_REASON_END]} … {reason[-_REASON_END:]}"


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


__all__ = ["Job", "JobResult", "OutputError", "Until", "find_job", "job_name", "run_job"]

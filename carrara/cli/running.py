"""What `carrara run` and `carrara resume` do once their options are read: a run or a job in a session, and its end."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from carrara.cli.how import How
from carrara.cli.outcome import FAILED, give, note, usage
from carrara.cli.who import written

if TYPE_CHECKING:
    from carrara.runtime.events import Listener
    from carrara.runtime.journal.reading import RunSummary
    from carrara.runtime.journal.recording import Recorder
    from carrara.runtime.run import RunResult
    from carrara.workflows.batch import Outcome
    from carrara.workflows.calls import Definition
    from carrara.workflows.job import Job, JobResult, Until
    from carrara.workflows.session import Session


class Ended(Protocol):
    """What a run or a job gives."""

    @property
    def run_id(self) -> str: ...


R = TypeVar("R", bound=Ended)
Work = Callable[["Session", "Recorder", Any], Coroutine[Any, Any, R]]


async def run_once(how: How, target: str, given: dict[str, Any], output: Path | None) -> None:
    from carrara.workflows.inputs import read_inputs
    from carrara.workflows.outputs import make_place
    from carrara.workflows.target import file_of, load_workflow

    workflow = load_workflow(target)
    how.who.check_engines(lambda: workflow)
    inputs = read_inputs(workflow, given)

    async def work(
        session: Session, journal: Recorder, progress: Sequence[Listener]
    ) -> RunResult[Any]:
        return await session.start(workflow, (), inputs, listeners=progress)

    if output is not None:
        make_place(output, file_of(workflow))
    _give(await _watched(how, work, lambda: workflow), output)


async def try_out(how: How, job: Job, count: int) -> None:
    from carrara.workflows.estimate import estimate

    workflow = partial(_workflow_of, job)
    how.who.check_engines(workflow)
    async with how.session(workflow=workflow) as session:
        found = await estimate(job, session, count)
    give("\n".join(found.lines()))


async def run_as_job(
    how: How,
    job: Job,
    until: Until,
    *,
    go_on: bool = False,
    earlier: RunSummary | None = None,
) -> None:
    """Begin a job, or go on with one: with the `earlier` run, or where there is none given and `go_on` with the newest
    of this very job."""
    from carrara.workflows.job import run_job
    from carrara.workflows.places import is_stream
    from carrara.workflows.sinks.opening import is_table

    if go_on and earlier is None:
        earlier = _earlier(how, job)
    if earlier is None:
        job = replace(job, answered_by=how.who.kept)
    else:
        job = job.as_begun(earlier.source)
        how = _as_begun(how, job.answered_by)
    run_id = None if earlier is None else earlier.run_id
    how.who.check_engines(partial(_workflow_of, job))

    async def work(session: Session, journal: Recorder, progress: Sequence[Listener]) -> JobResult:
        flows = not is_table(job.place) and is_stream(Path(job.place))
        seen = _tell_failed if flows else None
        again = "" if job.input == "-" else replace(how, accepts=True).to_go_on(run_id or "")
        tell = partial(_tell_outdated, job=job, again=again)
        return await run_job(
            job,
            session,
            run_id=run_id,
            until=until,
            outdated=tell,
            accept_changes=how.accepts,
            listeners=progress,
            seen=seen,
            on=how.on,
        )

    _tell_job(await _watched(how, work, partial(_workflow_of, job)), how, job)


def _earlier(how: How, job: Job) -> RunSummary:
    """The newest run of a job. Raises SourceError where there is none."""
    from carrara.runtime.database_url import shown_url
    from carrara.runtime.errors import UnknownRun
    from carrara.runtime.journal.reading import Reader
    from carrara.workflows.job import find_job
    from carrara.workflows.records import SourceError

    try:
        with Reader.open(how.journal) as journal:
            run_id = find_job(job, journal)
            if run_id is not None:
                return journal.find(run_id)
    except UnknownRun:  # there is no journal
        pass
    raise SourceError(f"no earlier run of this job in {shown_url(how.journal)}; leave out --resume")


def _as_begun(how: How, answered_by: Mapping[str, Any] | None) -> How:
    """How the job goes on: as it began, where the command line says nothing else; that it does is told."""
    if answered_by is None:
        return how
    who = how.who.as_begun(answered_by)
    if who.kept != answered_by:
        before = " ".join(written(answered_by)) or "the default engines"
        now = " ".join(who.words) or "the default engines"
        note(f"the job was begun with {before} and goes on with {now}")
    return replace(how, who=who)


async def go_on_with(how: How, name: str, output: str | None, until: Until) -> None:
    from carrara.runtime.journal.reading import Reader
    from carrara.workflows.job import SOURCE_KIND, Job
    from carrara.workflows.outputs import make_place
    from carrara.workflows.resume import workflow_of_run
    from carrara.workflows.target import file_of

    with Reader.open(how.journal) as journal:
        found = journal.find(name)
        job = Job.from_source(found.source) if found.source.startswith(SOURCE_KIND) else None
        if job is None:
            workflow = workflow_of_run(found)
            args, kwargs = journal.inputs(found.run_id)
    if job is not None:
        job = job if output is None else job.moved(output)
        await run_as_job(how, job, until, earlier=found)
        return
    for option, given in (
        ("--accept-changes is", how.accepts),
        ("--on is", how.on is not None),
        ("--max-cost and --deadline are", how.limits),
    ):
        if given:
            raise usage(f"{option} for jobs, and run {found.run_id} is none")
    how.who.check_engines(lambda: workflow)

    async def work(
        session: Session, journal: Recorder, progress: Sequence[Listener]
    ) -> RunResult[Any]:
        return await session.start(workflow, args, kwargs, run_id=found.run_id, listeners=progress)

    place = None if output is None else Path(output)
    if place is not None:
        make_place(place, file_of(workflow))
    _give(await _watched(how, work, lambda: workflow), place)


def _workflow_of(job: Job) -> Definition[..., Any]:
    from carrara.workflows.target import load_workflow

    placed = job.placed()
    return load_workflow(placed.target, placed.folder)


async def _watched(how: How, work: Work[R], workflow: Callable[[], Definition[..., Any]]) -> R:
    """Do `work` in a session, with progress on standard error and the report at the end."""
    from asyncio import CancelledError

    from carrara.runtime.events import OfRun
    from carrara.workflows.session import opened_journal

    begun: list[str] = []
    listen = OfRun(lambda event: begun.append(event.run_id))

    try:
        with opened_journal(how.journal) as journal:
            async with how.session(journal, workflow) as session:
                with how.watching() as progress:
                    result = await work(session, journal, (listen, *progress))
            if not how.quiet:
                _show_report(journal, result)
            return result
    except CancelledError:
        if begun:
            note(f"What had finished is kept; {how.to_go_on(begun[0])} goes on from there.")
        raise


_MOST_REPORTED = 20_000
"""Records of a job above which the report, which is made of every step, is left to `carrara show`."""


def _show_report(journal: Recorder, result: Ended) -> None:
    from rich.console import Console

    from carrara.runtime.report import report
    from carrara.runtime.report_view import show
    from carrara.workflows.job import JobResult

    run_id = result.run_id
    if isinstance(result, JobResult) and result.done + result.failed > _MOST_REPORTED:
        note(f"`carrara show {run_id}` reports the steps")
        return
    # Plain progress has ended with the headline; the live display has gone.
    show(report(journal.events(run_id)), Console(stderr=True), headed=sys.stderr.isatty())


def _give(result: RunResult[Any], output: Path | None) -> None:
    """Write the result to files, or print it."""
    from carrara.workflows.outputs import as_json_data, write_outputs
    from carrara.workflows.places import OutputError

    if output is not None:
        try:
            written = write_outputs(result.value, output)
        except OutputError as error:
            again = (
                f"`carrara resume {result.run_id} --output PLACE` writes the result of this run."
            )
            raise OutputError(f"{error} {again}") from error
        for path in written:
            note(f"wrote {path}")
        return
    found = as_json_data(result.value)
    give(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, indent=2))


def _tell_job(result: JobResult, how: How, job: Job) -> None:
    rate = (result.done - result.reused + result.failed) / result.seconds if result.seconds else 0
    note(
        f"{result.done} rows in {result.output}"
        + (f" ({result.reused} from before)" if result.reused else "")
        + f", {result.failed} failed"
        + (f", {result.left_open} begun and still open" if result.left_open else "")
        + f", {result.seconds:.1f} s, {rate:.2f} records/s"
    )
    if result.dropped:
        note(
            f"{result.dropped} rows of before were dropped: their records have changed or gone, "
            "or rows have another type now"
        )
    if result.remade:
        note(f"{result.remade} rows of the earlier definition were made again")
    if result.moved:
        note(f"{result.moved} rows were put elsewhere: their records have only moved in the source")
    if result.to_review:
        note(f"{result.to_review} of them to look at: {_to_review(result, job)}")
    if result.failed and result.failed_output is not None:
        note(f"the failed records and why: {result.failed_output}")
    if result.stopped:
        note(f"stopped early, {result.stopped}; {how.to_go_on(result.run_id)} goes on from there")
    if result.failed or result.stopped:
        sys.exit(FAILED)


def _to_review(result: JobResult, job: Job) -> str:
    """The command that reviews; it names the workflow where its validators have a say."""
    from carrara.workflows.review.validating import validated_steps

    words = ["carrara", "review", str(result.review_output)]
    if validated_steps(_workflow_of(job)):
        words += ["--workflow", job.path(job.target)]
    return shlex.join(words)


def _tell_failed(outcome: Outcome) -> None:
    """Where the rows go to a device or pipe, beside which no file of failed records can be."""
    if outcome.error is not None:
        note(f"failed: {outcome.record.where}: {outcome.error}")


def _tell_outdated(count: int, job: Job, again: str) -> None:
    """Say how many rows an earlier definition of the workflow has made; `again` is the command that makes them anew, ""
    where there is none."""
    from carrara.workflows.sinks.opening import shown

    remedy = (
        f"{again} makes them again and asks only what has changed"
        if again
        else "standard input is gone: give the records in a file, with another --output, to make them again"
    )
    note(
        f"{job.target} has changed since the job began: {count} of the rows in {shown(job.place)} are "
        f"from its earlier definition and kept; {remedy}"
    )

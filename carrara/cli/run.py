"""`carrara run` and `carrara resume`: one run of a workflow, or a job over many records."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carrara.cli.how import How, cluster_of
from carrara.cli.job_options import (
    AcceptOption,
    ConcurrencyOption,
    DryRunOption,
    FlattenOption,
    GoOnOption,
    InputOption,
    KeyOption,
    LimitOption,
    MapOption,
    Order,
    OrderOption,
    OutputOption,
    ReuseOption,
    ReviewOption,
    SampleOption,
    SeedOption,
    SetOption,
    ShardOption,
    TrustOption,
    WhereOption,
)
from carrara.cli.options import (
    JOBS,
    JOURNAL,
    DeadlineOption,
    EngineOption,
    GpusOption,
    JournalOption,
    MaxCostOption,
    ModelOption,
    OnOption,
    PolicyOption,
    QuickOption,
    QuietOption,
    RecordOption,
    ReplayOption,
    ReplicasOption,
    Target,
    WatchOption,
    WorkersOption,
)
from carrara.cli.outcome import finish, usage
from carrara.cli.running import go_on_with, run_as_job, run_once, try_out
from carrara.cli.who import AUTO, Who, is_given

if TYPE_CHECKING:
    from carrara.workflows.job import Job, Until


def run(
    context: typer.Context,
    target: Target,
    settings: SetOption = None,
    source: InputOption = None,
    output: OutputOption = None,
    columns: MapOption = None,
    limit: LimitOption = None,
    key: KeyOption = None,
    where: WhereOption = None,
    shard: ShardOption = "",
    sample: SampleOption = None,
    seed: SeedOption = 0,
    flatten: FlattenOption = None,
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
    deadline: DeadlineOption = None,
    concurrency: ConcurrencyOption = None,
    order: OrderOption = Order.input,
    go_on: GoOnOption = False,
    accept_changes: AcceptOption = False,
    reuse: ReuseOption = False,
    trust: TrustOption = False,
    review: ReviewOption = None,
    engine: EngineOption = AUTO,
    model: ModelOption = None,
    quick: QuickOption = None,
    policy: PolicyOption = None,
    journal: JournalOption = JOURNAL,
    on: OnOption = None,
    workers: WorkersOption = None,
    replicas: ReplicasOption = None,
    gpus: GpusOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a workflow once, or with --input once for each record.

    The result goes to --output, or as JSON to standard output. Failed records go to a file beside the output,
    each with its reason, and make the exit code 1.
    """
    from carrara.workflows.inputs import assignments

    if source is None:
        _no_options_of_jobs(context)
    who = Who(engine, model, quick, policy).given(context)
    how = How(who, record, replay, quiet, journal, watch=watch, accepts=accept_changes, reuse=reuse)
    how = replace(how, limits=_limits(max_cost, deadline))
    if source is None:
        how = replace(how, concurrency=concurrency)
    elif not dry_run:
        how = replace(how, on=cluster_of(on, workers, replicas, gpus))
    given = assignments(settings or (), "--set")
    if source is None:
        finish(run_once(how, target, given, None if output is None else Path(output)))
        return
    _refuse_empty(source, where)
    from carrara.workflows.job import Job

    named = assignments(columns or (), "--map")
    job = Job(target, source, output or "", named, given, limit, concurrency, order.value)
    job = replace(job, key=key, where=where or "", shard=shard, seed=seed, flatten=flatten)
    job = replace(job, sample=None if dry_run else sample, trust=trust, review=review)
    if dry_run:
        finish(try_out(how, job, 3 if sample is None else sample))
        return
    _refuse_what_only_dry_runs_do(job, how, go_on)
    finish(run_as_job(how, job, _until(max_cost, deadline), go_on=go_on))


def _refuse_empty(source: str, where: str | None) -> None:
    if where is not None and not where.strip():
        raise usage("--where is given no expression; leave it out to take all records")
    if not source.strip():
        raise usage(
            "--input is empty; name a file, a quoted glob, a table, or - for standard input"
        )


def _refuse_what_only_dry_runs_do(job: Job, how: How, go_on: bool) -> None:
    """Complain of what only a dry run can do: no record, no output."""
    from carrara.workflows.sinks.opening import check_output

    if job.sample == 0:
        raise usage("--sample 0 takes no record; it is for --dry-run, which then only counts")
    if not job.output:
        raise usage("a job needs --output FILE for its rows")
    check_output(job.output)
    if how.accepts and not go_on:
        raise usage("--accept-changes is for a job that goes on: give --resume too")


def _no_options_of_jobs(context: typer.Context) -> None:
    """A single run has no records: complain of what only a job can heed."""
    stray = [
        option.opts[0]
        for option in context.command.params
        if getattr(option, "rich_help_panel", None) == JOBS and is_given(context, option.name)
    ]
    if stray:
        are = "is" if len(stray) == 1 else "are"
        raise usage(f"{', '.join(stray)} {are} for jobs: give --input too")


def _limits(max_cost: float | None, deadline: str | None) -> tuple[str, ...]:
    """The options again, for the command that goes on."""
    cost = () if max_cost is None else ("--max-cost", f"{max_cost:.15g}")
    return cost if deadline is None else (*cost, "--deadline", shlex.quote(deadline))


def _until(max_cost: float | None, deadline: str | None) -> Until:
    from carrara.workflows.job import Until
    from carrara.workflows.yaml.durations import seconds

    try:
        return Until(max_cost, None if deadline is None else seconds(deadline))
    except ValueError as error:
        raise usage(f"--deadline: {error}") from error


def resume(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="The id, its beginning, or last.", metavar="RUN")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A folder, file or table for the result.")
    ] = None,
    accept_changes: AcceptOption = False,
    reuse: ReuseOption = False,
    max_cost: MaxCostOption = None,
    deadline: DeadlineOption = None,
    engine: EngineOption = AUTO,
    model: ModelOption = None,
    quick: QuickOption = None,
    policy: PolicyOption = None,
    journal: JournalOption = JOURNAL,
    on: OnOption = None,
    workers: WorkersOption = None,
    replicas: ReplicasOption = None,
    gpus: GpusOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    watch: WatchOption = False,
    quiet: QuietOption = False,
) -> None:
    """Go on with a run that was interrupted or failed. What had finished is not done again.

    A job asks the engines that it was begun with, unless --engine, --model, --quick or --policy say otherwise.
    --max-cost and --deadline are for jobs, and count from this start of the job on.
    """
    who = Who(engine, model, quick, policy).given(context)
    how = How(who, record, replay, quiet, journal, watch=watch, accepts=accept_changes, reuse=reuse)
    how = replace(how, limits=_limits(max_cost, deadline), output=output or "")
    how = replace(how, on=cluster_of(on, workers, replicas, gpus))
    finish(go_on_with(how, run_id, output, _until(max_cost, deadline)))

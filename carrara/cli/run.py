"""`carrara run` and `carrara resume`: one run of a workflow, or a job over many records."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    AUTO,
    JOBS,
    JOURNAL,
    DeadlineOption,
    EngineOption,
    GpusOption,
    How,
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
    cluster_of,
)
from carrara.cli.outcome import finish, usage
from carrara.cli.running import go_on_with, run_as_job, run_once, try_out

if TYPE_CHECKING:
    from carrara.workflows.job import Until


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

    most = None if source else concurrency
    limits = _limits(max_cost, deadline)
    how = How(
        engine,
        model,
        record,
        replay,
        quiet,
        journal,
        most,
        policy,
        watch,
        quick,
        limits,
        accepts=accept_changes,
        reuse=reuse,
    )
    given = assignments(settings or (), "--set")
    mapped = assignments(columns or (), "--map")
    if where is not None and not where.strip():
        raise usage("--where is given no expression; leave it out to take all records")
    if source is not None and not source.strip():
        raise usage(
            "--input is empty; name a file, a quoted glob, a table, or - for standard input"
        )
    if source is None:
        _no_options_of_jobs(context)
        finish(run_once(how, target, given, None if output is None else Path(output)))
        return
    if sample == 0 and not dry_run:
        raise usage("--sample 0 takes no record; it is for --dry-run, which then only counts")
    from carrara.workflows.job import Job
    from carrara.workflows.sinks.opening import check_output

    job = Job(
        target,
        source,
        output or "",
        mapped,
        given,
        limit,
        concurrency,
        order.value,
        key=key,
        where=where or "",
        shard=shard,
        sample=None if dry_run else sample,
        seed=seed,
        flatten=flatten,
        trust=trust,
        review=review,
    )
    if dry_run:
        finish(try_out(how, job, 3 if sample is None else sample))
        return
    if output is None:
        raise usage("a job needs --output FILE for its rows")
    check_output(output)
    if accept_changes and not go_on:
        raise usage("--accept-changes is for a job that goes on: give --resume too")
    until = _until(max_cost, deadline)
    cluster = cluster_of(on, workers, replicas, gpus)
    work = run_as_job(how, job, go_on=go_on, until=until, accept_changes=accept_changes, on=cluster)
    finish(work)


def _no_options_of_jobs(context: typer.Context) -> None:
    """A single run has no records: complain of what only a job can heed."""

    def is_given(name: str | None) -> bool:
        source = context.get_parameter_source(name or "")
        return source is not None and source.name == "COMMANDLINE"

    stray = [
        option.opts[0]
        for option in context.command.params
        if getattr(option, "rich_help_panel", None) == JOBS and is_given(option.name)
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

    --max-cost and --deadline are for jobs, and count from this start of the job on.
    """
    limits = _limits(max_cost, deadline)
    how = How(
        engine,
        model,
        record,
        replay,
        quiet,
        journal,
        policy=policy,
        watch=watch,
        quick=quick,
        limits=limits,
        output=output or "",
        accepts=accept_changes,
        reuse=reuse,
    )
    until = _until(max_cost, deadline)
    cluster = cluster_of(on, workers, replicas, gpus)
    finish(go_on_with(how, run_id, output, until, accept_changes=accept_changes, on=cluster))

"""Options that several commands share: which engines answer, from where, and what is shown meanwhile."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.outcome import usage

if TYPE_CHECKING:
    from carrara.runtime.events import Listener
    from carrara.runtime.journal.recording import Recorder
    from carrara.runtime.routing.policy import Policy
    from carrara.workflows.calls import Definition
    from carrara.workflows.cluster.plan import OnRay
    from carrara.workflows.session import Session

JOURNAL = ".carrara/journal.db"


AUTO = "auto"
"""The engine option that leaves the choice to the router."""

ANSWERING = ("engine", "model", "quick", "policy")
"""The options that say who answers: a job keeps those that it was begun with."""

JOBS = "Jobs"
"""The panel of the options that only a job over records can heed; a single run refuses them."""

Target = Annotated[
    str,
    typer.Argument(
        help="A pipeline file, file.py:name, or package.module:name.", metavar="WORKFLOW"
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        help="The engine to ask, a name of `carrara engines` or of the pipeline's own; auto asks the router, several "
        "with commas between: it chooses among these.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Weights: a name of `carrara models` or a folder.")
]
QuickOption = Annotated[
    bool | None,
    typer.Option(
        "--quick/--no-quick",
        help="Local engines: canvases and their prompts in int8 (float8 on GPUs), faster and nearly as exact; or all "
        "weights as they are. Else as carrara.toml says.",
    ),
]
JournalOption = Annotated[
    str,
    typer.Option(
        "--journal",
        help="Where runs are written to: a file, or postgresql://USER@HOST/DATABASE (#SCHEMA).",
        metavar="PLACE",
    ),
]
RecordOption = Annotated[
    Path | None, typer.Option("--record", help="Write every engine call to this file.")
]
ReplayOption = Annotated[
    Path | None, typer.Option("--replay", help="Answer every engine call from this file.")
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        help="A routing policy, as `carrara calibrate` writes it; before the workflow's.",
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="Run the workflow on a Ray cluster: ray is the one here (or a new one), ray://HOST:10001 one elsewhere.",
        metavar="CLUSTER",
        rich_help_panel=JOBS,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of --on: processes for steps; by default one for each CPU.",
        rich_help_panel=JOBS,
    ),
]
ReplicasOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of --on: processes with engines; by default one for each GPU.",
        rich_help_panel=JOBS,
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        min=0, help="Of --on: GPUs for each of these; 0.25 puts four on one.", rich_help_panel=JOBS
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", "-w", help="Show answers as they emerge, pass by pass.")
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        min=0, help="Take no more records once so many dollars are spent.", rich_help_panel=JOBS
    ),
]
DeadlineOption = Annotated[
    str | None,
    typer.Option(
        help="Begin no record after this time, as in 90s or 2h.",
        metavar="DURATION",
        rich_help_panel=JOBS,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no report.")]


def cluster_of(
    on: str | None, workers: int | None, replicas: int | None, gpus: float | None
) -> OnRay | None:
    """Where a job runs, None for this process. Raises Exit for a number without --on, CarraraError for no cluster."""
    from carrara.workflows.cluster.plan import OnRay

    if on is not None:
        return OnRay(on, workers=workers, replicas=replicas, gpus=gpus)
    if workers is not None or replicas is not None or gpus is not None:
        raise usage("--workers, --replicas and --gpus are for clusters: give --on too")
    return None


WorkflowMaker = Callable[[], "Definition[..., Any]"]
"""Gives the workflow that a command is about; it is loaded only where it is needed."""


def engine_names(given: Sequence[str], workflow: WorkflowMaker | None = None) -> tuple[str, ...]:
    """The engines that an option names, each once: it may be given several times, and hold names with commas between.
    Raises Exit where one is called neither as one of `carrara engines` nor as one of the workflow's own."""
    from carrara.engines.errors import LoadingError
    from carrara.engines.registry import KINDS, kinds_by_name, known
    from carrara.workflows.engine_room import engines_of

    found = tuple(dict.fromkeys(name.strip() for one in given for name in one.split(",")))
    try:
        there: Collection[str] = KINDS
        if any(name not in there for name in found):
            there = kinds_by_name(engines_of(workflow())[1] if workflow is not None else None)
        for name in found:
            known(name, there)
    except LoadingError as error:
        raise usage(f"--engine: {error}") from error
    return found


def policy_for(path: Path, workflow: Definition[..., Any] | None) -> Policy:
    """The policy in a file; it may name the engines that the workflow defines, and the steps and fields that it has.
    Raises PipelineError for mistakes."""
    from carrara.workflows.asked import asked_by
    from carrara.workflows.engine_room import engines_of
    from carrara.workflows.yaml.policy import load_policy

    if workflow is None:
        return load_policy(path)
    return load_policy(path, engines=tuple(engines_of(workflow)[1]), asked=asked_by(workflow))


def check_model(name: str, option: str) -> None:
    """Raises Exit where no model is called so, and for a folder that holds none. Loads nothing."""
    from carrara.engines.errors import LoadingError
    from carrara.engines.weights import store
    from carrara.engines.weights.folder import check_folder

    try:
        found = store.find(name)
        if isinstance(found, Path):
            check_folder(found)
    except LoadingError as error:
        raise usage(f"{option}: {error}") from error


@dataclass(frozen=True, slots=True)
class How:
    """The options that say how, not what, to run.

    Raises:
        Exit: both a cassette to write and one to read, a run to be watched quietly, or no model of that name.
    """

    engine: str
    model: str | None
    record: Path | None
    replay: Path | None
    quiet: bool
    journal: str = field(default=JOURNAL, repr=False)  # its URL may hold a password
    concurrency: int | None = None
    policy: Path | None = None
    on: OnRay | None = None  # of a job: where it runs, None for this process
    watch: bool = False
    quick: bool | None = None  # local engines: see `LocalModel.open`
    limits: tuple[str, ...] = ()  # the words of --max-cost and --deadline, to go on with
    output: str = field(default="", repr=False)  # what the journal does not tell: that of `resume`
    accepts: bool = False  # --accept-changes
    reuse: bool = False  # equal steps of any run in the journal are taken from there
    told: frozenset[str] = frozenset()  # those of `ANSWERING` that the command line gives

    def __post_init__(self) -> None:
        if self.record is not None and self.replay is not None:
            raise usage("--record writes engine calls and --replay reads them: give one of them")
        if self.watch and self.quiet:
            raise usage("--watch shows answers and --quiet shows nothing: give one of them")
        if self.model is not None and self.replay is None:
            check_model(self.model, "--model")

    @property
    def answered_by(self) -> dict[str, Any]:
        """Who answers, as far as it is not the default, to keep with a job: paths hold from any folder."""
        model = self.model
        if model is not None and Path(model).exists():
            model = os.path.abspath(model)
        found = {
            "engine": None if self.engine == AUTO else self.engine,
            "model": model,
            "quick": self.quick,
            "policy": None if self.policy is None else os.path.abspath(self.policy),
        }
        return {name: value for name, value in found.items() if value is not None}

    def as_begun(self, answered_by: Mapping[str, Any]) -> How:
        """The same with who answered when the job began, where the command line does not say otherwise. An engine that
        it names has its own weights, not those of the one before.

        Raises:
            Exit: there is no model of that name any more.
        """
        without = self.told | ({"model", "quick"} if "engine" in self.told else set())
        taken = {name: value for name, value in answered_by.items() if name not in without}
        if "policy" in taken:
            taken["policy"] = Path(taken["policy"])
        return replace(self, **taken)

    @property
    def only_engine(self) -> str | None:
        """The engine that alone may be asked, None where the router chooses."""
        return self.engine if self.engine != AUTO and len(self._names) == 1 else None

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.strip() for name in self.engine.split(",")))

    def check_engines(self, workflow: WorkflowMaker) -> None:
        """Raises Exit where --engine names one that there is not."""
        if self.engine != AUTO:
            engine_names(self._names, workflow)

    def session(
        self, journal: Recorder | None = None, workflow: WorkflowMaker | None = None
    ) -> Session:
        """A session with these settings; without a journal nothing is kept. The policy may name the engines of the
        `workflow` too, which is loaded only where there is a policy."""
        from carrara.workflows.run import session

        engines = None if self.engine == AUTO else self._names
        return session(
            journal=journal,
            engines=engines,
            model=self.model,
            quick=self.quick,
            policy=None
            if self.policy is None
            else policy_for(self.policy, None if workflow is None else workflow()),
            concurrency=self.concurrency or 256,
            reuse="any" if self.reuse else "run",
            record=self.record,
            replay=self.replay,
            drafts=self.watch or (not self.quiet and sys.stderr.isatty()),
        )

    @contextmanager
    def watching(self) -> Iterator[tuple[Listener, ...]]:
        """Progress on standard error, if it is wanted, as listeners of a run."""
        from carrara.runtime.progress import progress
        from carrara.runtime.watching import watching

        if self.quiet:
            yield ()
            return
        with watching() if self.watch else progress() as shown:
            yield (shown,)

    def to_go_on(self, run_id: str) -> str:
        """The command that goes on with a run."""
        from carrara.runtime.database_url import without_password

        def said(option: str, place: str) -> str:
            return f" {option} {shlex.quote(without_password(place))}"

        output = said("--output", self.output) if self.output else ""
        journal = said("--journal", self.journal) if self.journal != JOURNAL else ""
        accepts = " --accept-changes" if self.accepts else ""
        reuse = " --reuse" if self.reuse else ""
        engines = said("--replay", str(self.replay)) if self.replay is not None else ""
        engines += "".join(f" {word}" for word in (*answering(self.answered_by), *self._cluster))
        limits = "".join(f" {word}" for word in self.limits)
        return f"`carrara resume {run_id}{output}{accepts}{reuse}{engines}{journal}{limits}`"

    @property
    def _cluster(self) -> Iterator[str]:
        """The options that say where a job runs."""
        if self.on is not None:
            yield f"--on {shlex.quote(self.on.address)}"
            for name in ("workers", "replicas", "gpus"):
                given = getattr(self.on, name)
                if given is not None:
                    yield f"--{name} {given:g}"


def answering(answered_by: Mapping[str, Any]) -> list[str]:
    """The options of `How.answered_by` as they are written on a command line."""
    words = []
    for name in ANSWERING:
        match answered_by.get(name):
            case None:
                pass
            case bool() as wanted:
                words.append(f"--{name}" if wanted else f"--no-{name}")
            case value:
                words.append(f"--{name} {shlex.quote(value)}")
    return words


def told_of_answering(context: typer.Context) -> frozenset[str]:
    """Those of the options that say who answers that the command line gives."""
    return frozenset(name for name in ANSWERING if is_given(context, name))


def is_given(context: typer.Context, name: str | None) -> bool:
    """Whether the command line gives an option, as against its default."""
    source = context.get_parameter_source(name or "")
    return source is not None and source.name == "COMMANDLINE"

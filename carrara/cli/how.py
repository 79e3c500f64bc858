"""How, not what, to run: who answers, where runs are kept, what is shown meanwhile."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from carrara.cli.options import JOURNAL
from carrara.cli.outcome import usage
from carrara.cli.who import AUTO, Who, WorkflowMaker, check_model, policy_for

if TYPE_CHECKING:
    from carrara.runtime.events import Listener
    from carrara.runtime.journal.recording import Recorder
    from carrara.workflows.cluster.plan import OnRay
    from carrara.workflows.session import Session


@dataclass(frozen=True, slots=True)
class How:
    """The options that say how, not what, to run.

    Raises:
        Exit: both a cassette to write and one to read, a run to be watched quietly, or no model of that name.
    """

    who: Who
    record: Path | None
    replay: Path | None
    quiet: bool
    journal: str = field(default=JOURNAL, repr=False)  # its URL may hold a password
    concurrency: int | None = None
    on: OnRay | None = None  # of a job: where it runs, None for this process
    watch: bool = False
    limits: tuple[str, ...] = ()  # the words of --max-cost and --deadline, to go on with
    output: str = field(default="", repr=False)  # what the journal does not tell: that of `resume`
    accepts: bool = False  # --accept-changes
    reuse: bool = False  # equal steps of any run in the journal are taken from there

    def __post_init__(self) -> None:
        if self.record is not None and self.replay is not None:
            raise usage("--record writes engine calls and --replay reads them: give one of them")
        if self.watch and self.quiet:
            raise usage("--watch shows answers and --quiet shows nothing: give one of them")
        if self.who.model is not None and self.replay is None:
            check_model(self.who.model, "--model")

    def session(
        self, journal: Recorder | None = None, workflow: WorkflowMaker | None = None
    ) -> Session:
        """A session with these settings; without a journal nothing is kept. The policy may name the engines of the
        `workflow` too, which is loaded only where there is a policy."""
        from carrara.workflows.run import session

        who, policy = self.who, None
        if who.policy is not None:
            policy = policy_for(who.policy, None if workflow is None else workflow())
        return session(
            journal=journal,
            engines=None if who.engine == AUTO else who.names,
            model=who.model,
            quick=who.quick,
            policy=policy,
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
        engines += "".join(f" {word}" for word in (*self.who.words, *self._cluster))
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

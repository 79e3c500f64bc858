"""Options that several commands share: which engines answer, from where, and what is shown meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carrara.cli.outcome import usage

if TYPE_CHECKING:
    from carrara.runtime.events import Listener
    from carrara.runtime.journal.sqlite import SqliteJournal
    from carrara.workflows.session import Session

JOURNAL = Path(".carrara/journal.db")


AUTO = "auto"
"""The engine option that leaves the choice to the router."""

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
        help="The engine to ask, a name of `carrara engines`; auto asks the router, several with commas between: "
        "it chooses among these.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Weights: a name of `carrara models` or a folder.")
]
JournalOption = Annotated[
    Path, typer.Option("--journal", help="The file that runs are written to.")
]
RecordOption = Annotated[
    Path | None, typer.Option("--record", help="Write every engine call to this file.")
]
ReplayOption = Annotated[
    Path | None, typer.Option("--replay", help="Answer every engine call from this file.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no report.")]


@dataclass(frozen=True, slots=True)
class How:
    """The options that say how, not what, to run.

    Raises:
        Exit: both a cassette to write and one to read, or an engine that there is not.
    """

    engine: str
    model: str | None
    record: Path | None
    replay: Path | None
    quiet: bool
    journal: Path = JOURNAL
    concurrency: int | None = None

    def __post_init__(self) -> None:
        if self.record is not None and self.replay is not None:
            raise usage("--record writes engine calls and --replay reads them: give one of them")
        if self.engine != AUTO:
            from carrara.engines.errors import LoadingError
            from carrara.engines.registry import known

            try:
                for name in self._names:
                    known(name)
            except LoadingError as error:
                raise usage(f"--engine: {error}") from error

    @property
    def only_engine(self) -> str | None:
        """The engine that alone may be asked, None where the router chooses."""
        return self.engine if self.engine != AUTO and len(self._names) == 1 else None

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.engine.split(","))

    def session(self, journal: SqliteJournal | None = None) -> Session:
        """A session with these settings; without a journal nothing is kept."""
        from carrara.workflows.run import session

        engines = None if self.engine == AUTO else self._names
        return session(
            journal=journal,
            engines=engines,
            model=self.model,
            concurrency=self.concurrency or 256,
            record=self.record,
            replay=self.replay,
            drafts=not self.quiet and sys.stderr.isatty(),
        )

    @contextmanager
    def watching(self) -> Iterator[tuple[Listener, ...]]:
        """Progress on standard error, if it is wanted, as listeners of a run."""
        from carrara.runtime.progress import progress

        if self.quiet:
            yield ()
            return
        with progress() as shown:
            yield (shown,)

    def to_go_on(self, run_id: str) -> str:
        """The command that goes on with a run."""
        journal = "" if self.journal == JOURNAL else f" --journal {self.journal}"
        return f"`carrara resume {run_id}{journal}`"

"""Progress of a run while it goes on: a live display on a terminal, a plain line per second elsewhere.

Both listen to the run's events and write to standard error. A display is a context: entering it starts what
redraws it between events, leaving it puts the terminal in order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event as Signal
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from carrara.engines.request import Progress
from carrara.runtime.canvas_view import harmless
from carrara.runtime.errors import shown
from carrara.runtime.events import DraftShown, Event, RunFinished, StepFailed, StepFinished
from carrara.runtime.report import Reporter, RunReport, StepReport
from carrara.runtime.report_view import headline, seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_MOST_NAMED = 8
_TAIL = 48
"""Characters of growing text that are shown."""

Clock = Callable[[], float]
"""Unix seconds, as in the events."""


def progress(stream: TextIO | None = None) -> PlainProgress | LiveProgress:
    """The display that suits `stream` (standard error): live on a terminal, else plain lines."""
    out = sys.stderr if stream is None else stream
    return LiveProgress(out) if out.isatty() else PlainProgress(out)


class PlainProgress:
    """At most a line a second: when something has changed, else every ten seconds; failures at once."""

    EVERY_S = 1.0
    QUIET_S = 10.0

    def __init__(self, stream: TextIO, clock: Clock = time.time) -> None:
        self._stream = stream
        self._clock = clock
        self._told_at = clock()
        self._told = ""
        self._reporter = Reporter()
        self._ended = Signal()
        self._ticker: Thread | None = None

    def __call__(self, event: Event) -> None:
        self._reporter(event)
        if isinstance(event, RunFinished):
            self._say(headline(self._reporter.report))
        elif isinstance(event, StepFailed) and not (event.will_retry or event.within):
            first = event.error.partition("\n")[0]  # the whole of it is told at the end
            self._say(f"failed: {shown(event.path)}: {first}")
        else:
            self.tick()

    def tick(self) -> None:
        """Say something if it is time to."""
        waited = self._clock() - self._told_at
        found = self._reporter.report
        if waited < self.EVERY_S or found.ok is not None or not found.openings:
            return
        counts = status(found)
        if counts != self._told or waited >= self.QUIET_S:
            self._told = counts
            self._say(f"{seconds(elapsed_s(found, self._clock()))}: {counts}")

    def _say(self, line: str) -> None:
        self._told_at = self._clock()
        # A reader that has gone away (a closed pipe) must not end the run.
        with suppress(OSError, ValueError):
            print(line, file=self._stream, flush=True)

    def _tick_until_ended(self) -> None:
        while not self._ended.wait(self.EVERY_S):
            self.tick()

    def __enter__(self) -> Self:
        self._ticker = Thread(target=self._tick_until_ended, name="carrara-progress", daemon=True)
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()


class LiveProgress:
    """A line for the run, a bar for each step, the newest draft; redrawn ten times a second."""

    REFRESH = 10

    def __init__(self, stream: TextIO, clock: Clock = time.time, *, rows: int = 12) -> None:
        self._stream = stream
        self._clock = clock
        self._rows = rows
        self._reporter = Reporter()
        self._draft: DraftShown | None = None
        self._live: Live | None = None

    def __call__(self, event: Event) -> None:
        self._reporter(event)
        if isinstance(event, DraftShown):
            self._draft = event
        elif isinstance(event, StepFinished) and self._draft and event.node == self._draft.node:
            self._draft = None

    def draw(self) -> RenderableType:
        """The display as it is now."""
        from rich.console import Group
        from rich.text import Text

        found = self._reporter.report
        took = seconds(elapsed_s(found, self._clock()))
        parts: list[object] = [Text(f"{found.workflow}  {took}: {status(found)}", style="bold")]
        steps = list(found.steps.values())
        shown = chosen(steps, self._rows)
        parts.append(_bars(shown))
        if len(steps) > len(shown):
            parts.append(Text(f"and {len(steps) - len(shown)} more steps", style="dim"))
        draft = self._draft
        if draft is not None:
            told = Text(f"{draft.path} ", style="dim", no_wrap=True)
            parts.append(told.append(_newest(draft.progress), style="italic"))
        return Group(*parts)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            get_renderable=self.draw,
            console=Console(file=self._stream),
            refresh_per_second=self.REFRESH,
            transient=True,
            # What is printed meanwhile goes above the display, but never from a file to the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _newest(draft: Progress) -> str:
    """A canvas with the share that is settled; of text that grows at its end, the end."""
    line = " ".join(harmless(draft.text).split())
    if draft.settled < 1:
        return f"{draft.settled:.0%} {line}"
    return line if len(line) <= _TAIL else f"… {line[-_TAIL:]}"


def status(found: RunReport) -> str:
    """How far a run is: "34 done, 4 running (book/extract 3, book/summary 1)"."""
    parts = [f"{found.total('done') + found.total('reused'):,} done"]
    totals = ((name, found.total(name)) for name in ("failed", "skipped", "running"))
    parts += [f"{count:,} {name}" for name, count in totals if count]
    busy = [f"{step.path} {step.running}" for step in list(found.steps.values()) if step.running]
    if len(busy) > _MOST_NAMED:
        busy[_MOST_NAMED:] = [f"and {len(busy) - _MOST_NAMED:,} others"]
    return ", ".join(parts) + (f" ({', '.join(busy)})" if busy else "")


def elapsed_s(found: RunReport, now: float) -> float:
    """Seconds a run has taken: until now, or until it ended."""
    if found.ok is not None or not found.openings:
        return found.seconds
    return max(found.seconds, now - found.opened_at)


def chosen(steps: list[StepReport], rows: int) -> list[StepReport]:
    """At most `rows` steps to show, in their order: those at work first, then the latest of the others."""
    by_need = sorted(range(len(steps)), key=lambda i: (not steps[i].running, -i))
    return [steps[i] for i in sorted(by_need[:rows])]


def _bars(steps: list[StepReport]) -> object:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for step in steps:
        well, bad = step.done + step.reused, step.failed + step.skipped + step.cancelled
        style = "red" if bad else "green"
        bar = ProgressBar(
            max(step.count, 1), well + bad, width=24, complete_style=style, finished_style=style
        )
        counts = (
            ("running", step.running),
            ("reused", step.reused),
            ("failed", step.failed),
            ("skipped", step.skipped),
            ("retries", step.retries),
        )
        note = ", ".join(f"{count:,} {name}" for name, count in counts if count)
        table.add_row(Text(step.path), bar, f"{well:,}/{step.count:,}", Text(note, style="dim"))
    return table

"""A run watched at work: the canvases of its steps, pass by pass, as they come out of the noise.

On a terminal the newest canvases are drawn in place; elsewhere each step says a line a second, and one at its end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from carrara.engines.request import Progress
from carrara.runtime.canvas_view import harmless, window
from carrara.runtime.events import DraftShown, Event, StepFailed, StepFinished
from carrara.runtime.progress import Clock, LiveProgress, PlainProgress, elapsed_s, status
from carrara.runtime.report_view import seconds

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

_MOST_SHOWN = 6
_BAR = 12


def watching(stream: TextIO | None = None) -> PlainCanvases | LiveCanvases:
    """The display of canvases that suits `stream` (standard error): drawn on a terminal, else lines."""
    out = sys.stderr if stream is None else stream
    return LiveCanvases(out) if out.isatty() else PlainCanvases(out)


@dataclass(slots=True)
class Watched:
    """The newest draft of a step. `ended`: None while it is at work, else whether it ended well."""

    path: str
    draft: Progress
    ended: bool | None = None
    took_s: float = 0.0
    told_at: float = 0.0


class _Canvases:
    """Which drafts there are, the steps that are at work last."""

    def __init__(self) -> None:
        self.found: dict[int, Watched] = {}

    def take(self, event: Event) -> Watched | None:
        """Follow an event; gives the canvas that it changed."""
        if isinstance(event, DraftShown):
            seen = self.found.get(event.node)
            if seen is None or seen.ended is not None:
                self.found.pop(event.node, None)
                seen = self.found[event.node] = Watched(event.path, event.progress)
            seen.draft = event.progress
            return seen
        if isinstance(event, (StepFinished, StepFailed)) and event.node in self.found:
            seen = self.found[event.node]
            seen.ended = isinstance(event, StepFinished)
            seen.took_s = getattr(event, "seconds", 0.0)
            self._forget()
            return seen
        return None

    def _forget(self) -> None:
        """Keep no more ended ones than could be shown."""
        ended = [node for node, seen in self.found.items() if seen.ended is not None]
        for node in ended[:-_MOST_SHOWN]:
            del self.found[node]

    def newest(self, most: int) -> list[Watched]:
        """Those at work first, then those that ended last; in the order in which they began."""
        everyone = list(self.found.values())
        by_need = sorted(range(len(everyone)), key=lambda i: (everyone[i].ended is not None, -i))
        return [everyone[i] for i in sorted(by_need[:most])]


class PlainCanvases(PlainProgress):
    """Progress lines, and for each step at work its canvas: at most a line a second, and the last one."""

    def __init__(self, stream: TextIO, clock: Clock = time.time) -> None:
        super().__init__(stream, clock)
        self._canvases = _Canvases()

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        seen = self._canvases.take(event)
        if seen is None:
            return
        now = self._clock()
        if seen.ended is not None or now - seen.told_at >= self.EVERY_S:
            seen.told_at = now
            self._say(line(seen))


class LiveCanvases(LiveProgress):
    """A line for the run, and the canvases as they stand; redrawn twenty times a second."""

    REFRESH = 20

    def __init__(self, stream: TextIO, clock: Clock = time.time) -> None:
        super().__init__(stream, clock)
        self._canvases = _Canvases()

    def __call__(self, event: Event) -> None:
        self._canvases.take(event)
        super().__call__(event)

    def draw(self) -> RenderableType:
        return _Screen(self)

    def head(self) -> Text:
        """The line of the run."""
        from rich.text import Text

        found = self._reporter.report
        took = seconds(elapsed_s(found, self._clock()))
        head = Text.assemble((found.workflow, "bold"), f"  {took}  ", (status(found), "grey58"))
        head.no_wrap = True
        return head

    def canvases(self, most: int) -> list[Watched]:
        return self._canvases.newest(most)


class _Screen:
    """What fits the terminal: the newest canvases share its height."""

    def __init__(self, shown: LiveCanvases) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(console.height - 3, 4)
        shown = self._shown.canvases(min(_MOST_SHOWN, max(1, room // 4)))
        yield self._shown.head()
        each = max(1, room // max(1, len(shown)) - 2)
        for seen in shown:
            yield ""
            yield from _panel(seen, console, options.max_width, each)


def _panel(seen: Watched, console: Console, width: int, most: int) -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    mark, style = {None: ("◆", "cyan"), True: ("✓", "green"), False: ("✗", "red")}[seen.ended]
    head = Table.grid(expand=True, padding=(0, 2, 0, 0))
    head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    name = Text.assemble((f"{mark} ", style), (seen.path, "bold" if seen.ended is None else ""))
    head.add_row(name, _figures(seen))
    yield head
    edge = Text("│ ", style=style if seen.ended is None else "grey30")
    for one in window(seen.draft, console, width - 4, most):
        yield Text("  ").append_text(edge).append_text(one)


def _figures(seen: Watched) -> Text:
    """Pass, share that is settled, and how sure; for one that ended its time."""
    from rich.text import Text

    draft = seen.draft
    found = Text(style="grey58")
    if seen.ended is None:
        full = round(draft.settled * _BAR)
        found.append("━" * full, style="cyan").append("━" * (_BAR - full), style="grey23")
        found.append(f" {draft.settled:4.0%}")
    count = f"pass {draft.step}" if seen.ended is None else f"{draft.step} passes"
    found.append(f"  {count}")
    if draft.sure is not None:
        found.append(f"  {draft.sure:.2f} sure")
    if seen.ended is not None and seen.took_s:
        found.append(f"  {seconds(seen.took_s)}")
    return found


def line(seen: Watched) -> str:
    """A canvas in one line of plain text."""
    draft = seen.draft
    sure = "" if draft.sure is None else f" {draft.sure:.2f} sure"
    state = {None: f"{draft.settled:.0%}", True: "done", False: "failed"}[seen.ended]
    return f"{seen.path} pass {draft.step} {state}{sure}: {' '.join(harmless(draft.text).split())}"


__all__ = ["LiveCanvases", "PlainCanvases", "Watched", "line", "watching"]

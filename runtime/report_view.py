"""Runs and their reports for the eye: tables on a terminal, aligned text elsewhere; the same cells in both."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from carrara.runtime.dollars import dollars
from carrara.runtime.errors import shown
from carrara.runtime.events import Event
from carrara.runtime.report import EngineReport, RunReport, StepReport

if TYPE_CHECKING:
    from rich.console import Console

    from carrara.runtime.journal.reading import RunSummary

STEPS = ("step", "ended", "busy", "waited", "notes")
ENGINES = (
    "step",
    "engine",
    "taken",
    "in",
    "cached",
    "out",
    "passes",
    "queued",
    "prefill",
    "decode",
)
RUNS = ("run", "workflow", "status", "started", "took", "steps", "failures")
_TEXT = frozenset({"step", "engine", "notes", "run", "workflow", "status", "started"})
_STATES = {"done": "green", "failed": "red", "running": "cyan", "interrupted": "yellow"}

_ENDS = {True: "done", False: "failed", None: "not ended"}
_STYLES = {
    "route": "dim",
    "degraded": "yellow",
    "changed": "cyan",
    "occupancy": "dim",
    "cost": "dim",
    "failed": "red",
    "stopped": "yellow",
}
_TOLD = frozenset({"run_id", "at", "path", "node"})


def headline(found: RunReport) -> str:
    """One line: how the run ended, how many steps, how long."""
    state = "interrupted" if found.cut else _ENDS[found.ok]
    counts = ", ".join(
        f"{total:,} {name}"
        for name in ("done", "reused", "failed", "skipped", "cancelled", "running")
        if (total := found.total(name))
    )
    again, which = "", "steps"
    if found.openings > 1:
        again, which = f" in {found.openings} openings", "steps of the last"
    return (
        f"run {found.run_id} of {found.workflow}: {state} after {seconds(found.seconds)}{again}, "
        f"{which}: {counts or 'none'}"
    )


def text(found: RunReport) -> str:
    """The whole report as lines of plain text."""
    lines = [headline(found), ""]
    for head, rows in tables(found):
        lines += [*_lines(head, rows), ""]
    return "\n".join([*lines, *remarks(found)]).rstrip() + "\n"


def show(found: RunReport, console: Console, *, headed: bool = True) -> None:
    """Print the report: with colours and rules where `console` is a terminal, else as `text`. `headed` False leaves
    the headline out there, for a reader who has just been told it."""
    if not console.is_terminal:
        lines = text(found) if headed else text(found).partition("\n")[2]
        console.print(lines, end="", markup=False, highlight=False, soft_wrap=True)
        return
    from rich.text import Text

    state = "yellow" if found.cut else {True: "green", False: "red", None: "yellow"}[found.ok]
    console.print(Text("● ", style=state).append(headline(found), style="default"), soft_wrap=True)
    for head, rows in tables(found):
        console.print()
        print_table(console, head, rows)
    console.print()
    for line in remarks(found):
        console.print(Text(line, style=_STYLES[line.partition(":")[0]]), soft_wrap=True)


def print_table(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table that fits a terminal; elsewhere aligned text, a line a row, nothing cut off."""
    if not console.is_terminal:
        console.print("\n".join(_lines(head, rows)), markup=False, highlight=False, soft_wrap=True)
        return
    from rich.table import Table
    from rich.text import Text

    gap = 2 if console.width > 100 else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold underline")
    for name in head:
        if name in _TEXT:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_STATES.get(cell, "")) for cell in row))
    console.print(table)


def tables(found: RunReport) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Head and rows of each table: the steps in the order in which they first appeared, then the engines."""
    steps = [_step_row(step) for step in found.steps.values()]
    engines = [
        _engine_row(step, name, engine)
        for step in found.steps.values()
        for name, engine in step.engines.items()
    ]
    return [(head, rows) for head, rows in ((STEPS, steps), (ENGINES, engines)) if rows]


def _step_row(step: StepReport) -> tuple[str, ...]:
    well = step.done + step.reused
    ended = f"{well:,}" if well == step.count else f"{well:,}/{step.count:,}"
    path, notes = _within(step.path), ", ".join(_notes(step))
    return (path, ended, seconds(step.busy_s), seconds(step.waited_s), notes)


def _engine_row(step: StepReport, name: str, engine: EngineReport) -> tuple[str, ...]:
    usage = engine.usage
    return (
        _within(step.path),
        name,
        f"{engine.accepted:,}/{engine.answers:,}",
        f"{usage.prompt_tokens:,}",
        f"{usage.cached_tokens:,}",
        f"{usage.completion_tokens:,}",
        f"{usage.passes:,}",
        seconds(engine.queued_s),
        seconds(engine.prefill_s),
        seconds(engine.decode_s),
    )


def _within(path: str) -> str:
    """A path without the run's own name, which the headline tells: tables are narrow on a terminal."""
    return path.partition("/")[2] or path


def remarks(found: RunReport) -> list[str]:
    """What deserves a sentence: why which engine, lesser modes, changed definitions, errors."""
    lines = [f"route: {step.path}: {_route(step)}" for step in found.steps.values() if step.engines]
    lines += [f"degraded: {line}" for line in found.degraded]
    lines += [
        f"occupancy: {name}: {counted.line}, while there were records to begin"
        for name, counted in found.occupancy.items()
    ]
    if found.cost:
        lines.append(f"cost: {dollars(found.cost)} by the policy's prices")
    for step in found.steps.values():
        for what, count in step.changes.items():
            lines.append(f"changed: {step.path}: {count} run again, {_other(what)} than recorded")
        for error, count in step.errors.most_common(3):
            lines.append(f"failed: {shown(step.path)}: {count} x {error}")
        left = len(step.errors) - 3
        if left > 0:
            lines.append(f"failed: {step.path}: and {left} other errors")
    if found.error and not any(step.errors for step in found.steps.values()):
        lines.append(f"{'stopped' if found.cut else 'failed'}: {found.error}")
    return lines


def seconds(value: float) -> str:
    """ "12 ms", "3.4 s", "2 min 5 s", "2 h 1 min"."""
    if value < 0.0005:
        return "0 s"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _route(step: StepReport) -> str:
    """ "diffusion (typed extraction), ar (confidence 0.31 is below 0.75 for json)"."""
    told = []
    for name, engine in step.engines.items():
        reasons = "; ".join(
            reason if len(engine.reasons) == 1 else f"{count} x {reason}"
            for reason, count in engine.reasons.most_common(3)
        )
        told.append(f"{name} ({reasons})" if reasons else name)
    return ", then ".join(told)


def _other(what: str) -> str:
    return f"other {what}" if what.endswith("s") else f"another {what}"


def _notes(step: StepReport) -> Iterator[str]:
    if step.reused:
        yield f"{step.reused:,} reused"
    for name, count in (
        ("failed", step.failed),
        ("skipped", step.skipped),
        ("cancelled", step.cancelled),
        ("running", step.running),
    ):
        if count:
            yield f"{count:,} {name}"
    if step.retries:
        yield f"{step.retries:,} retries"
    if step.hedges:
        yield f"{step.hedges:,} hedged, {in_vain(step)} in vain"
    if step.repairs:
        yield f"{step.edits:,} edits in {counted(step.repairs)} repairs"


def in_vain(step: StepReport) -> str:
    """What the engines that lost a race had done: "1.2 s, 310 tokens, 40 passes"."""
    parts = [seconds(step.wasted_s)]
    parts += [f"{step.wasted_tokens:,} tokens"] if step.wasted_tokens else []
    parts += [f"{step.wasted_passes:,} passes"] if step.wasted_passes else []
    return ", ".join(parts)


def counted(counts: Counter[str]) -> str:
    """ "3 table, 1 json"."""
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if name in _TEXT else cell.rjust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]


def run_row(run: RunSummary) -> tuple[str, ...]:
    """The cells of RUNS for one run."""
    took = "" if run.seconds is None else seconds(run.seconds)
    return (
        run.run_id,
        run.workflow,
        run.status,
        when(run.started_at),
        took,
        f"{run.steps:,}",
        f"{run.failures:,}",
    )


def when(at: float) -> str:
    """Unix seconds as local time: "2026-11-23 14:05:09"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def event_line(event: Event, since: float) -> str:
    """An event as one line: "+1.234 s  StepFinished  book/extract[3]  seconds=0.5"."""
    facts = [
        f"{field.name}={_fact(getattr(event, field.name))}"
        for field in dataclasses.fields(event)
        if field.name not in _TOLD and getattr(event, field.name) != field.default
    ]
    path = getattr(event, "path", "")
    return f"{event.at - since:+10.3f} s  {type(event).__name__:<14}  {path:<30}  {' '.join(facts)}".rstrip()


def _fact(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)

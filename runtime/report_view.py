"""A run's report for the eye: a table on a terminal, aligned text elsewhere; the same cells in both."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from carrara.runtime.events import Event
from carrara.runtime.report import RunReport, StepReport

if TYPE_CHECKING:
    from rich.console import Console

HEAD = ("step", "ended", "engine", "tokens in", "out", "passes", "busy", "waited", "notes")
_RIGHT = frozenset({"ended", "tokens in", "out", "passes", "busy", "waited"})

_TOLD = frozenset({"run_id", "at", "path", "node"})


def headline(found: RunReport) -> str:
    """One line: how the run ended, how many steps, how long."""
    state = {True: "done", False: "failed", None: "not ended"}[found.ok]
    counts = ", ".join(
        f"{total:,} {name}"
        for name in ("done", "reused", "failed", "skipped", "cancelled", "running")
        if (total := found.total(name))
    )
    again = f" in {found.openings} openings" if found.openings > 1 else ""
    return (
        f"run {found.run_id} of {found.workflow}: {state} after {seconds(found.seconds)}{again}, "
        f"steps: {counts or 'none'}"
    )


def text(found: RunReport) -> str:
    """The whole report as lines of plain text."""
    cells = [HEAD, *rows(found)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
    lines = [headline(found), ""]
    if found.steps:
        lines += [_line(row, widths) for row in cells]
        lines.append("")
    return "\n".join([*lines, *remarks(found)]).rstrip() + "\n"


def show(found: RunReport, console: Console) -> None:
    """Print the report: as a table where `console` is a terminal, else as `text`."""
    if not console.is_terminal:
        console.print(text(found), end="", markup=False, highlight=False, soft_wrap=True)
        return
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    state = {True: "green", False: "red", None: "yellow"}[found.ok]
    console.print(f"[{state}]●[/] {escape(headline(found))}", highlight=False)
    if found.steps:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for name in HEAD:
            table.add_column(
                name, justify="right" if name in _RIGHT else "left", no_wrap=name in _RIGHT
            )
        for row in rows(found):
            table.add_row(*map(escape, row))
        console.print(table)
    for line in remarks(found):
        console.print(f"[yellow]{escape(line)}[/]", highlight=False, soft_wrap=True)


def rows(found: RunReport) -> Iterator[tuple[str, ...]]:
    """The cells of the table, a row a step, in the order in which the steps first appeared."""
    for step in found.steps.values():
        usage = step.usage
        cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
        yield (
            step.path,
            _ended(step),
            _engines(step),
            f"{usage.prompt_tokens:,}{cached}" if step.engines else "",
            f"{usage.completion_tokens:,}" if step.engines else "",
            f"{usage.passes:,}" if step.engines else "",
            seconds(step.busy_s),
            seconds(step.waited_s),
            "; ".join(_notes(step)),
        )


def remarks(found: RunReport) -> list[str]:
    """What deserves a sentence: lesser modes, changed definitions, errors."""
    lines = [f"degraded: {line}" for line in found.degraded]
    for step in found.steps.values():
        for what, count in step.changes.items():
            lines.append(f"changed: {step.path}: {count} run again, another {what} than recorded")
        for error, count in step.errors.most_common(3):
            lines.append(f"failed: {step.path}: {count} x {error}")
        left = len(step.errors) - 3
        if left > 0:
            lines.append(f"failed: {step.path}: and {left} other errors")
    if found.error and not any(step.errors for step in found.steps.values()):
        lines.append(f"failed: {found.error}")
    return lines


def seconds(value: float) -> str:
    """ "12 ms", "3.4 s", "2 min 5 s"."""
    if value < 0.0005:
        return "0 s"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {value % 60:.0f} s"


def _ended(step: StepReport) -> str:
    """How many nodes ended well, of how many."""
    well = step.done + step.reused
    return f"{well:,}" if well == step.count else f"{well:,}/{step.count:,}"


def _engines(step: StepReport) -> str:
    """Who answered how often, and the main reason for which it was asked."""
    told = []
    for name, engine in step.engines.items():
        why = engine.reasons.most_common(1)
        reason = f": {why[0][0]}" if why else ""
        told.append(f"{name} {engine.accepted}/{max(engine.answers, engine.rejected)}{reason}")
    return "; ".join(told)


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
    if step.repairs:
        yield f"{step.edits:,} edits in {counted(step.repairs)} repairs"


def counted(counts: Counter[str]) -> str:
    """ "3 table, 1 json"."""
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = (
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for cell, width, name in zip(cells, widths, HEAD, strict=True)
    )
    return "  ".join(parts).rstrip()


def when(at: float) -> str:
    """Unix seconds as local time: "2026-11-23 14:05:09"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def event_line(event: Event, since: float) -> str:
    """An event as one line: "+1.234 s  StepFinished  book/extract[3]  seconds=0.5"."""
    facts = [
        f"{field.name}={getattr(event, field.name)!r}"
        for field in dataclasses.fields(event)
        if field.name not in _TOLD and getattr(event, field.name) != field.default
    ]
    path = getattr(event, "path", "")
    return f"{event.at - since:+10.3f} s  {type(event).__name__:<14}  {path:<30}  {' '.join(facts)}".rstrip()

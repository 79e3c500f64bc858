"""`carrara eval`: a workflow over labelled rows, with marks and latencies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.options import (
    EngineChoice,
    EngineOption,
    How,
    ModelOption,
    QuietOption,
    RecordOption,
    ReplayOption,
    Target,
)
from carrara.cli.outcome import FAILED, finish, give, note

if TYPE_CHECKING:
    from carrara.workflows.evaluate import Evaluation


def evaluate(
    target: Target,
    rows: Annotated[Path, typer.Argument(help="Labelled rows, JSON lines.", metavar="DATA.jsonl")],
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first rows.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Rows at once.")] = 16,
    engine: EngineOption = EngineChoice.auto,
    model: ModelOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the marks as JSON.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write each row's answer and marks here.")
    ] = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run a workflow over labelled rows and print accuracy, F1, parse rate, latencies and engine calls.

    A row that fails counts as one whose answer did not parse; the exit code is 1 only when every row failed.
    """
    from carrara.workflows.outputs import make_place, write_outputs

    how = How(engine, model, record, replay, quiet)
    if output is not None:
        make_place(output.with_suffix(".jsonl"))
    found = finish(_evaluate(how, target, rows, limit, concurrency))
    if output is not None:
        write_outputs([asdict(row) for row in found.rows], output.with_suffix(".jsonl"))
    summary = found.summary()
    give(json.dumps(summary, indent=2) if as_json else _text(summary))
    for reason, count in summary["failures"].items():
        note(f"failed: {count} x {reason}")
    if found.rows and summary["failed"] == len(found.rows):
        raise typer.Exit(FAILED)


async def _evaluate(
    how: How, target: str, rows: Path, limit: int | None, concurrency: int
) -> Evaluation:
    from carrara.workflows.evaluate import evaluate as score_rows
    from carrara.workflows.target import load_workflow

    workflow = load_workflow(target)
    async with how.session() as session:
        with how.watching() as progress:
            return await score_rows(
                workflow,
                str(rows),
                session,
                limit=limit,
                concurrency=concurrency,
                listeners=progress,
            )


def _text(summary: Mapping[str, Any]) -> str:
    latency = ", ".join(f"{name} {value:.2f} s" for name, value in summary["latency_s"].items())
    lines = [
        f"{summary['workflow']} on {summary['data']}: {summary['rows']} rows in {summary['seconds']} s",
        f"accuracy     {_share(summary['accuracy'])} of the classifications",
        f"exact match  {_share(summary['exact_match'])}",
        f"field F1     {_share(summary['field_f1'])}",
        f"parse rate   {_share(summary['parse_rate'])}",
        f"latency      {latency} ({summary['concurrency']} at once)",
    ]
    if summary["accuracy"] is None:
        del lines[1]
    for name, use in summary["engines"].items():
        lines.append(
            f"{name:12} {use['calls']} calls, {use['rejected']} rejected, {use['passes']} passes, "
            f"{use['completion_tokens']} tokens"
        )
    if len(summary["tasks"]) > 1:
        for task, marks in summary["tasks"].items():
            lines.append(
                f"{task}: {marks['rows']} rows, exact match {_share(marks['exact_match'])}, "
                f"field F1 {_share(marks['field_f1'])}, parse rate {_share(marks['parse_rate'])}"
            )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"

"""`carrara eval`: a workflow over labelled rows, with marks and latencies."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.outcome import finish
from carrara.cli.run import (
    EngineChoice,
    EngineOption,
    ModelOption,
    QuietOption,
    RecordOption,
    ReplayOption,
    Target,
)

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
    """Run a workflow over labelled rows and print accuracy, F1, parse rate, latencies and engine calls."""
    work = _evaluate(target, rows, limit, concurrency, engine, model, record, replay, quiet)
    found = finish(work)
    if output is not None:
        from carrara.workflows.outputs import write_outputs

        write_outputs([asdict(row) for row in found.rows], output.with_suffix(".jsonl"))
    print(json.dumps(found.summary(), indent=2) if as_json else _text(found))


async def _evaluate(
    target: str,
    rows: Path,
    limit: int | None,
    concurrency: int,
    engine: EngineChoice,
    model: str | None,
    record: Path | None,
    replay: Path | None,
    quiet: bool,
) -> Evaluation:
    from contextlib import ExitStack

    from carrara.runtime.progress import progress
    from carrara.workflows.evaluate import evaluate as score_rows
    from carrara.workflows.pipeline_settings import settings_of
    from carrara.workflows.run import session
    from carrara.workflows.target import load_workflow

    workflow = load_workflow(target)
    brought = settings_of(target)
    with ExitStack() as stack:
        listeners: tuple[Any, ...] = () if quiet else (stack.enter_context(progress()),)
        kept = session(
            engines=None if engine == EngineChoice.auto else (engine.value,),
            model=model,
            policy=brought.policy,
            limits=brought.limits,
            listeners=listeners,
            record=record,
            replay=replay,
        )
        async with kept:
            return await score_rows(workflow, str(rows), kept, limit=limit, concurrency=concurrency)


def _text(found: Evaluation) -> str:
    summary = found.summary()
    latency = ", ".join(f"{name} {value:.2f} s" for name, value in summary["latency_s"].items())
    lines = [
        f"{summary['workflow']} on {summary['data']}: {summary['rows']} rows in {summary['seconds']} s",
        f"exact match  {summary['exact_match']:.3f}",
        f"field F1     {summary['field_f1']:.3f}",
        f"parse rate   {summary['parse_rate']:.3f}",
        f"latency      {latency} ({summary['concurrency']} at once)",
    ]
    for name, use in summary["engines"].items():
        lines.append(
            f"{name:12} {use['calls']} calls, {use['rejected']} rejected, {use['passes']} passes, "
            f"{use['completion_tokens']} tokens"
        )
    return "\n".join(lines)

"""`carrara eval`: a workflow over labelled rows, with marks, times and calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.how import How
from carrara.cli.options import (
    EngineOption,
    ModelOption,
    PolicyOption,
    QuickOption,
    QuietOption,
    RecordOption,
    ReplayOption,
    Target,
)
from carrara.cli.outcome import FAILED, finish, give, note, usage
from carrara.cli.who import AUTO, Who

if TYPE_CHECKING:
    from carrara.workflows.evaluation import Evaluation
    from carrara.workflows.scoring.score import Scoring


def evaluate(
    target: Target,
    rows: Annotated[Path, typer.Argument(help="Labelled rows, JSON lines.", metavar="DATA.jsonl")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only so many rows, the first ones.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Draw the rows at random instead of taking the first.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Begin no further row after this time.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Rows at once; 1 to time answers that share nothing.")
    ] = 16,
    score: Annotated[
        str | None,
        typer.Option(
            help="The rule to score by (docs/evaluation.md), in place of the workflow's own."
        ),
    ] = None,
    engine: EngineOption = AUTO,
    model: ModelOption = None,
    quick: QuickOption = None,
    policy: PolicyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the marks as JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write each row's answer and marks here: .jsonl or .csv."
        ),
    ] = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run a workflow over labelled rows and print exact match, F1, parse rate, times, calibration and engine calls.

    With --engine every step asks that engine and no other. A row that fails counts as one whose answer did not
    parse; the exit code is 1 only when every row failed.
    """
    from carrara.workflows.outputs import make_place, write_outputs
    from carrara.workflows.row_format import check_suffix

    how = How(Who(engine, model, quick, policy), record, replay, quiet)
    if output is not None:
        output = output if output.suffix else output.with_suffix(".jsonl")
        check_suffix(output)
        make_place(output)
    chosen = {
        "limit": limit,
        "seed": seed,
        "seconds": seconds,
        "concurrency": concurrency,
        "scoring": None if score is None else _scoring(score),
    }
    found = finish(_evaluate(how, target, rows, chosen))
    if output is not None:
        write_outputs([row.to_data() for row in found.rows], output)
    summary = found.summary()
    give(json.dumps(summary, indent=2) if as_json else _text(summary))
    for reason, count in summary["failures"].items():
        note(f"failed: {count} x {reason}")
    if found.rows and summary["failed"] == len(found.rows):
        raise typer.Exit(FAILED)


async def _evaluate(how: How, target: str, rows: Path, chosen: Mapping[str, Any]) -> Evaluation:
    from carrara.workflows.evaluate import evaluate as score_rows
    from carrara.workflows.target import load_workflow

    workflow = load_workflow(target)
    how.who.check_engines(lambda: workflow)
    async with how.session(workflow=lambda: workflow) as session:
        with how.watching() as progress:
            return await score_rows(
                workflow,
                str(rows),
                session,
                engine=how.who.only_engine,
                listeners=progress,
                **chosen,
            )


def _scoring(rule: str) -> Scoring:
    from typing import cast

    from carrara.workflows.scoring.score import Rule, Scoring

    try:
        return Scoring(cast(Rule, rule))
    except ValueError as error:
        raise usage(f"--score: {error}") from error


def _text(summary: Mapping[str, Any]) -> str:
    speed = summary["ms_per_answer"]
    lines = [
        f"{summary['workflow']} on {summary['data']}: {summary['rows']} rows in {summary['seconds']} s",
        f"exact match  {_share(summary['exact_match'])}",
        f"field F1     {_share(summary['field_f1'])}",
        f"parse rate   {_share(summary['parse_rate'])}",
        f"an answer    median {speed['median']:.0f} ms, p95 {speed['p95']:.0f} ms "
        f"({summary['concurrency']} at once)",
    ]
    if summary["tokens_per_pass"] is not None:
        lines.append(
            f"passes       {summary['passes_per_row']} a row, {summary['tokens_per_pass']} tokens a pass"
        )
    if (sure := summary["calibration"]["overall"]) is not None:
        lines.append(
            f"confidence   mean {_share(sure['confidence'])}, AUROC {_share(sure['auroc'])}, "
            f"ECE {_share(sure['ece'])}"
        )
    for name, use in summary["engines"].items():
        lines.append(
            f"{name:12} {use['calls']} calls, {use['rejected']} rejected, {use['passes']} passes, "
            f"{use['completion_tokens']} tokens"
        )
    lines += _parts("field", summary["fields"]) + _parts("task", summary["tasks"])
    return "\n".join(lines)


def _parts(what: str, parts: Mapping[str, Any]) -> list[str]:
    """A line for each field or task, if there are several."""
    if len(parts) < 2:
        return []
    return [
        f"{what} {name}: exact match {_share(marks['exact_match'])}, F1 {_share(marks['field_f1'])}"
        for name, marks in parts.items()
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

"""`carrara calibrate`: thresholds for an accuracy, fitted on labelled rows, written as a policy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.how import How
from carrara.cli.options import ModelOption, QuickOption, QuietOption, Target
from carrara.cli.outcome import FAILED, finish, give, note, usage
from carrara.cli.who import Who, engine_names

if TYPE_CHECKING:
    from carrara.workflows.calibration.calibrate import Calibrated
    from carrara.workflows.calibration.fit import Point
    from carrara.workflows.calibration.fit import Target as Goal

_SHOWN = 12


def calibrate(
    target: Target,
    rows: Annotated[Path, typer.Argument(help="Labelled rows, JSON lines.", metavar="DATA.jsonl")],
    goal: Annotated[
        str,
        typer.Option(
            "--target",
            help="What to reach, as accuracy=0.95 or f1=0.9; accuracy=best: as good as the best engine alone.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The policy file to write.")
    ] = Path("policy.yaml"),
    min_coverage: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The share of rows that the first engine must answer alone."
        ),
    ] = 0.0,
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="The candidates, with commas between or each with its own --engine. [default: diffusion, ar]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Draw so many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of the split.")] = 0,
    holdout: Annotated[
        float, typer.Option(min=0, max=0.9, help="The share of rows to try the policy on.")
    ] = 0.4,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Rows at once; 1 times answers that share nothing.")
    ] = 1,
    plot: Annotated[Path | None, typer.Option(help="Draw the frontier to this PNG.")] = None,
    model: ModelOption = None,
    quick: QuickOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the frontier as JSON.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Fit the router to labelled rows: the fastest thresholds that reach an accuracy.

    Each candidate answers the rows by itself; what is fitted on some of them is tried on the others. The exit code is
    1 where the target was not reached; the policy is written all the same.
    """
    wanted = _goal(goal, min_coverage)
    from carrara.workflows.outputs import make_place
    from carrara.workflows.target import file_of, load_workflow

    workflow = cache(lambda: load_workflow(target))
    names = engine_names(engines or ["diffusion", "ar"], workflow)
    if len(names) < 2:
        raise usage(f"calibration compares at least two engines: --engine {names[0]},ANOTHER")
    definition = file_of(workflow())
    make_place(output, definition, rows)
    if plot is not None:
        from carrara.workflows.calibration.plot import check_place

        check_place(plot)
        make_place(plot, definition, rows, "--plot")
        if plot.resolve() == output.resolve():
            raise usage(f"--plot and --output are both {plot}: name two files")
    chosen = {"limit": limit, "seed": seed, "holdout": holdout, "concurrency": concurrency}
    how = How(Who(model=model, quick=quick), None, None, quiet)
    found = finish(_calibrate(how, target, rows, wanted, names, chosen))
    from carrara.workflows.calibration.certainty import SLACK
    from carrara.workflows.calibration.plot import draw
    from carrara.workflows.outputs import write_outputs
    from carrara.workflows.yaml.policy import policy_text

    text = _text(found)
    write_outputs(policy_text(found.policy, text), output)
    give(json.dumps(_data(found), indent=2) if as_json else text)
    note(f"wrote {output}; use it with --policy {output}")
    if plot is not None:
        drawn = draw(found, plot)
        note(f"wrote {drawn}" if drawn else "no picture: pip install 'carrara[calibrate]'")
    if (wanted_rows := found.rows_wanted) is not None:
        note(
            f"{found.fitted_rows} rows are too few to tell that any setting keeps {goal} within {SLACK:g} on others: "
            f"the surest is taken, at least {found.chosen.low:.3f}; about {wanted_rows:,} rows to fit on would tell"
        )
    if found.falls_short:
        note(f"the policy falls short of {goal} on rows that it was not fitted on; see the trial")
    if not found.reached:
        note(f"not reached: {goal} at a coverage of {min_coverage:g}; the policy comes closest")
        raise typer.Exit(FAILED)


async def _calibrate(
    how: How, target: str, rows: Path, goal: Goal, names: Sequence[str], chosen: dict[str, Any]
) -> Calibrated:
    from carrara.workflows.calibration.calibrate import calibrate as fit
    from carrara.workflows.target import load_workflow

    workflow = load_workflow(target)
    async with how.session(workflow=lambda: workflow) as session:
        told = (lambda line: None) if how.quiet else note
        return await fit(workflow, str(rows), session, goal, engines=names, tell=told, **chosen)


def _goal(text: str, min_coverage: float) -> Goal:
    from typing import cast

    from carrara.workflows.calibration.fit import Metric
    from carrara.workflows.calibration.fit import Target as Goal

    name, equals, value = text.partition("=")
    try:
        number = None if value == "best" else float(value)
    except ValueError:
        number = -1.0
    if not equals or name not in ("accuracy", "f1") or not (number is None or 0 <= number <= 1):
        raise usage(
            f"--target takes accuracy=SHARE or f1=SHARE, a share from 0 to 1 or `best`, not {text!r}"
        )
    return Goal(cast(Metric, name), number, min_coverage)


def _text(found: Calibrated) -> str:
    """The frontier as a table, the choice, and what it reached on other rows."""
    from carrara.workflows.calibration.fit import best

    metric = found.target.metric
    value = found.target.value
    wanted = "of the best engine alone" if value is None else f"{value:g}"
    lines = [
        f"{metric} {wanted} wanted; fitted on {found.fitted_rows} rows",
        f"{'engines':24} {metric:>9} {'coverage':>9} {'ms a row':>9} {'$ a row':>9}",
    ]
    if found.left_out.rows:
        lines.insert(1, found.left_out.told)
    shown = best(found.points, _SHOWN)
    for point in [*found.single, *shown]:
        mark = "  chosen" if point == found.chosen else ""
        lines.append(_line(point) + mark)
    if found.chosen not in found.single and found.chosen not in shown:
        lines.append(_line(found.chosen) + "  chosen")
    first, last = found.chosen.engines[0], found.chosen.engines[-1]
    for name, sure in found.chosen.thresholds.items():
        lines.append(f"step {name}: {first}'s answer is taken at a confidence of {sure!r} or more")
    for name, fields in found.chosen.fields.items():
        for place, sure in fields.items():
            lines.append(
                f"step {name}, field {place}: {first}'s at {sure!r} or more, else {last} fills it"
            )
    if found.chosen.guessed:
        lines.append(
            f"in {found.chosen.guessed:.0%} of the rows an earlier step's answer changes hands, and what the steps "
            "behind it then answer is a guess"
        )
    return "\n".join([*lines, *_trial_lines(found)])


def _trial_lines(found: Calibrated) -> list[str]:
    trial = found.trial
    if trial is None:
        return []
    if not trial.rows:
        return [f"not tried on other rows: {trial.left_out.told}"]
    told = (
        f"on {trial.rows} other rows: {found.target.metric} {trial.value:.3f} "
        f"(95 % interval {trial.low:.3f} to {trial.high:.3f}), coverage {trial.coverage:.2f}, "
        f"{trial.ms:.0f} ms a row"
    )
    return [told, trial.left_out.told] if trial.left_out.rows else [told]


def _line(point: Point) -> str:
    return (
        f"{point.named:24} {point.value:9.3f} {point.coverage:9.2f} "
        f"{point.ms:9.0f} {point.cost:9.5f}"
    )


def _data(found: Calibrated) -> dict[str, Any]:
    from carrara.workflows.calibration.fit import best

    return {
        "target": asdict(found.target),
        "reached": found.reached,
        "chosen": asdict(found.chosen),
        "fitted_rows": found.fitted_rows,
        "left_out": asdict(found.left_out),
        "trial": None if found.trial is None else asdict(found.trial),
        "single": [asdict(point) for point in found.single],
        "frontier": [asdict(point) for point in best(found.points, _SHOWN)],
    }


__all__ = ["calibrate"]

"""`carrara adapt`: train a model on labelled rows, so that it denoises their contracts and still writes as before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from carrara.cli.outcome import FAILED, give, note, usage
from carrara.cli.who import check_model
from carrara.engines.errors import CarraraError

_DATA = Annotated[
    Path,
    typer.Option(
        help="Labelled rows: JSON lines with prompt, response and contract (.jsonl, .xz)."
    ),
]
_USUAL = "smollm2"


def adapt(
    data: _DATA,
    out: Annotated[Path, typer.Option(help="The folder for the adapter; its training lies in it.")],
    base: Annotated[
        str, typer.Option(help="A model of the catalogue, or a Hugging Face folder.")
    ] = _USUAL,
    method: Annotated[
        str, typer.Option(help="lora: an adapter beside the weights; full: a whole model.")
    ] = "lora",
    start: Annotated[
        str | None,
        typer.Option(
            help="An adapter to begin with: its folder, or 'embedded'.", metavar="ADAPTER"
        ),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Rows of the same form to decode at the end.")
    ] = None,
    dev_rows: Annotated[int, typer.Option(help="How many dev rows of each task.", min=1)] = 40,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop and save after so long; --resume goes on.", min=0)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A number of the recipe, such as rank=64."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The adapter's name; else the folder's.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1; else what is there.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that prepare the data.", min=0)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train an adapter that makes a Llama-shaped model a diffusion model for your contracts.

    It can be cut off at any moment and resumed, also on another machine.
    """
    from carrara.engines.adapt.job import Order, to_resume

    if resume:
        to_resume(out)
    if resume and (steps is not None or settings or method != "lora" or start):
        raise usage("a training is resumed with the recipe it began with: leave out its numbers")
    from carrara.engines.adapt.recipe import Recipe, settings_of

    check_model(base, "--base")
    try:
        found = settings_of(settings or ())
        recipe = Recipe.of(
            {"method": method, **found, **({} if steps is None else {"steps": steps})}
        )
    except CarraraError as error:
        raise usage(f"the recipe: {error}") from error
    from carrara.engines.adapt.job import adapt as carry_out
    from carrara.engines.registry import EMBEDDED

    order = Order(
        base,
        data,
        out,
        recipe,
        dev,
        dev_rows,
        name,
        resume,
        minutes,
        start=EMBEDDED if start == "embedded" else Path(start) if start else None,
        device=device,
        workers=workers,
    )
    result = carry_out(order, _Shown())
    if as_json:
        shown = {
            "out": str(result.out),
            "done": result.done,
            "steps": result.steps,
            "files": [str(path) for path in result.files],
            "scores": result.scores,
        }
        give(json.dumps(shown, indent=2))
    else:
        give(f"wrote {out}: " + ", ".join(path.name for path in result.files))
    if not result.done:
        of = "" if base == _USUAL else f" --base {base}"
        again = f"carrara adapt --resume{of} --data {data} --out {out}"
        note(f"stopped before the last step; go on with: {again}")
        raise typer.Exit(FAILED)


class _Shown:
    """Log lines for a person: the first steps, then one in ten."""

    def __call__(self, line: Mapping[str, Any]) -> None:
        if "event" in line:
            note(_event(line))
        elif line["step"] <= 3 or line["step"] % 10 == 0:
            note(
                f"step {line['step']}: denoising loss {line['denoised_loss']:.3f}, "
                f"causal {line['causal_loss']:.3f}, {line['positions_per_s']} positions/s, "
                f"{line['elapsed_s']:.0f} s"
            )


def _event(line: Mapping[str, Any]) -> str:
    match line["event"]:
        case "begin":
            return f"{line['rows']:,} rows, step {line['step']} of {line['recipe']['steps']}, on {line['device']}"
        case "left out":
            return (
                f"left out: {line['too_long']} too long, {line['unfit']} unfit ({line['problem']})"
            )
        case "decoded":
            rows = [
                f"  {task or '(no task)'}: exact {n['exact']:.3f}, leaves {n['leaves']:.3f}, "
                f"{n['passes']} passes, {n['seconds']:.2f} s an answer"
                for task, n in line["tasks"].items()
            ]
            return "\n".join(["decoded dev rows:", *rows])
        case _:
            return f"{line['event']}: step {line.get('step')}"

"""`carrara job init`: a first pipeline for a job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carrara.cli.outcome import note, usage

job = typer.Typer(name="job", help="Begin a job over many documents.", no_args_is_help=True)


@job.callback()
def options() -> None:
    """Begin a job over many documents."""


@job.command("init")
def init(
    source: Annotated[
        Path,
        typer.Argument(
            help='A JSON Schema (.json), or example rows (.jsonl): {"text": …, "gold": what is wanted}.'
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The pipeline; by default SOURCE.yaml.")
    ] = None,
) -> None:
    """Write a pipeline with comments that extracts what a schema says, or what a few example rows show.

    The exit code is 0 where it is written, else 2.
    """
    import re

    from carrara.workflows.starting import pipeline_text, read_start

    start = read_start(source)
    place = output or source.with_name(source.name.split(".")[0] + ".yaml")
    if place.exists():
        raise usage(f"{place} is there already and is kept; name another file with --output")
    name = re.sub(r"\W+", "_", place.stem).strip("_") or "job"
    text = pipeline_text(start, name if name[0].isalpha() else f"job_{name}")
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise usage(f"cannot write {place}: {error.strerror}") from error
    for guess in start.guesses:
        note(f"{guess}; change it in {place} if it is something else")
    note(f"wrote {place}; `carrara validate {place}` checks it after each change")

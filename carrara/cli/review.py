"""`carrara review`: a person decides on the rows that a job was not sure of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carrara.cli.outcome import FAILED, note


def review(
    file: Annotated[
        Path, typer.Argument(help="What `carrara run --review` wrote: OUT.review.jsonl.")
    ],
    workflow: Annotated[
        str | None,
        typer.Option(
            help="The workflow that the job ran: its validators hold for edited rows, too.",
            metavar="TARGET",
        ),
    ] = None,
) -> None:
    """Look at the rows that a job was not sure of, beside their source, and accept, edit or reject each.

    Decisions go at once to OUT.decided.jsonl; accepted and edited rows are labelled rows in OUT.labelled.jsonl, for
    `carrara eval`, `calibrate` and `adapt`. A review can be left and taken up at any time.

    The exit code is 0 where every row is decided, 1 where some are left, 2 where there is nothing to review.
    """
    from carrara.workflows.review.terminal import review as at_terminal

    desk = at_terminal(file, workflow)
    decided = sum(desk.decisions[row.key] is not None for row in desk.rows)
    note(f"{decided} of {len(desk.rows)} rows decided")
    steps = {row.lesson.validated_by for row in desk.rows if row.lesson is not None} - {None}
    if workflow is None and steps:
        named = ", ".join(sorted(map(repr, steps)))
        note(f"edits were not held to the validators of {named}: review with --workflow TARGET")
    if desk.decisions.outdated:
        note(
            f"{desk.decisions.outdated} rows have changed since they were decided on: decide again"
        )
    if decided:
        note(f"decisions: {desk.decisions.decided}; labelled rows: {desk.decisions.labelled}")
    if decided < len(desk.rows):
        raise typer.Exit(FAILED)


__all__ = ["review"]

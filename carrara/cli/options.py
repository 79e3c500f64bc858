"""Options that several commands share: which engines answer, from where, and what is shown meanwhile.

`who` and `how` are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JOURNAL = ".carrara/journal.db"


JOBS = "Jobs"
"""The panel of the options that only a job over records can heed; a single run refuses them."""

Target = Annotated[
    str,
    typer.Argument(
        help="A pipeline file, file.py:name, or package.module:name.", metavar="WORKFLOW"
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        help="The engine to ask, a name of `carrara engines` or of the pipeline's own; auto asks the router, several "
        "with commas between: it chooses among these.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Weights: a name of `carrara models` or a folder.")
]
QuickOption = Annotated[
    bool | None,
    typer.Option(
        "--quick/--no-quick",
        help="Local engines: canvases and their prompts in int8 (float8 on GPUs), faster and nearly as exact; or all "
        "weights as they are. Else as carrara.toml says.",
    ),
]
JournalOption = Annotated[
    str,
    typer.Option(
        "--journal",
        help="Where runs are written to: a file, or postgresql://USER@HOST/DATABASE (#SCHEMA).",
        metavar="PLACE",
    ),
]
RecordOption = Annotated[
    Path | None, typer.Option("--record", help="Write every engine call to this file.")
]
ReplayOption = Annotated[
    Path | None, typer.Option("--replay", help="Answer every engine call from this file.")
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        help="A routing policy, as `carrara calibrate` writes it; before the workflow's.",
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="Run the workflow on a Ray cluster: ray is the one here (or a new one), ray://HOST:10001 one elsewhere.",
        metavar="CLUSTER",
        rich_help_panel=JOBS,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of --on: processes for steps; by default one for each CPU.",
        rich_help_panel=JOBS,
    ),
]
ReplicasOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of --on: processes with engines; by default one for each GPU.",
        rich_help_panel=JOBS,
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        min=0, help="Of --on: GPUs for each of these; 0.25 puts four on one.", rich_help_panel=JOBS
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", "-w", help="Show answers as they emerge, pass by pass.")
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        min=0, help="Take no more records once so many dollars are spent.", rich_help_panel=JOBS
    ),
]
DeadlineOption = Annotated[
    str | None,
    typer.Option(
        help="Begin no record after this time, as in 90s or 2h.",
        metavar="DURATION",
        rich_help_panel=JOBS,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no report.")]

"""The options of `carrara run` that say which records of what, to where, and how far."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from carrara.cli.options import JOBS


class Order(StrEnum):
    input = "input"
    completed = "completed"


AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Of a job that goes on: run records again that have changed in the source, or whose rows an earlier "
        "definition of the workflow made; drop rows of those gone.",
        rich_help_panel=JOBS,
    ),
]
ReuseOption = Annotated[
    bool,
    typer.Option(
        "--reuse",
        help="Take steps with the same definition and inputs from earlier runs in the journal.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="An input of the workflow; lists and objects as JSON. Repeat for more.",
        metavar="NAME=VALUE",
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        help="Run once for each record: a quoted glob of documents, .jsonl, .csv, .parquet, a database's "
        "table, or -.",
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="A folder or file for the result; for the rows of a job .jsonl, .csv, .parquet or a table "
        "(duckdb:///FILE#TABLE, sqlite:///FILE#TABLE, postgresql://…#TABLE).",
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="Which field of a record an input takes.",
        metavar="INPUT=FIELD",
        rich_help_panel=JOBS,
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(min=1, help="Take only so many records, the first ones.", rich_help_panel=JOBS),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        help="The field that is the key of a record.", metavar="FIELD", rich_help_panel=JOBS
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        help="Take the records for which this is true.", metavar="EXPRESSION", rich_help_panel=JOBS
    ),
]
ShardOption = Annotated[
    str,
    typer.Option(help="Take the i-th of n parts, by the key.", metavar="I/N", rich_help_panel=JOBS),
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Take so many records, drawn by --seed; of --dry-run: run them.",
        rich_help_panel=JOBS,
    ),
]
SeedOption = Annotated[int, typer.Option(help="Which sample.", rich_help_panel=JOBS)]
FlattenOption = Annotated[
    str | None,
    typer.Option(
        help="A list whose items become rows, KEY/0 and so on.",
        metavar="FIELD",
        rich_help_panel=JOBS,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Count records and tokens, estimate time and cost from --sample records (3), write nothing.",
        rich_help_panel=JOBS,
    ),
]
ConcurrencyOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Records (or, without --input, steps) at once; of records by default as many as keep engines full.",
    ),
]
OrderOption = Annotated[
    Order, typer.Option(help="In which order the rows of a job come.", rich_help_panel=JOBS)
]
GoOnOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the newest run of this job.", rich_help_panel=JOBS),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Write each field's confidence, place in the source, engine and repairs to OUT.trust.jsonl.",
        rich_help_panel=JOBS,
    ),
]
ReviewOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="As --trust; rows less sure than this go to OUT.review.jsonl too, for `carrara review`.",
        metavar="BELOW",
        rich_help_panel=JOBS,
    ),
]

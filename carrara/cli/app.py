"""The commands. Each one lives in a file of its own; heavy imports happen inside the functions that need them."""

from __future__ import annotations

from typing import Annotated

import typer

from carrara.cli.adapt import adapt
from carrara.cli.engines import engines
from carrara.cli.evaluate import evaluate
from carrara.cli.models import models
from carrara.cli.plan import plan, validate
from carrara.cli.repair import repair
from carrara.cli.run import resume, run
from carrara.cli.runs import list_runs, show_run
from carrara.cli.schema import schema
from carrara.cli.serve import serve

app = typer.Typer(
    name="carrara",
    help="Run workflows of chained LLM calls on a local text-diffusion engine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.command(rich_help_panel="Run")(run)
app.command(rich_help_panel="Run")(resume)
app.command("eval", rich_help_panel="Run")(evaluate)
app.command(rich_help_panel="Run")(repair)
app.command(rich_help_panel="Look before")(validate)
app.command(rich_help_panel="Look before")(plan)
app.command(rich_help_panel="Look before")(schema)
app.command("runs", rich_help_panel="Look after")(list_runs)
app.command("show", rich_help_panel="Look after")(show_run)
app.add_typer(engines, rich_help_panel="Engines")
app.command(rich_help_panel="Engines")(serve)
app.command(rich_help_panel="Engines")(adapt)
app.add_typer(models, rich_help_panel="Engines")


def _version(wanted: bool) -> None:
    if wanted:
        from carrara import __version__

        print(f"carrara {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands."""

"""The commands. Each one lives in a file of its own; heavy imports happen inside the functions that need them."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import cleandoc
from typing import Annotated

import typer

from carrara.cli.adapt import adapt
from carrara.cli.calibrate import calibrate
from carrara.cli.diff import diff
from carrara.cli.engines import engines
from carrara.cli.evaluate import evaluate
from carrara.cli.explain import explain
from carrara.cli.job import job
from carrara.cli.models import models
from carrara.cli.plan import plan, validate
from carrara.cli.repair import repair
from carrara.cli.report import report
from carrara.cli.review import review
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

PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Run": {
        "run": run,
        "resume": resume,
        "eval": evaluate,
        "calibrate": calibrate,
        "repair": repair,
    },
    "Look before": {"validate": validate, "plan": plan, "schema": schema},
    "Look after": {
        "runs": list_runs,
        "show": show_run,
        "explain": explain,
        "report": report,
        "diff": diff,
        "review": review,
    },
    "Engines": {"serve": serve, "adapt": adapt},
}


def _reflowed(docstring: str) -> str:
    """Paragraphs as one line each: the help breaks its own lines, and would keep ours too."""
    return re.sub(r"(?<!\n)\n *(?!\n| )", " ", cleandoc(docstring))


for _panel, _commands in PANELS.items():
    for _name, _function in _commands.items():
        _text = _reflowed(_function.__doc__ or "")
        app.command(_name, help=_text, rich_help_panel=_panel)(_function)
app.add_typer(job, rich_help_panel="Run")
app.add_typer(engines, rich_help_panel="Engines")
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

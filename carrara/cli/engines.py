"""`carrara engines`: which engines there are and what they lack; `carrara engines probe`: what a server can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carrara.cli.models import failing
from carrara.cli.outcome import FAILED, finish, give, note, usage

engines = typer.Typer(name="engines", invoke_without_command=True)


@engines.callback()
def show_engines(
    context: typer.Context,
    model: Annotated[
        str, typer.Option("--model", help="Weights: a name of `carrara models` or a folder.")
    ] = "smollm2",
) -> None:
    """Show each engine: what it is, or what it lacks and what to do. Exit code 1 if none can be used."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from carrara.engines.registry import availability

    with failing():
        found = availability(model)
    table = Table("engine", "", "", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.name, "ready" if one.ok else "not ready", escape(one.line))
        if one.fix:
            table.add_row("", "", escape(f"-> {one.fix}"))
    Console().print(table)
    if not any(one.ok for one in found):
        raise typer.Exit(FAILED)


@engines.command()
def probe(
    url: Annotated[
        str, typer.Argument(help="The base URL of the API, such as http://host:8000/v1.")
    ],
    model: Annotated[str, typer.Option(help="The model; else the first that is listed.")] = "",
    key_env: Annotated[str, typer.Option(help="The variable that holds the key.")] = "",
    wire: Annotated[
        str, typer.Option(help="The wire format: openai, openai-text, anthropic, gemini.")
    ] = "openai",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The preset's file; NAME.toml by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Find out what a server can do (streams, schemas, patterns, probabilities, seed, prefix cache) and write a preset.

    It asks about a dozen short questions.
    """
    from urllib.parse import urlsplit

    name = (urlsplit(url).hostname or "server").replace(".", "-")
    path = output or Path(f"{name}.toml")
    if path.suffix != ".toml":
        raise usage(f"--output: a preset is a .toml file, not {path}")
    if path.exists() and not force:
        raise usage(f"{path} is there already; --force replaces it, --output names another")
    found = finish(_probe(url, model, key_env, wire, path.stem))
    path.write_text(found, encoding="utf-8")
    give(str(path))
    note(f'use it: in carrara.toml, [engines.{path.stem}] preset = "{path}"')


async def _probe(url: str, model: str, key_env: str, wire: str, name: str) -> str:
    """The text of the preset."""
    from carrara.engines.remote.keys import bare_url, find_key
    from carrara.engines.remote.preset import Preset
    from carrara.engines.remote.probe import Finding, preset_text
    from carrara.engines.remote.probe import probe as find_out

    given = {"model": model, "key_env": key_env, "wire": wire, "base_url": url}
    base = Preset(name, bare_url(url), url).but(given, "carrara engines probe")
    base = base.but({"key_required": bool(key_env)}, "carrara engines probe")

    def tell(finding: Finding) -> None:
        note(f"{finding.what:13} {finding.seen}")

    found = await find_out(base, find_key(key_env), tell)
    return preset_text(found, f"Probed at {bare_url(url)}.")

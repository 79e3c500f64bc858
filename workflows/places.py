"""Where results go: what can be wrong with a place, and whether it is a file or something that flows away."""

from __future__ import annotations

from pathlib import Path

from carrara.engines.errors import CarraraError


class FileError(CarraraError):
    """A file that a command was given is not what it takes."""


class OutputError(CarraraError):
    """An output file cannot be made or written; rows that are done stay in the journal."""


class PlaceError(OutputError):
    """An output cannot be where it was asked for. Raised before anything runs."""


def text_in(path: Path, kind: type[FileError]) -> str:
    """The text of a file.

    Raises:
        FileError: of this kind: it is not there, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise kind(f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise kind(f"{path} is a folder; name a file in it") from error
    except UnicodeDecodeError as error:
        raise kind(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise kind(f"cannot read {path}: {error.strerror}") from error


def is_stream(place: Path) -> bool:
    """Whether it is a device or a pipe (also one that leads to a file, as /dev/stdout may): it is written to, never
    replaced, and nothing is put beside it."""
    if place.parts[:2] in (("/", "dev"), ("/", "proc")):
        return place.exists() and not place.is_dir()
    return place.exists() and not place.is_file() and not place.is_dir()

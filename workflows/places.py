"""Where results go: what can be wrong with a place, and whether it is a file or something that flows away."""

from __future__ import annotations

from pathlib import Path

from carrara.engines.errors import CarraraError


class OutputError(CarraraError):
    """An output file cannot be made or written; rows that are done stay in the journal."""


class PlaceError(OutputError):
    """An output cannot be where it was asked for. Raised before anything runs."""


def is_stream(place: Path) -> bool:
    """Whether it is a device or a pipe (also one that leads to a file, as /dev/stdout may): it is written to, never
    replaced, and nothing is put beside it."""
    if place.parts[:2] in (("/", "dev"), ("/", "proc")):
        return place.exists() and not place.is_dir()
    return place.exists() and not place.is_file() and not place.is_dir()

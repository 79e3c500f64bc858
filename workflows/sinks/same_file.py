"""Whether a job would write into the database file that it reads, which SQLite and DuckDB lock."""

from __future__ import annotations

import re
from pathlib import Path

from carrara.runtime.database_url import shown_url
from carrara.workflows.places import PlaceError
from carrara.workflows.sources.sql import in_folder

_FILE = re.compile(r"^(?:sqlite|duckdb)(?:\+\w+)?:///(?P<file>[^?#]+)")


def refuse_same_file(source: str, output: str, folder: str = "") -> None:
    """Raises PlaceError where both are in one SQLite or DuckDB file. Paths are meant from `folder`."""
    read, written = _file(source, folder), _file(output, folder)
    if read is not None and read == written:
        raise PlaceError(
            f"{shown_url(output)}: the input is in the same file, which cannot be written while it is read; "
            "name another file for the rows"
        )


def _file(place: str, folder: str) -> Path | None:
    found = _FILE.match(in_folder(place, folder))
    return None if found is None or found["file"] == ":memory:" else Path(found["file"]).resolve()


__all__ = ["refuse_same_file"]

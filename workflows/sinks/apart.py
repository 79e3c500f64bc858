"""What a job must not write over: the source that it reads, and files that are not its own."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from carrara.runtime.database_url import is_server, without_password
from carrara.workflows.places import PlaceError, is_stream
from carrara.workflows.sinks.opening import is_table, shown
from carrara.workflows.sources.sql import in_folder

_DRIVER = re.compile(r"^(?:postgres|postgresql)(?:\+\w+)?://")
_FILE = re.compile(r"^(?:sqlite|duckdb)(?:\+\w+)?:///(?P<file>[^?#]+)")
_READS = re.compile(
    r"^\s*(?:select\b(?:(?!\bfrom\b)[^(])*\bfrom|table)\s+([\w.\"]+)", re.IGNORECASE
)
"""The table that a query begins to read."""


def refuse_source(source: str, folder: str, place: str, files: Collection[Path]) -> None:
    """`source` is meant from `folder`, `place` is the output and `files` all that is written for it, as they are found
    from the working folder.

    Raises:
        PlaceError: the job would write over what it reads: the same table, or the same file by whatever name. Or both
        are in one SQLite or DuckDB file, which is locked while it is read.
    """
    if is_table(source):
        source = in_folder(source, folder)
        if is_same(source, place):
            raise PlaceError(
                f"{shown(place)} is the table that the job reads: name another --output"
            )
        if (read := _database_file(source)) is not None and read == _database_file(place):
            raise PlaceError(
                f"{shown(place)}: the input is in the same file, which cannot be written while it is read; "
                "name another file for the rows"
            )
        return
    there = {(found.st_dev, found.st_ino): path for path, found in _stats(files)}
    if not there or source == "-":
        return
    names = glob.iglob(os.path.join(folder, source), recursive=True)
    for _, found in _stats(map(Path, names)):
        mine = there.get((found.st_dev, found.st_ino))
        if mine is not None:
            raise PlaceError(f"{mine} is a file that the job reads: name another --output")


def _database_file(place: str) -> Path | None:
    """The SQLite or DuckDB file of a table, None for what is in no file."""
    found = _FILE.match(place)
    return None if found is None or found["file"] == ":memory:" else Path(found["file"]).resolve()


def is_same(place: str, other: str) -> bool:
    """Whether two outputs are one place, as they are found from the working folder."""
    if is_table(place) or is_table(other):
        return is_table(place) and is_table(other) and _table(place) == _table(other)
    return os.path.realpath(place) == os.path.realpath(other)


def refuse_filled(files: Collection[Path], own: Collection[Path] | None = None) -> None:
    """`own` are those that the job has written before, None where it is new.

    Raises:
        PlaceError: another of the files holds something, or cannot be looked at.
    """
    mine = {os.path.realpath(path) for path in own or ()}
    for path in files:
        try:
            filled = path.is_file() and path.stat().st_size
        except OSError as error:
            raise PlaceError(f"cannot write {path}: {error.strerror}") from error
        if not filled or os.path.realpath(path) in mine:
            continue
        advice = "Go on with its job by --resume" if own is None else "Remove it"
        raise PlaceError(f"{path} is there already. {advice}, or name another --output.")


def _stats(paths: Collection[Path] | Iterator[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        try:
            if not is_stream(path):
                yield path, path.stat()
        except OSError:
            continue  # what is not there is not written over


def _table(url: str) -> tuple[Any, ...]:
    """What tells a table from all others: its file or server, and its name without the usual schema."""
    base, _, what = url.partition("#")
    query = _READS.match(what)
    name = (query[1] if query else what.strip()).replace('"', "")
    if is_server(url):
        server = _DRIVER.sub("", without_password(base))
        return server, name.lower().removeprefix("public.")
    path = base.partition(":///")[2].partition("?")[0]
    return os.path.realpath(path), name.lower().removeprefix("main.")


__all__ = ["is_same", "refuse_filled", "refuse_source"]

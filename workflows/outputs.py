"""What a single run gives, as files: a folder with one file for each output, or one file for all of it.

A text becomes `name.md`, a list of objects `name.jsonl`, everything else `name.json`. Each file appears whole or not
at all.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carrara.workflows.plain import plain
from carrara.workflows.rows import OutputError, PlaceError
from carrara.workflows.values import Outline, Table


def write_outputs(value: Any, place: Path) -> list[Path]:
    """Write the value of a run to `place` and say which files were written.

    A `place` with a suffix is one file, unless it is a folder already; else it is a folder, which gets a file
    for each entry of a mapping with names fit for files (or one file `result` for any other value).

    Raises:
        OutputError: a file cannot be written, or a part of the value has no JSON form.
    """
    if _is_one_file(place):
        return [_write(place, _content(value, place.suffix))]
    written = []
    for name, part in _parts(value).items():
        suffix = _suffix(part)
        written.append(_write(place / f"{name}{suffix}", _content(part, suffix)))
    return written


def make_place(place: Path, definition: Path | None = None) -> None:
    """Make the folders that `place` needs: called before a run, so that a long one does not end on their lack.
    `definition` is the file of the workflow.

    Raises:
        PlaceError: a folder cannot be made or written, or the workflow's own file would be lost.
    """
    if definition is not None and place.is_file() and place.samefile(definition):
        raise PlaceError(
            f"{place} is the file of the workflow; it is not replaced. Name another --output."
        )
    folder = place.parent if _is_one_file(place) else place
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlaceError(f"cannot write {place}: {error.strerror}") from error
    if not os.access(folder, os.W_OK) and not _is_device(place):
        raise PlaceError(f"cannot write {place}: the folder {folder} is read-only")


def _is_one_file(place: Path) -> bool:
    return not place.is_dir() if place.exists() else bool(place.suffix)


def _is_device(place: Path) -> bool:
    """Whether it is there and neither file nor folder: such a place is written to, never replaced."""
    return place.exists() and not place.is_file() and not place.is_dir()


def _parts(value: Any) -> Mapping[str, Any]:
    """What gets a file of its own, by the name of that file."""
    if isinstance(value, Mapping) and value and all(map(_names_a_file, value)):
        return value
    return {"result": value}


def _names_a_file(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w[\w .-]{0,99}", name) is not None


def _suffix(value: Any) -> str:
    if isinstance(value, str | Table | Outline):
        return ".md"
    found = as_json_data(value)
    is_rows = isinstance(found, list) and found and all(isinstance(row, dict) for row in found)
    return ".jsonl" if is_rows else ".json"


def _content(value: Any, suffix: str) -> str:
    if isinstance(value, Table | Outline) and suffix in {".md", ".txt"}:
        return value.markdown().rstrip("\n") + "\n"
    if isinstance(value, str) and suffix not in {".json", ".jsonl"}:
        return value.rstrip("\n") + "\n"
    found = as_json_data(value)
    if suffix == ".jsonl" and isinstance(found, list):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"


def as_json_data(value: Any) -> Any:
    """`value` as JSON data.

    Raises:
        OutputError: a part of it has no JSON form.
    """
    try:
        return plain(value)
    except TypeError as error:
        raise OutputError(f"the result cannot be written: {error}") from error


def _write(path: Path, content: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_device(path):
            path.write_text(content, encoding="utf-8")
        else:
            _replace(path, content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.") from error
    return path


def _replace(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise

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

from carrara.workflows.places import OutputError, PlaceError, is_stream
from carrara.workflows.plain import faithful
from carrara.workflows.row_format import CSV, JSON_LINES, csv_text, json_line
from carrara.workflows.values import Outline, Table

_MARKDOWN = (str, Table, Outline)
"""Types of values whose own file holds Markdown."""


def write_outputs(value: Any, place: Path) -> list[Path]:
    """Write the value of a run to `place` and say which files were written.

    A `place` with a suffix is one file, unless it is a folder already; else it is a folder, which gets a file
    for each entry of a mapping with names fit for files (or one file `result` for any other value). One file holds
    JSON, or with .jsonl and .ndjson a line for each item of a list, with .csv a table or a list of objects (a single
    object is one row), with any other suffix a text (Markdown for tables and outlines); of a mapping with one entry
    that entry, except as JSON.

    Raises:
        OutputError: a file cannot be written, or a part of the value has no JSON form.
    """
    if _is_one_file(place):
        suffix = place.suffix.lower()
        if isinstance(value, Mapping) and len(value) == 1 and suffix not in {".json", *JSON_LINES}:
            (value,) = value.values()
        return [_write(place, _content(value, suffix))]
    parts = _parts(value)
    # What is refused is told with its place, before the first file is written.
    as_json_data({name: part for name, part in parts.items() if not isinstance(part, _MARKDOWN)})
    written = []
    for name, part in parts.items():
        suffix = _suffix(part)
        written.append(_write(place / f"{name}{suffix}", _content(part, suffix)))
    return written


def make_place(
    place: Path,
    definition: Path | None = None,
    rows: Path | None = None,
    option: str = "--output",
) -> None:
    """Make the folders that `place` needs: called before a run, so that a long one does not end on their lack.
    `definition` is the file of the workflow, `rows` that of its labelled rows; `option` named the place.

    Raises:
        PlaceError: a folder cannot be made or written, or a file that is read would be lost.
    """
    for kept, what in ((definition, "the file of the workflow"), (rows, "the file of the rows")):
        if kept is not None and kept.is_file() and place.is_file() and place.samefile(kept):
            raise PlaceError(f"{place} is {what}; it is not replaced. Name another {option}.")
    folder = place.parent if _is_one_file(place) else place
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlaceError(f"cannot write {place}: {error.strerror}") from error
    if not os.access(folder, os.W_OK) and not is_stream(place):
        raise PlaceError(f"cannot write {place}: the folder {folder} is read-only")


def _is_one_file(place: Path) -> bool:
    return not place.is_dir() if place.exists() else bool(place.suffix)


def _parts(value: Any) -> Mapping[str, Any]:
    """What gets a file of its own, by the name of that file."""
    if isinstance(value, Mapping) and value and all(map(_names_a_file, value)):
        return value
    return {"result": value}


def _names_a_file(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w[\w .-]{0,99}", name) is not None


def _suffix(value: Any) -> str:
    if isinstance(value, _MARKDOWN):
        return ".md"
    found = as_json_data(value)
    return ".jsonl" if found and _is_rows(found) else ".json"


def _content(value: Any, suffix: str) -> str:
    if isinstance(value, Table | Outline) and suffix in {".md", ".txt"}:
        return value.markdown().rstrip("\n") + "\n"
    if isinstance(value, str) and suffix not in {".json", *JSON_LINES, CSV}:
        return value.rstrip("\n") + "\n"
    found = as_json_data(value)
    if suffix in JSON_LINES:
        rows = found if isinstance(found, list) else [found]
        return b"".join(map(json_line, rows)).decode()
    if suffix in {".json", ""}:
        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    rows = [found] if isinstance(found, dict) else found
    if suffix == CSV and _is_rows(rows):
        return csv_text(rows, value.columns if isinstance(value, Table) else ())
    raise OutputError(
        f"a {_noun(value)} cannot be written as {suffix}. Use .json or .jsonl, or name a folder."
    )


def _is_rows(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(row, dict) for row in found)


def _noun(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"mapping of {len(value)} outputs"
    return type(value).__name__


def as_json_data(value: Any) -> Any:
    """`value` as JSON data.

    Raises:
        OutputError: a part of it has no JSON form, such as NaN; names the place.
    """
    try:
        return faithful(value)
    except ValueError as error:
        raise OutputError(f"the result cannot be written: {error}") from error


def _write(path: Path, content: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_stream(path):
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

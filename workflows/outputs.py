"""What a single run gives, as files: a folder with one file for each output, or one file for all of it.

A text becomes `name.md`, a list of objects `name.jsonl`, everything else `name.json`. Each file appears whole or not
at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carrara.workflows.plain import plain
from carrara.workflows.rows import OutputError
from carrara.workflows.values import Outline, Table


def write_outputs(value: Any, place: Path) -> list[Path]:
    """Write the value of a run to `place` and say which files were written.

    A `place` with a suffix is one file; else it is a folder, which gets a file for each entry of a
    mapping (or one file `result` for any other value).

    Raises:
        OutputError: a file cannot be written, or a part of the value has no JSON form.
    """
    if place.suffix:
        return [_write(place, _content(value, place.suffix))]
    parts = value if isinstance(value, Mapping) else {"result": value}
    written = []
    for name, part in parts.items():
        suffix = _suffix(part)
        written.append(_write(place / f"{name}{suffix}", _content(part, suffix)))
    return written


def _suffix(value: Any) -> str:
    if isinstance(value, str | Table | Outline):
        return ".md"
    found = _plain(value)
    is_rows = isinstance(found, list) and found and all(isinstance(row, dict) for row in found)
    return ".jsonl" if is_rows else ".json"


def _content(value: Any, suffix: str) -> str:
    if isinstance(value, Table | Outline) and suffix in {".md", ".txt"}:
        return value.markdown().rstrip("\n") + "\n"
    if isinstance(value, str) and suffix not in {".json", ".jsonl"}:
        return value.rstrip("\n") + "\n"
    found = _plain(value)
    if suffix == ".jsonl" and isinstance(found, list):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"


def _plain(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError as error:
        raise OutputError(f"the result cannot be written: {error}") from error


def _write(path: Path, content: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return path

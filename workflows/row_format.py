"""How rows are written, by the suffix of their file: lines of JSON, or records of CSV under a header.

In CSV a text stands as it is, a number and a boolean as in JSON, null as nothing, everything else as JSON text.
Decimals come as text that has all their digits.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from carrara.runtime.codec import json_writer
from carrara.workflows.calls import Definition
from carrara.workflows.places import OutputError, PlaceError, is_stream
from carrara.workflows.types import unaliased

JSON_LINES: Final = (".jsonl", ".ndjson")
CSV: Final = ".csv"
_KEY, _VALUE = "key", "value"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """`header` stands once before all rows (b"" for none); `line` writes one row, its line break included."""

    header: bytes
    line: Callable[[Fields], bytes]


_written = json_writer(json.JSONEncoder(ensure_ascii=False))


def json_line(fields: Fields) -> bytes:
    """A line of JSON in UTF-8; half a surrogate pair is written as JSON's own escape."""
    return (_written(fields) + "\n").encode(errors="backslashreplace")


JSON: Final = RowFormat(b"", json_line)


def job_format(output: Path, workflow: Definition[..., Any]) -> RowFormat:
    """The format of a job's rows; a device or pipe without a suffix gets JSON lines.

    The columns of CSV are the record's key and what the workflow declares to return, in its order: the outputs of a
    pipeline, the fields of a class; else one column `value`.

    Raises:
        PlaceError: as `check_suffix`.
    """
    check_suffix(output)
    if output.suffix.lower() != CSV:
        return JSON
    declared = declared_fields(workflow)
    return csv_of_values() if declared is None else csv_of((_KEY, *declared))


def check_suffix(output: Path) -> None:
    """Raises PlaceError where the suffix is not that of a format for rows."""
    suffix = output.suffix.lower()
    if suffix in (*JSON_LINES, CSV) or (not suffix and is_stream(output)):
        return
    why = f"not '{output.suffix}'" if suffix else "and this name does not say which"
    raise PlaceError(f"{output}: rows are JSON lines (.jsonl, .ndjson) or CSV (.csv), {why}")


def csv_of(columns: Sequence[str]) -> RowFormat:
    """Records with these columns; what a row lacks is empty."""

    def line(fields: Fields) -> bytes:
        stray = [name for name in fields if name not in columns]
        if stray:
            raise OutputError(
                f"row {fields.get(_KEY)!r} has the field {stray[0]!r}, for which the CSV file has no column"
            )
        return _record(_cell(fields.get(name)) for name in columns)

    return RowFormat(_record(columns), line)


def csv_of_values() -> RowFormat:
    """Records of a key and of all the rest in one cell."""

    def line(fields: Fields) -> bytes:
        rest = {name: part for name, part in fields.items() if name != _KEY}
        return _record(
            (_cell(fields[_KEY]), _cell(rest[_VALUE] if set(rest) == {_VALUE} else rest))
        )

    return RowFormat(_record((_KEY, _VALUE)), line)


def is_json(text: str) -> bool:
    """Whether a text can be read as JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def csv_text(rows: Sequence[Fields], columns: Iterable[str] = ()) -> str:
    """Rows under a header: `columns`, and what the rows have beside them in the order in which it comes."""
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    made = csv_of(names)
    return b"".join([made.header, *map(made.line, rows)]).decode()


def declared_fields(workflow: Definition[..., Any]) -> tuple[str, ...] | None:
    """The fields of every row that the workflow gives, None where they cannot be told beforehand."""
    outputs = getattr(workflow, "outputs", None)
    found = tuple(outputs) if outputs is not None else _fields_of(unaliased(workflow.returns))
    return None if found is None or _KEY in found else found


def _fields_of(kind: Any) -> tuple[str, ...] | None:
    model = getattr(kind, "model_fields", None)
    if model is not None:
        open_ended = kind.model_config.get("extra") == "allow"
        return None if open_ended else tuple(f.alias or name for name, f in model.items())
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(kind.__annotations__) if hasattr(kind, "__required_keys__") else None


def _record(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(
        cells
    )  # the characters in it make cells quoted
    return f"{text.getvalue()[:-2]}\n".encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""A record, and what every format needs to make one. Nothing of a format is known here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

from carrara.engines.errors import CarraraError
from carrara.runtime.codec import json_writer
from carrara.workflows.digits import Digits, as_exact, exact_number

_in_order = json_writer(json.JSONEncoder(sort_keys=True, default=str))
MAX_TEXT_BYTES = 64 * 2**20
"""A single document larger than this is refused: it cannot be one model call, or a thousand."""


class SourceError(CarraraError):
    """A source as a whole cannot be read: nothing matches, or the columns are not those asked for."""


class EmptySource(SourceError):
    """A source that can be read holds no record."""


class Unreadable(Exception):
    """A document or a value in it cannot be used; the message goes into its record's `problem`."""


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Stands in a row for a value of the type `kind` that Python has no room for, such as a date after the year 9999;
    `why` is what was said of it."""

    kind: str
    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(slots=True)
class Record:
    """One input row. `key` is unique in its source, `where` reads `file:line` or the file's path,
    `problem` says why the record is broken (its `fields` are then empty).

    `unused` are columns that are left out of the fields, each with the reason why no input can take it; who asks for
    one is told that. `is_cells`: the fields are cells of text, of which an empty one may stand for no value.
    """

    index: int
    key: str
    where: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    unused: Mapping[str, str] = field(default_factory=dict)
    is_cells: bool = False


_BINARY = "holds binary data, which no input takes"


def broken(record: Record, problem: str) -> Record:
    """The record without fields, with the reason."""
    return Record(record.index, record.key, record.where, {}, problem)


def key_of(fields: Mapping[str, Any], otherwise: str) -> str:
    """The field `id` or `key` as text (binary data in hexadecimal digits), where there is one that is not empty."""
    for name in ("id", "key"):
        found = fields.get(name)
        if found is not None and found != "":
            return key_text(found)
    return otherwise


def key_text(value: Any) -> str:
    """A value as a key or a part of one: true, false, lists and objects as JSON, a number that knows more digits than
    a float has with all of them."""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    if isinstance(value, Digits):
        return str(exact_number(value.text))
    return value.hex() if isinstance(value, bytes) else str(value)


def content_hash(record: Record) -> str:
    """32 hex digits of the record's fields, whose order does not count, numbers with all the digits that they know; ""
    where they are nested too deeply."""
    try:
        text = _in_order(as_exact(record.fields))
    except RecursionError:  # it was read with less of the stack in use
        return ""
    return blake2b(text.encode(), digest_size=16).hexdigest()


Kept = tuple[type, ...]
"""Types of values that stay what they are where a typed table is read."""


def from_columns(empty: Record, row: Mapping[str, Any], keep: Kept = ()) -> Record:
    """The record of a row of a typed table. What has no JSON form, and is of none of the types to `keep`, is left out
    with its reason: only who asks for it fails."""
    fields, unused = {}, {}
    for name, value in row.items():
        try:
            fields[name] = plain_value(value, name, keep)
        except Unreadable as error:
            unused[name] = str(error)
    return replace(empty, fields=fields, unused=unused)


def lacking(record: Record) -> str | None:
    """Why a value of the record cannot be read; None where all can, but for columns of bytes."""
    reasons = (reason for reason in record.unused.values() if not reason.endswith(_BINARY))
    return next(reasons, None)


def plain_value(value: Any, name: str, keep: Kept = ()) -> Any:
    """A value of a typed table as JSON data: dates and times in ISO 8601, decimals as text, so that no digit is
    lost. NaN and infinity are floats, of decimals, too. Values of the types to `keep` stay as they are.

    Raises:
        Unreadable: a type that has no JSON form, bytes, or what Python has no room for; names the column.
    """
    match value:
        case NoRoom(kind, why):
            raise Unreadable(f"column {name!r} holds a {kind} that is out of range: {why}")
        case None | bool() | int() | float() | str():
            return value
        case _ if isinstance(value, keep):
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() if not value.is_finite():
            return float(value)
        case Decimal() | UUID():
            return str(value)
        case list() | tuple():
            return [plain_value(item, name, keep) for item in value]
        case dict():
            return {
                str(key): plain_value(item, f"{name}.{key}", keep) for key, item in value.items()
            }
        case bytes() | bytearray() | memoryview():
            raise Unreadable(f"column {name!r} {_BINARY}")
        case _:
            raise Unreadable(
                f"column {name!r} holds a {type(value).__name__}, which has no JSON form"
            )


def differing(names: Iterable[str], where: str, advice: str) -> None:
    """Raises SourceError where two columns have one name: only one of them could be a field."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise SourceError(f"{where}: {counts[twice[0]]} columns are called {twice[0]!r}; {advice}")


__all__ = [
    "MAX_TEXT_BYTES",
    "EmptySource",
    "Kept",
    "NoRoom",
    "Record",
    "SourceError",
    "Unreadable",
    "broken",
    "content_hash",
    "differing",
    "from_columns",
    "key_of",
    "key_text",
    "lacking",
]

"""Values of SQLite tables. SQLite types values, not columns: a column declared as DATETIME may hold any text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

Reading = Callable[[Any], Any]
"""A value of SQLite as the type of its column says; itself where it is not of that type, or would lose something."""

_FINER = re.compile(r"\.\d{7}")
"""Digits of a second that Python's times have no room for."""


def text_or_bytes(raw: bytes) -> str | bytes:
    """A text of SQLite; its bytes where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def readings(table: Any, dialect: Any) -> dict[str, Reading]:
    """By column, for those whose values are read as something else than SQLite gives."""
    found = ((column.name, _reading(column.type, dialect)) for column in table.columns)
    return {name: reading for name, reading in found if reading is not None}


def read_rows(
    rows: Iterator[Mapping[Any, Any]], readings: Mapping[str, Reading]
) -> Iterator[dict[str, Any]]:
    for row in rows:
        read = {str(name): value for name, value in row.items()}  # names are of a kind of str
        for name, reading in readings.items():
            read[name] = reading(read[name])
        yield read


def _reading(declared: Any, dialect: Any) -> Reading | None:
    usual = declared.dialect_impl(dialect).result_processor(dialect, None)
    if usual is None:
        return None

    def reading(value: Any) -> Any:
        try:
            return _unless_lost(value, usual(value))
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            return value

    return reading


def _unless_lost(value: Any, read: Any) -> Any:
    match read:
        case bool():
            return read if value in (0, 1) else value
        case Decimal():  # with as many digits as the column has, SQLite with as many as there are
            return read if float(read) == value else Decimal(str(value))
        case datetime() | date() | time():
            return value if _FINER.search(value) else read
        case _:
            return read


__all__ = ["Reading", "read_rows", "readings", "text_or_bytes"]

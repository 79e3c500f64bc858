"""Cells of a Markdown table as typed values, and back: `read_cell(write_cell(x), kind) == x`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any

from carrara.engines.contract import ColumnKind
from carrara.engines.errors import CarraraError

_BREAK = re.compile(r"(\\*)(<br\s*/?>|\n)")
_TAG = re.compile(r"(\\*)(<br\s*/?>)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def read_cell(cell: str, kind: ColumnKind) -> Any:
    """The value of a stripped cell text: int, int or float, bool, `datetime.date`, or str; "" is None.

    In a string `<br>` is a line break unless a backslash stands before it.

    Raises:
        ValueError: the text is not of this kind.
    """
    return _READERS[kind](cell) if cell else None


def write_cell(value: Any) -> str:
    """The text of `value` in a cell, pipes not yet escaped; None is "".

    Raises:
        CarraraError: a number that is not finite.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            if not math.isfinite(value):
                raise CarraraError(f"{value} cannot be written in a table")
            return repr(value)
        case date():
            return date.isoformat(value)
        case _:
            plain = str(value).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
            return _BREAK.sub(_write_break, plain.strip())


def _integer(cell: str) -> int:
    if not _INTEGER.fullmatch(cell):
        raise ValueError(cell)
    return int(cell)


def _number(cell: str) -> float:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if not _NUMBER.fullmatch(cell) or not math.isfinite(value := float(cell)):
        raise ValueError(cell)
    return value


def _boolean(cell: str) -> bool:
    flags = {"true": True, "false": False}
    if cell.lower() not in flags:
        raise ValueError(cell)
    return flags[cell.lower()]


def _date(cell: str) -> date:
    if not _DATE.fullmatch(cell):
        raise ValueError(cell)
    return date.fromisoformat(cell)


def _string(cell: str) -> str:
    return _TAG.sub(_read_break, cell)


_READERS: dict[str, Callable[[str], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
}


def _write_break(match: re.Match[str]) -> str:
    slashes, mark = match.groups()
    return slashes * 2 + ("<br>" if mark == "\n" else "\\" + mark)


def _read_break(match: re.Match[str]) -> str:
    slashes, tag = match.groups()
    half = slashes[: len(slashes) // 2]
    return half + (tag if len(slashes) % 2 else "\n")


__all__ = ["read_cell", "write_cell"]

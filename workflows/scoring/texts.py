"""What is compared of answers that are text: numbers, short answers, and the cells of tables, lists and JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from carrara.workflows.scoring.pairs import Pair, flatten, squeeze

TextForm = Literal["json", "table", "list", "csv", "lines"]

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_RULE = re.compile(r"[\s|:\-]*-[\s|:\-]*")
_BULLET = re.compile(r"((?:  )*)- ?(.*)")


def by_value(value: Any) -> str:
    """A number by its value ("1,200" is 1200.0), any other text squeezed."""
    text = squeeze(value)
    try:
        return f"{float(text.replace(',', '')):.12g}"
    except ValueError:
        return text


def last_number(value: Any) -> str | None:
    """The last number in a text, by its value; None if there is none."""
    found = _NUMBER.findall(str(value))
    return by_value(found[-1]) if found else None


def answers(value: Any) -> frozenset[str]:
    """Short answers as a set; "; " stands between several of them in a text."""
    parts = value if isinstance(value, list | tuple) else str(value).split("; ")
    return frozenset(by_value(part) for part in parts)


def form_of(text: str) -> TextForm:
    """What a text is written as; "lines" for anything else."""
    lines = text.strip().splitlines()
    if _json(text) is not None:
        return "json"
    if lines and all(line.lstrip().startswith("|") for line in lines):
        return "table"
    if lines and all(_BULLET.fullmatch(line) for line in lines):
        return "list"
    widths = {len(row) for row in csv.reader(lines)}
    return "csv" if len(widths) == 1 and max(widths) > 1 else "lines"


def parses(text: str, form: TextForm) -> bool:
    """Whether a text is well-formed as `form`: JSON, a table whose rows are as wide as its header, a list whose
    levels are two spaces each and go down one at a time."""
    lines = text.strip().splitlines()
    match form:
        case "json":
            return _json(text) is not None
        case "table":
            whole = all(
                line.startswith("|") and line.endswith("|") for line in map(str.strip, lines)
            )
            widths = {len(_row(line)) for line in lines}
            return len(lines) > 1 and whole and bool(_RULE.fullmatch(lines[1])) and len(widths) == 1
        case "list":
            found = [_BULLET.fullmatch(line) for line in lines]
            depths = [len(bullet[1]) // 2 for bullet in found if bullet]
            steps = zip([-1, *depths], depths, strict=False)
            return len(depths) == len(lines) > 0 and all(low <= high + 1 for high, low in steps)
        case "csv":
            return len({len(row) for row in csv.reader(lines)}) == 1
        case "lines":
            return bool(lines)


def cells(text: str, form: TextForm) -> Iterator[Pair]:
    """The cells of a text that should be written as `form`, by row and column; items of a list by line and level.

    The rule below a table's header and the padding of cells do not count. Of text that is no JSON where JSON is
    asked for, each line is a cell.
    """
    value = _json(text) if form == "json" else None
    if value is not None:
        yield from flatten(value)
        return
    for y, row in enumerate(_rows(text.strip("\n"), form)):
        for x, cell in enumerate(row):
            yield (y, x), squeeze(cell)


def _rows(text: str, form: TextForm) -> Iterator[list[str]]:
    lines = text.splitlines()
    match form:
        case "table":
            yield from (_row(line) for line in lines if not _RULE.fullmatch(line))
        case "csv":
            yield from csv.reader(lines)
        case "list":
            for line in lines:
                depth = (len(line) - len(line.lstrip())) // 2
                yield [f"{depth} {line.strip()}"]
        case _:
            yield from ([line] for line in lines)


def _row(line: str) -> list[str]:
    bare = line.strip().removeprefix("|").removesuffix("|")
    return re.split(r"(?<!\\)\|", bare)


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None

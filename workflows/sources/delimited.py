"""CSV and TSV files by the standard library, row by row: what is wrong with one row costs no other."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from carrara.workflows.sources.record import (
    MAX_TEXT_BYTES,
    EmptySource,
    Record,
    SourceError,
    broken,
    key_of,
)

_NO_TEXT = re.compile("[\udc80-\udcff]")
"""A byte that is not UTF-8, as the handler "surrogateescape" gives it."""


def read_csv(path: Path) -> Iterator[Record]:
    """A record for each row, with the columns that the header names. Between the cells stand commas, in `.tsv` tabs, or
    what the header and the first row show beyond doubt.

    A quote that nothing closes makes its row broken, and reading goes on in the line after it.

    Raises:
        SourceError: there is no header in UTF-8, or it has two columns of one name. EmptySource: no row follows it.
    """
    csv.field_size_limit(MAX_TEXT_BYTES)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        raw = path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    with raw, io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as text:
        lines = _Lines(text)
        delimiter = _delimiter(lines, usual)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        names = _header(path, rows)
        index = 0
        while True:
            lines.begin()
            empty = Record(index, f"line:{lines.number}", f"{path}:{lines.number}")
            try:
                cells = next(rows, None)
            except csv.Error as error:
                quote = _open_quote(lines.taken, delimiter)
                yield broken(empty, _not_csv(error, quote, lines.number))
                lines.give_back(quote.line if quote else 1)
            else:
                if cells is None:
                    break
                if not cells:  # an empty line
                    continue
                found = _record(empty, names, cells)
                if found.problem is not None and delimiter != usual:
                    found.problem += f" (between the cells stands {delimiter!r}, as in the header)"
                yield found
            index += 1
    if not index:
        raise EmptySource(f"{path}: empty, there is no row below its header")


def _delimiter(lines: _Lines, usual: str) -> str:
    """What stands between the cells: another sign than the usual one where that alone makes several names of the
    header, and as many cells of the first row. All lines are given back."""
    if len(_beginning(lines, usual)[0]) > 1:
        return usual
    others = [sign for sign in ",;\t|" if sign != usual and _separates(*_beginning(lines, sign))]
    return others[0] if len(others) == 1 else usual


def _separates(names: Sequence[str], cells: Sequence[str]) -> bool:
    differ = all(names) and len(set(names)) == len(names)
    return len(names) > 1 and differ and len(cells) in (0, len(names))


def _beginning(lines: _Lines, delimiter: str) -> tuple[list[str], list[str]]:
    """Header and first row, empty where there is none that can be read; their lines are given back."""
    rows = (cells for cells in csv.reader(lines, delimiter=delimiter, strict=True) if cells)
    names: list[str] = []
    try:
        names = next(rows, [])
        return names, next(rows, [])
    except csv.Error:
        return names, []
    finally:
        lines.give_back(0)


class _Lines:
    """The lines of a file, of which those of the row that is read can be given back."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.number = 1
        """Of the line where the row begins, from 1."""
        self.taken: list[str] = []
        """The lines of the row so far."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """The next row begins."""
        self.number += len(self.taken)
        self.taken.clear()

    def give_back(self, kept: int) -> None:
        """The row ends with `kept` lines; the others are read again."""
        self._again.extendleft(reversed(self.taken[kept:]))
        del self.taken[kept:]


class _Quote(NamedTuple):
    """Where a quote opens: line in the row and place in the line, from 1. `closes` is the line in which another one
    follows and the cell goes on, 0 where none does."""

    line: int
    place: int
    closes: int = 0


def _open_quote(lines: Sequence[str], delimiter: str) -> _Quote | None:
    """The quote over which a row breaks, None where it breaks over something else."""
    found, begins = None, True  # `begins`: a cell begins here
    for number, line in enumerate(lines, 1):
        place = 0
        while place < len(line):
            sign = line[place]
            if found is not None:
                end = line.find('"', place)
                if end < 0:
                    break
                if line.startswith('""', end):
                    place = end + 2
                    continue
                after = line[end + 1 : end + 2]
                if after not in ("", delimiter, "\r", "\n"):
                    return found._replace(closes=number)
                found, begins, place = None, False, end + 1
                continue
            if sign == '"' and begins:
                found = _Quote(number, place + 1)
            begins = sign == delimiter
            place += 1
        if found is None:
            begins = True
    return found


def _not_csv(error: csv.Error, quote: _Quote | None, first: int) -> str:
    if quote is None:
        return f"not CSV: {error}"
    where = f"the quote that opens in line {first + quote.line - 1}, character {quote.place},"
    if quote.closes:
        what = f"closes in line {first + quote.closes - 1} before its cell ends"
    elif "limit" in str(error):
        what = f"does not close within {MAX_TEXT_BYTES // 2**20} MiB"
    else:
        what = "never closes"
    return f"not CSV: {where} {what}; reading goes on in the line after it"


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    try:
        names = next((cells for cells in rows if cells), None)
    except csv.Error as error:
        raise SourceError(f"{path}: not a CSV file: its header cannot be read: {error}") from error
    if not names:
        raise SourceError(f"{path}: empty; a CSV file needs a header line")
    for place, name in enumerate(names):
        if _NO_TEXT.search(name):
            raise SourceError(f"{path}: not a CSV file in UTF-8: its header holds other bytes")
        if name and name in names[:place]:
            first = names.index(name) + 1
            raise SourceError(
                f"{path}: the columns {first} and {place + 1} are both called {name!r}; give one another name"
            )
    return names


def _record(empty: Record, names: Sequence[str], cells: Sequence[str]) -> Record:
    more = len(cells) - len(names)
    if more > 0:
        return broken(
            empty, f"{more} {'cell' if more == 1 else 'cells'} more than the header has columns"
        )
    if more < 0:
        return broken(empty, f"no cell for {', '.join(names[more:])}")
    for name, cell in zip(names, cells, strict=True):
        found = None if cell.isascii() else _NO_TEXT.search(cell)
        if found:
            byte = ord(found[0]) - 0xDC00
            return broken(empty, f"not UTF-8 text: the byte 0x{byte:02x} in the column {name!r}")
    row = dict(zip(names, cells, strict=True))
    return replace(empty, key=key_of(row, empty.key), fields=row, is_cells=True)


__all__ = ["read_csv"]

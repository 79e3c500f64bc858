"""Tables of HTML made square for Markdown, which has a cell for each column in each row and no table in a cell."""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from carrara.workflows.sources.record import Unreadable

_PARTS = ("thead", "tbody", "tfoot", "tr", "td", "th", "caption")
_MAX_REPEATED = 200
"""A longer text stands in the first row that its cell spans alone."""
_MAX_CELLS = 2_000_000


@dataclass(slots=True)
class _Table:
    """Its own rows, without those of tables within; each with the part (head, body) that it belongs to."""

    tag: Any
    parts: list[Any] = field(default_factory=list)
    rows: list[tuple[int, list[Any]]] = field(default_factory=list)
    holds_tables: bool = False


def square_tables(soup: Any) -> None:
    """Every table gets a cell for each column in each row: one that spans rows stands in each of them (a long one in
    the first), one that spans columns in the first. `|` in a cell is escaped. A table that holds others, or has one
    cell only, is there for the layout: its cells become blocks of text, one after the other.

    Raises:
        Unreadable: a table of too many cells.
    """
    for table in _tables(soup):
        count = sum(len(cells) for _, cells in table.rows)
        if count and (table.holds_tables or count == 1):
            for tag in (table.tag, *table.parts):
                tag.name = "div"
        elif count:
            _square(soup, table)


def _tables(soup: Any) -> list[_Table]:
    """The innermost ones first."""
    found = {id(tag): _Table(tag) for tag in soup("table")}
    for tag in soup(["table", *_PARTS]):
        around = _around(tag, "table")
        if around is None:
            continue
        table = found[id(around)]
        match tag.name:
            case "table":
                table.holds_tables = True
                continue
            case "tr":
                table.rows.append((_group(tag), []))
            case "td" | "th":
                if not table.rows:
                    table.rows.append((0, []))
                table.rows[-1][1].append(tag)  # where </td> is left out, too, which nests the cells
        table.parts.append(tag)
    return list(reversed(found.values()))


def _group(row: Any) -> int:
    """What tells the part of the table that a row belongs to: no cell spans rows of two."""
    return id(_around(row, "thead", "tbody", "tfoot", "table"))


def _around(tag: Any, *names: str) -> Any:
    """The nearest element of these names around it, None where there is none."""
    return next((parent for parent in tag.parents if parent.name in names), None)


def _square(soup: Any, table: _Table) -> None:
    grid = _grid(table.rows)
    for text in table.tag(string=re.compile(r"\|")):
        if _around(text, "td", "th") is not None:
            text.replace_with(text.replace("|", "\\|"))
    cells = [cell for _, row in table.rows for cell in row]
    for cell in reversed(cells):  # the inner ones first, where </td> is left out
        cell.extract()
        cell.attrs = {}
    for part in table.parts:
        if part.name not in ("td", "th"):
            part.name = "div"
    beside = soup.new_tag("div")  # such as the caption
    beside.extend(list(table.tag.contents))
    table.tag.insert_before(beside)
    for row in grid:
        made = soup.new_tag("tr")
        for cell in row:
            made.append(soup.new_tag("td") if cell is None else _unused(soup, cell))
        table.tag.append(made)


def _unused(soup: Any, cell: Any) -> Any:
    """The cell, where it is in no row yet, else one like it."""
    if cell.parent is None:
        return cell
    return copy(cell) if len(cell.get_text()) <= _MAX_REPEATED else soup.new_tag("td")


def _grid(rows: list[tuple[int, list[Any]]]) -> list[list[Any]]:
    """The cells of each row, as many in each; None where there is none, or one goes on from the left."""
    lines: list[dict[int, Any]] = []
    above: dict[int, tuple[Any, int]] = {}  # by column: a cell that spans more rows, and how many
    size, group = 0, 0
    for part, cells in rows:
        if part != group:
            above, group = {}, part
        line = {column: cell for column, (cell, _) in above.items()}
        above = {column: (cell, more - 1) for column, (cell, more) in above.items() if more > 1}
        column = 0
        for cell in cells:
            while column in line:
                column += 1
            across, down = _span(cell, "colspan"), _span(cell, "rowspan")
            for place in range(column, column + across):
                line[place] = cell if place == column else None
                if down > 1:
                    above[place] = (line[place], down - 1)
            column += across
            _check(size + len(line))
        size += len(line)
        lines.append(line)
    begun = [place for line in lines for place, cell in line.items() if cell is not None]
    width = max(begun) + 1
    _check(width * len(lines))
    return [[line.get(place) for place in range(width)] for line in lines]


def _check(cells: int) -> None:
    if cells > _MAX_CELLS:
        raise Unreadable(
            f"a table of more than {_MAX_CELLS:,} cells, with those that span several: cut it"
        )


def _span(cell: Any, name: str) -> int:
    """How many columns or rows the cell takes; a rowspan of 0 are all that follow."""
    given = str(cell.get(name, "")).strip()
    if not (given.isascii() and given.isdigit()):
        return 1
    most = 1000 if name == "colspan" else 65_534  # as in browsers
    count = int(given[:6])
    if count == 0:
        return 1 if name == "colspan" else most
    return min(count, most)


__all__ = ["square_tables"]

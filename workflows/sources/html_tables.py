"""Tables of HTML made square for Markdown, which has a cell for each column in each row and no table in a cell."""

from __future__ import annotations

from dataclasses import dataclass, field

from carrara.workflows.sources.html_page import Node, attribute, children, is_unseen
from carrara.workflows.sources.record import Unreadable

_MAX_CELLS = 2_000_000
Row = tuple[int, list[Node]]
"""Its cells, with what tells the part of the table (head, body) that it belongs to: no cell spans rows of two."""


@dataclass(slots=True)
class Table:
    """Its own captions and rows, without those of tables within."""

    captions: list[Node] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    holds_tables: bool = False

    @property
    def is_layout(self) -> bool:
        """A table that holds others, or has one cell only: its cells are blocks of text, one after the other."""
        return self.holds_tables or sum(len(cells) for _, cells in self.rows) <= 1

    def grid(self) -> list[list[Node | None]]:
        """A cell for each column in each row: one that spans rows stands in each of them, one that spans columns in
        the first; None where there is none, or one goes on from the left.

        Raises:
            Unreadable: too many cells.
        """
        return _grid(self.rows)


def tables_of(root: Node) -> dict[int, Table]:
    """The tables of a page that hold data, by the `id` of their element."""
    found: dict[int, Table] = {}
    left: list[tuple[Node, Table | None, int]] = [(root, None, 0)]
    while left:
        node, table, part = left.pop()
        match node.name:
            case "table":
                if table is not None:
                    table.holds_tables = True
                table = found[id(node)] = Table()
                part = id(node)
            case "caption" if table is not None:
                table.captions.append(node)
            case "thead" | "tbody" | "tfoot":
                part = id(node)
            case "tr" if table is not None:
                table.rows.append((part, []))
            case "td" | "th" if table is not None and table.rows:
                table.rows[-1][1].append(node)
        inner = [(child, table, part) for child in children(node) if _is_seen(child)]
        left.extend(reversed(inner))
    return {key: table for key, table in found.items() if not table.is_layout}


def _is_seen(node: Node) -> bool:
    return node.name[0] not in "#!" and not is_unseen(node)


def _grid(rows: list[Row]) -> list[list[Node | None]]:
    lines: list[dict[int, Node | None]] = []
    above: dict[int, tuple[Node, int]] = {}  # by column: a cell that spans more rows, and how many
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


def _span(cell: Node, name: str) -> int:
    """How many columns or rows the cell takes; a rowspan of 0 are all that follow."""
    given = attribute(cell, name).strip()
    if not (given.isascii() and given.isdigit()):
        return 1
    most = 1000 if name == "colspan" else 65_534  # as in browsers
    count = int(given[:6])
    if count == 0:
        return 1 if name == "colspan" else most
    return min(count, most)


__all__ = ["Table", "tables_of"]

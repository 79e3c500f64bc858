"""A list as its items: the way CommonMark reads them, and with what makes them look broken.

A block is a run of lines that a list may reach; inside of it each marker line is an item.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from carrara.runtime.repair.markdown_text.lines import columns
from carrara.runtime.repair.markdown_text.regions import FENCED, PLAIN

QUOTE = re.compile(r"(?:[ ]{0,3}>[ \t]?)+")
MARKER = re.compile(r"(?:([-*+])|(\d{1,9})([.)]))(?=[ \t]|$)")
BREAK = re.compile(r"([-*_])[ \t]*(?:\1[ \t]*){2,}$")
GLYPHS = "•◦▪▫‣●○■□∙⁃◆◇➢➤►▸"
LOOSE = re.compile(
    rf"(?:[-*+](?=[ \t]|$|\[[ xX]?\]|[^\W_]|\*\*|__|[-*+][ \t])|\d{{1,9}}[ \t]?[.)．、）]|[{GLYPHS}–—·]"
    rf"|[０-９]{{1,3}}[.)．、）]|\[[ xX]?\][ \t])"
)


@dataclass(slots=True)
class Item:
    """`column` of the marker, `content` where its text begins; `mark` the bullet or the delimiter, `number` -1 for a
    bullet; `gap`: a blank line stands before it; `parent` an index, -1 at the top; `list` tells lists apart."""

    line: int
    column: int
    content: int
    mark: str
    number: int
    text: str
    gap: bool
    parent: int = -1
    list: int = -1

    @property
    def ordered(self) -> bool:
        return self.number >= 0


class Row(NamedTuple):
    """A line of a block: `quote` its quotation marks, `column` of its first character, `body` from there on, `kind` of
    its region. An empty `body` is a blank line."""

    line: int
    quote: str
    column: int
    body: str
    kind: int


def rows_from(block: list[Row], at: int) -> Iterator[Row]:
    """The rows from `at` on, without a copy: the loops over them end early."""
    return map(block.__getitem__, range(at, len(block)))


def row_of(line: int, raw: str, kind: int) -> Row:
    quote = ""
    if ">" in raw[:4] and (m := QUOTE.match(raw)):
        quote = m.group()
        raw = raw[m.end() :]
    body = raw.lstrip(" \t")
    return Row(line, quote, columns(raw[: len(raw) - len(body)]), body.rstrip(), kind)


def blocks(rows: list[str], kinds: bytearray) -> Iterator[list[Row]]:
    """The runs of lines in which there may be a list, each from its first marker to its last line."""
    at, size = 0, len(rows)
    while at < size:
        if kinds[at] != PLAIN or not _may_begin(rows[at]):
            at += 1
            continue
        first = row_of(at, rows[at], PLAIN)
        if first.column > 8 or not _begins(first):
            at += 1
            continue
        block = [first]
        at += 1
        blank = False
        while at < size:
            row = row_of(at, rows[at], kinds[at])
            if not row.body:
                blank = True
            elif (
                (row.quote.count(">") != first.quote.count(">") and (blank or row.quote))
                or (
                    row.kind == PLAIN
                    and row.column <= first.column
                    and not LOOSE.match(row.body)
                    and (blank or _is_other(row))
                )
                or (row.kind != PLAIN and row.column <= first.column)
                or (BREAK.match(row.body) and row.column <= first.column and row.kind == PLAIN)
            ):
                break
            else:
                blank = False
            block.append(row)
            at += 1
        while not block[-1].body:
            block.pop()
        yield block


def _may_begin(raw: str) -> bool:
    body = raw.lstrip(" \t>")
    return bool(body) and (body[0] in "-*+[–—·" or body[0].isdigit() or body[0] in GLYPHS)


def _begins(row: Row) -> bool:
    return LOOSE.match(row.body) is not None and BREAK.match(row.body) is None


def _is_other(row: Row) -> bool:
    """A line that ends a list without a blank line before it."""
    return (row.body[0] in "#|<" and not row.body.startswith("<|")) or BREAK.match(
        row.body
    ) is not None


def marker_of(body: str) -> re.Match[str] | None:
    found = MARKER.match(body)
    return found if found and not BREAK.match(body) else None


def item_of(row: Row, found: re.Match[str], gap: bool) -> Item:
    rest = row.body[found.end() :]
    text = rest.lstrip(" \t")
    blank = columns(rest[: len(rest) - len(text)])
    width = found.end()
    content = row.column + width + (blank if 1 <= blank <= 4 and text else 1)
    number = int(found.group(2)) if found.group(2) else -1
    return Item(row.line, row.column, content, found.group(1) or found.group(3), number, text, gap)


def items(block: list[Row]) -> list[Item]:
    """The items of a block as CommonMark nests them, those that it reads as text left out."""
    found: list[Item] = []
    stack: list[int] = []
    lists = 0
    gap, text_before = False, False
    for row in block:
        if not row.body:
            gap, text_before = True, False
            continue
        match = marker_of(row.body) if row.kind == PLAIN else None
        inside = [n for n in stack if row.column >= found[n].content]
        base = found[inside[-1]].content if inside else 0
        if match is None or (row.column - base >= 4 and (inside or row.column >= 4)):
            if not (text_before and row.kind == PLAIN):
                stack = [n for n in stack if row.column >= found[n].content]
            text_before = row.kind == PLAIN
            gap = False
            continue
        item = item_of(row, match, gap)
        item.parent = inside[-1] if inside else -1
        siblings = stack[len(inside)] if len(stack) > len(inside) else None
        before = found[siblings] if siblings is not None else None
        if before is not None and before.mark == item.mark:
            item.list = before.list
        else:
            lists += 1
            item.list = lists
        found.append(item)
        stack = [*inside, len(found) - 1]
        gap, text_before = False, bool(item.text)
    return found


__all__ = [
    "BREAK",
    "FENCED",
    "GLYPHS",
    "LOOSE",
    "MARKER",
    "Item",
    "Row",
    "blocks",
    "item_of",
    "items",
    "marker_of",
    "row_of",
    "rows_from",
]

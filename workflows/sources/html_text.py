"""The elements of a page written as Markdown, in the order in which they are read, in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from carrara.workflows.sources.html_forms import chosen_options, input_value
from carrara.workflows.sources.html_lines import LINE, PARAGRAPH, Lines
from carrara.workflows.sources.html_page import Node, attribute, children, is_unseen
from carrara.workflows.sources.html_tables import Table, tables_of

_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_MARKS = {"b": "**", "strong": "**", "em": "*", "i": "*", "del": "~~", "s": "~~", "strike": "~~"}
_CODE = ("code", "kbd", "samp", "tt")
_VERBATIM = ("pre", "listing", "xmp", "plaintext")
_LISTS = ("ul", "ol", "menu", "dir")
_LINES = ("dd", "li", "option", "optgroup", "select", "summary", "textarea")
"""Blocks without a blank line around them."""
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "details", "dialog"),
    *("div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "frameset"),
    *("header", "hgroup", "hr", "html", "legend", "main", "p", "search", "section", "table"),
    *("tbody", "td", "tfoot", "th", "thead", "tr", *_LINES, *_HEADINGS, *_LISTS, *_VERBATIM),
}  # fmt: skip
_KEEPS_LINES = re.compile(r"(?:^|;)\s*white-space\s*:\s*(?:pre|break-spaces)", re.IGNORECASE)
_NOT_BOLD = re.compile(r"(?:^|;)\s*font-weight\s*:\s*(?:normal|400)\b", re.IGNORECASE)
_MAX_REPEATED = 200
"""A longer text stands in the first row that its cell spans alone."""
_MAX_ALL_REPEATED = 2**22

Left = Any
"""What is left to write: elements, and functions that end those that were begun."""


def markdown(root: Node) -> str:
    """What the page shows, "" where it shows nothing.

    Raises:
        Unreadable: a table of too many cells.
    """
    writer = _Writer(tables_of(root))
    writer.write([root])
    return writer.lines.text()


class _Writer:
    """Walks over elements and tells the lines what comes. `flat`: all in one line, for a cell of a table."""

    def __init__(self, tables: dict[int, Table], flat: bool = False) -> None:
        self.lines = Lines(flat)
        self._tables = tables
        self._numbers: list[int | None] = []  # of the next item of each list, None for bullets

    def write(self, nodes: Iterable[Node]) -> None:
        left: list[Left] = list(nodes)
        left.reverse()
        while left:
            node = left.pop()
            if callable(node):
                node()
            elif node.name == "#text":
                self.lines.add(node.data or "")
            elif node.name == "#document":
                left.extend(reversed(children(node)))
            elif node.name[0] not in "#!" and node.name != "rp" and not is_unseen(node):
                left.extend(reversed(self._begin(node)))
                if not self._is_data(node):
                    left.extend(reversed(_read(node)))

    def _is_data(self, node: Node) -> bool:
        return node.name == "table" and id(node) in self._tables and not self.lines.is_flat

    def _begin(self, node: Node) -> list[Left]:
        """Begins an element; returns what ends it, after its children."""
        if node.name in _BLOCKS:
            return [*self._begin_block(node), *self._keeping_lines(node)]
        lines = self.lines
        match node.name:
            case "br":
                lines.new_line()
            case "input":
                lines.add(input_value(node))
            case "button":
                lines.add(" ")
                return [lambda: lines.add(" ")]
            case "q":
                lines.add('"')
                return [lambda: lines.add('"')]
            case "rt":
                lines.add("(")
                return [lambda: lines.add(")")]
            case "sup" | "sub":
                lines.shift("^" if node.name == "sup" else "_")
                return [lambda: lines.shift("")]
            case name if name in _CODE:
                return [lines.begin_code()]
            case name if name in _MARKS and not (name == "b" and _has(node, _NOT_BOLD)):
                return [lines.begin_mark(_MARKS[name]), *self._keeping_lines(node)]
        return self._keeping_lines(node)

    def _begin_block(self, node: Node) -> list[Left]:
        lines, name = self.lines, node.name
        is_line = name in _LINES
        lines.want(LINE if is_line or (name in _LISTS and self._numbers) else PARAGRAPH)
        after = LINE if is_line or name == "dt" else PARAGRAPH

        def end() -> None:
            lines.want(after)

        match name:
            case "table" if self._is_data(node):
                table = self._tables[id(node)]
                return [*table.captions, lambda: self._table(table), end]
            case "hr":
                lines.rule()
            case "blockquote":
                return [lines.contain("> ", "> ", in_line=""), end]
            case "dd":
                return [lines.contain(":   ", "    ", in_line=""), end]
            case "li":
                first = self._bullet(node)
                return [end, lines.contain(first, " " * len(first), in_line=first, is_item=True)]
            case _ if name in _LISTS:
                number = _number(attribute(node, "start"), 1) if name == "ol" else None
                self._numbers.append(number)
                return [self._numbers.pop, end]
            case _ if name in _HEADINGS:
                return [lines.contain(_HEADINGS[name], "", in_line="", is_flat=True), end]
            case _ if name in _VERBATIM:
                return [lines.begin_verbatim(), end]
        return [end]

    def _keeping_lines(self, node: Node) -> list[Left]:
        """Newlines are shown in a text area, and where the style says so."""
        is_kept = node.name == "textarea" or _has(node, _KEEPS_LINES)
        return [self.lines.keep_lines()] if is_kept else []

    def _bullet(self, node: Node) -> str:
        if not self._numbers or self._numbers[-1] is None:
            return "- "
        number = _number(attribute(node, "value"), self._numbers[-1])
        self._numbers[-1] = number + 1
        return f"{number}. "

    def _table(self, table: Table) -> None:
        """A row for each; the first is the header, since Markdown has no table without one."""
        texts: dict[int, str] = {}
        budget = _MAX_ALL_REPEATED
        rows = []
        for row in table.grid():
            written = []
            for cell in row:
                if cell is None:
                    text = ""
                elif id(cell) not in texts:
                    text = texts[id(cell)] = _cell(cell)
                else:
                    text = texts[id(cell)]
                    text = text if len(text) <= min(_MAX_REPEATED, budget) else ""
                    budget -= len(text)
                written.append(text)
            rows.append(f"| {' | '.join(written)} |")
        if any(texts.values()):
            rows.insert(1, "|" + " --- |" * len(row))
            self.lines.add_block(rows)


def _read(node: Node) -> list[Node]:
    """What of an element is read: all that is in it, of a choice what is chosen."""
    return chosen_options(node) if node.name == "select" else children(node)


def _cell(cell: Node) -> str:
    writer = _Writer({}, flat=True)
    writer.write(children(cell))
    return writer.lines.text().replace("|", "\\|")


def _has(node: Node, style: re.Pattern[str]) -> bool:
    found = attribute(node, "style")
    return found != "" and style.search(found) is not None


def _number(given: str, otherwise: int) -> int:
    digits = "".join(takewhile(lambda character: character in "0123456789", given.strip()))
    return int(digits) if 0 < len(digits) < 10 else otherwise


__all__ = ["markdown"]

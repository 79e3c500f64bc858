"""A YAML file as plain data in which every part still knows its line and column. `compose` makes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.nodes import Node, ScalarNode

Location = tuple[str | int, ...]
"""Keys and indexes from the root: ("steps", "extract", "returns")."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file, both counted from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Source:
    """`value` is the file as dicts, lists, str, int, float, bool and None; all keys are str."""

    name: str
    text: str
    value: Any = None
    keys: dict[Location, Node] = field(default_factory=dict)
    nodes: dict[Location, Node] = field(default_factory=dict)

    def at_key(self, where: Location) -> Mark:
        """Where the key (or the list item) at `where` begins; the nearest part that exists, if it does not."""
        node = self.keys.get(where)
        return mark_of(node) if node is not None else self.at_value(where)

    def at_value(self, where: Location) -> Mark:
        """Where the value at `where` begins; that of the nearest part around it, if it does not exist."""
        while where and where not in self.nodes:
            if where in self.keys:
                return mark_of(self.keys[where])
            where = where[:-1]
        node = self.nodes.get(where)
        return mark_of(node) if node is not None else Mark(1, 1)

    def inside(self, where: Location, line: int, word: str = "", nth: int = 0) -> Mark:
        """The place of `word` (its `nth` use) in line `line` (from 1) of the text value at `where`.

        Exact for block scalars written with `|` and for text on one line; for folded and wrapped text the
        beginning of the value. Without a `word`, the first letter of the line.
        """
        start, node = self.at_value(where), self.nodes.get(where)
        if not isinstance(node, ScalarNode):
            return start
        if node.style == "|":
            number = start.line + line
            return Mark(number, _column(self._line(number), 0, word, nth))
        if node.start_mark.line != node.end_mark.line:
            return start
        return Mark(start.line, _column(self._line(start.line), start.column - 1, word, nth))

    def _line(self, number: int) -> str:
        lines = self.text.split("\n")
        return lines[number - 1] if number <= len(lines) else ""


def mark_of(node: Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


def _column(line: str, start: int, word: str, nth: int) -> int:
    """The 1-based column of the nth whole-word `word` in `line` from `start`, else of the first letter.

    A word inside `{{ }}` or `{% %}` goes before the same word in the text around.
    """
    if word:
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        spots = [match.start() for match in pattern.finditer(line, start)]
        spots = [spot for spot in spots if _in_braces(line[:spot])] or spots
        if spots:
            return spots[min(nth, len(spots) - 1)] + 1
    rest = line[start:]
    return start + len(rest) - len(rest.lstrip()) + 1


def _in_braces(before: str) -> bool:
    opened = max(before.rfind("{{"), before.rfind("{%"))
    return opened > max(before.rfind("}}"), before.rfind("%}"))

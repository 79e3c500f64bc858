"""The headings of a Markdown text; lines of code between fences are none, whatever they begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = re.compile(
    r"^(?: {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})(?P<info>.*)|(?P<depth>#{1,6}) +(?P<name>\S.*))$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Heading:
    """At character `start` of the text; `depth` 1 is the outermost."""

    start: int
    depth: int
    name: str


def headings_of(text: str) -> list[Heading]:
    """All headings in order. A fence that is never closed fences nothing."""
    found: list[Heading] = []
    fence = ""
    before = 0
    for mark in _MARK.finditer(text):
        line, info = mark["fence"], (mark["info"] or "").strip()
        if mark["depth"] is not None:
            found.append(Heading(mark.start(), len(mark["depth"]), _named(mark["name"])))
        elif not fence:
            fence, before = line, len(found)
        elif line.startswith(fence) and not info:
            del found[before:]
            fence = ""
    return found


def _named(written: str) -> str:
    """The heading without the marks that may close it: `Terms ##`."""
    name = written.rstrip()
    bare = name.rstrip("#")
    return bare.rstrip() if bare.endswith((" ", "\t")) else name


__all__ = ["Heading", "headings_of"]

"""Items that stand on the line of the item before them: the newline between them is lost."""

from __future__ import annotations

import re
from itertools import islice

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.lines import Fix
from carrara.runtime.repair.markdown_text.list_items import Row, marker_of
from carrara.runtime.repair.markdown_text.regions import PLAIN

_GLUED_TASK = re.compile(r"(?<=[^\s|])[ \t]*(?=[-*+][ \t]\[[ xX]\][ \t])")
_MOST_NUMBERS = 1000  # looked at in one line
_GLUED_NUMBER = re.compile(r"(?<=[^\s\d.])([ \t]*)(\d{1,3})([.)])[ \t]+(?=\S)")


def written(row: Row, body: str) -> str:
    return f"{row.quote}{' ' * row.column}{body}"


def glued_fix(block: list[Row], at: int, found: re.Match[str], boxes: bool) -> Fix | None:
    """Items on the line of the item before them."""
    row, body = block[at], block[at].body
    if found.group(2):
        cuts = _number_cuts(block, at, found)
        rule = "inline_glued_ordered"
    else:
        start = found.end()
        if not boxes or "[" not in body[start + 4 :]:
            return None
        coded = cells.code_spans(body)
        cuts = [
            (m.start(), m.end())
            for m in _GLUED_TASK.finditer(body, start + 4)
            if not cells.within(body, [m.end()], coded)
        ]
        rule = "inline_glued_task"
    if not cuts:
        return None
    pieces, last = [], 0
    for a, b in cuts:
        pieces.append(body[last:a].rstrip())
        last = b
    pieces.append(body[last:])
    rows = tuple(written(row, piece) for piece in pieces)
    return Fix(row.line, row.line + 1, rows, rule, "the newline before the item is lost")


def _number_cuts(block: list[Row], at: int, found: re.Match[str]) -> list[tuple[int, int]]:
    """Where the next numbers stand in the text of a numbered item: the numbers that are missing behind it."""
    body = block[at].body
    number, mark = int(found.group(2)), found.group(3)
    if mark not in body[found.end() :]:
        return []
    candidates = list(islice(_GLUED_NUMBER.finditer(body, found.end() + 1), _MOST_NUMBERS))
    if not candidates:
        return []
    coded = cells.code_spans(body)
    following = _next_number(block, at, mark)
    cuts: list[tuple[int, int]] = []
    tight = False
    wanted = number + 1
    for m in candidates:
        if (
            int(m.group(2)) == wanted
            and m.group(3) == mark
            and not cells.within(body, [m.start(2)], coded)
        ):
            cuts.append((m.start(1), m.start(2)))
            tight = tight or not m.group(1)
            wanted += 1
    if not cuts:
        return []
    if following is not None:
        return cuts if following == wanted else []
    return cuts if number > 1 or tight or len(cuts) > 1 else []


def _next_number(block: list[Row], at: int, mark: str) -> int | None:
    """The number of the next item of this list, None where it ends."""
    row = block[at]
    for later in block[at + 1 : at + 400]:
        if not later.body or later.column > row.column + 1:
            continue
        found = marker_of(later.body) if later.kind == PLAIN else None
        if found is None or later.column < row.column:
            return None
        return int(found.group(2)) if found.group(2) and found.group(3) == mark else None
    return None


__all__ = ["glued_fix", "written"]

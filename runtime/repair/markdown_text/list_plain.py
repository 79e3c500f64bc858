"""The quick look at a list: whether everything in it is where CommonMark and its neighbours want it.

Most lists are plain; only the others are handed to the rules.
"""

from __future__ import annotations

import re

from carrara.runtime.repair.markdown_text.list_items import Row
from carrara.runtime.repair.markdown_text.regions import PLAIN

_ITEM = re.compile(r"(?:([-*+])|(\d{1,9})([.)])) (?=[^\s\[\-*+\d(•|#>`])")
_GLUED = re.compile(r"\d[.)] ")


def is_plain(block: list[Row]) -> bool:
    """Whether the rules have nothing to say about these lines. False only means that they must look."""
    columns: list[int] = []
    contents: list[int] = []
    marks: list[str] = []
    numbers: list[int] = []
    texts: list[str] = []
    base = block[0].column
    tight = False
    for _, _, column, body, kind in block:
        if not body:
            tight = False
            continue
        match = _ITEM.match(body) if kind == PLAIN else None
        if match is None:
            if kind == PLAIN and (not body[0].isalpha() or (not tight and column not in contents)):
                return False
            if kind != PLAIN and (not contents or column < contents[-1]):
                return False
            tight = kind == PLAIN
            continue
        bullet, digits, stop = match.groups()
        mark, number = (bullet, -1) if bullet else (stop, int(digits))
        text = body[match.end() :]
        if (number >= 0 and _GLUED.search(text)) or (number < 0 and f"{mark} " in text):
            return False
        while columns and column < columns[-1]:
            for kept in (columns, contents, marks, numbers, texts):
                kept.pop()
        if columns and column == columns[-1]:
            if (
                mark != marks[-1]
                or (number >= 0 and number != numbers[-1] + 1)
                or text.startswith(texts[-1])
            ):
                return False
            contents[-1], numbers[-1], texts[-1] = column + match.end(), number, text
        elif column == (contents[-1] if columns else base):
            columns.append(column)
            contents.append(column + match.end())
            marks.append(mark)
            numbers.append(number)
            texts.append(text)
        else:
            return False
        tight = True
    return True


__all__ = ["is_plain"]

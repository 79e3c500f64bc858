"""Tables in a text: where they are, which of them are sound, and what the others are handed to.

A table is a paragraph with pipes that has a delimiter row, or whose lines all are rows. Sound tables cost one
look a line.
"""

from __future__ import annotations

import re

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.lines import Fix, Lines, columns
from carrara.runtime.repair.markdown_text.regions import CONTAINER, INDENTED, PLAIN
from carrara.runtime.repair.markdown_text.table_mend import mend
from carrara.runtime.repair.markdown_text.table_parts import Line
from carrara.runtime.repair.markdown_text.table_tabs import tab_fixes

_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])[ \t]+(?=\|)")
_BLOCK = re.compile(r"[ \t]*(?:>[ \t]?)*[ \t]*(?:[-*+][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t])")
_HEADING = re.compile(r"[ \t]*#{1,6}[ \t]")
_GRID = re.compile(r"[ \t]*\+(?:[-=]{2,}\+)+[ \t]*$")
_PLUSSED = re.compile(r"[ \t]*\+[ \t]*:?-+:?[ \t]*(?:\+[ \t]*:?-+:?[ \t]*)+\+?[ \t]*$")
_DRAWN = re.compile(r"[├└┌┐┘┤┬┴┼╔╗╚╝]")
_WIDE = str.maketrans({"｜": "|", "│": "|", "┃": "|", "￨": "|", "¦": "|"})
_MOST_PARTS = 64  # paragraphs looked at for one table
_LINES_TO_DELIMITER = 12
_OTHER_PIPES = re.compile(r"[｜│┃￨¦]")


def table_fixes(lines: Lines, kinds: bytearray, kind: str) -> list[Fix]:
    """Repairs of all tables."""
    rows = lines.rows
    if _OTHER_PIPES.search(lines.text) and (fixes := _pipe_fixes(rows, kinds)):
        return fixes
    if "|" not in lines.text:
        return tab_fixes(rows) if kind == "table" and "\t" in lines.text else []
    if kind == "table":
        kinds = _without_indents(rows, kinds)
    if "+" in lines.text and (fixes := _plus_fixes(rows, kinds)):
        return fixes
    if "+-" in lines.text or "+=" in lines.text:
        fixes = _grid_fixes(rows, kinds)
        if fixes:
            return fixes
    fixes = []
    at, size = 0, len(rows)
    while at < size:
        if kinds[at] != PLAIN or "|" not in rows[at]:
            at += 1
            continue
        first, after = _paragraph(rows, kinds, at)
        if _is_sound(rows, first, after):
            after = _with_stray_rows(rows, kinds, first, after, kind, fixes)
            at = after
            continue
        at = max(after, _mend(rows, kinds, first, after, kind, fixes))
    return fixes


def _without_indents(rows: list[str], kinds: bytearray) -> bytearray:
    """Rows that look like indented code, in a text with rows that do not, are rows too."""
    delimiters = [row.strip() for n, row in enumerate(rows) if kinds[n] == PLAIN and "-" in row]
    wide = next((cells.count(row) for row in delimiters if cells.is_delimiter(row)), 0)
    odd = [
        n
        for n, row in enumerate(rows)
        if kinds[n] == INDENTED
        and "|" in row
        and (row.lstrip()[:1] == "|" or 1 < wide == cells.count(row.strip()))
    ]
    if not odd or not any(kinds[n] == PLAIN and "|" in row for n, row in enumerate(rows)):
        return kinds
    found = bytearray(kinds)
    for n in odd:
        found[n] = PLAIN
    for n, row in enumerate(rows):
        if found[n] == INDENTED and not row.strip():
            found[n] = PLAIN
    return found


def _pipe_fixes(rows: list[str], kinds: bytearray) -> list[Fix]:
    """Strokes that look like pipes in lines that are rows of a table with them."""
    fixes: list[Fix] = []
    for number, row in enumerate(rows):
        if kinds[number] != PLAIN or not _OTHER_PIPES.search(row) or _DRAWN.search(row):
            continue
        text = row.translate(_WIDE)
        wide = cells.count(text.strip())
        near = [
            rows[n].translate(_WIDE).strip()
            for n in range(max(0, number - 3), min(len(rows), number + 4))
            if n != number
        ]
        beside = [line for line in near if "|" in line and cells.count(line) == wide]
        drawn = any(cells.is_delimiter(line) for line in [text.strip(), *near])
        if wide > 1 and beside and (drawn or len(beside) > 1):
            fixes.append(
                Fix(
                    number, number + 1, (text,), "pipe_swapped", "tables are drawn with |", "likely"
                )
            )
    return fixes


def _plus_fixes(rows: list[str], kinds: bytearray) -> list[Fix]:
    """A delimiter row drawn with + below a header with as many cells; where rows are drawn so too, it is a grid."""
    fixes = []
    for at in range(1, len(rows)):
        if kinds[at] != PLAIN or "|" not in rows[at - 1] or not _PLUSSED.match(rows[at]):
            continue
        text = rows[at].replace("+", "|")
        beside = (rows[at - 2] if at > 1 else "", rows[at + 2] if at + 2 < len(rows) else "")
        if cells.count(text.strip()) == cells.count(rows[at - 1].strip()) and not any(
            _PLUSSED.match(row) for row in beside
        ):
            reason = "a delimiter row is dashes, pipes and colons"
            fixes.append(Fix(at, at + 1, (text,), "delim_garbled", reason, "likely"))
    return fixes


def _grid_fixes(rows: list[str], kinds: bytearray) -> list[Fix]:
    """A table drawn with +---+ between its rows: the second of these lines is the delimiter row, the others go."""
    fixes: list[Fix] = []
    at = 0
    while at < len(rows):
        if kinds[at] != PLAIN or not _GRID.match(rows[at]):
            at += 1
            continue
        seen = 0
        while (
            at < len(rows)
            and kinds[at] == PLAIN
            and (_GRID.match(rows[at]) or rows[at].lstrip()[:1] == "|")
        ):
            if _GRID.match(rows[at]):
                seen += 1
                text = (
                    (re.sub(r"[-=]+", "---", rows[at].strip().replace("+", "|")),)
                    if seen == 2
                    else ()
                )
                fixes.append(
                    Fix(
                        at,
                        at + 1,
                        text,
                        "grid_table",
                        "rows are not divided by lines in Markdown",
                        "likely",
                    )
                )
            at += 1
        if seen < 2:
            return []
    return fixes


def _paragraph(rows: list[str], kinds: bytearray, at: int) -> tuple[int, int]:
    """The lines around `at` without a blank one between them."""
    first = at
    while (
        first > 0
        and kinds[first - 1] == PLAIN
        and not _is_blank(rows[first - 1])
        and at - first < 4
    ):
        if _BLOCK.match(rows[first]) or _HEADING.match(rows[first - 1]):
            break
        first -= 1
    after = at + 1
    while (
        after < len(rows)
        and kinds[after] == PLAIN
        and not _is_blank(rows[after])
        and not _BLOCK.match(rows[after])
    ):
        after += 1
    return first, after


def _is_blank(row: str) -> bool:
    return not row or not row.strip(" \t>")


def _is_sound(rows: list[str], first: int, after: int) -> bool:
    """Whether a paragraph is one rectangular table, perhaps with text above it."""
    at = first
    while at < after and "|" not in rows[at]:
        at += 1
    if after - at < 2:
        return False
    header, delimiter = rows[at].strip(), rows[at + 1].strip()
    if header[:1] == ">" or delimiter[:1] != "|" != header[:1]:
        header, delimiter = (_bare(rows[i]) for i in (at, at + 1))
    if not cells.is_delimiter(delimiter):
        return False
    wide = cells.count(header)
    if cells.count(delimiter) != wide or cells.is_delimiter(header):
        return False
    if header[:1] != "|" and delimiter[:1] == "|":
        return False
    base = columns(rows[at][: len(rows[at]) - len(rows[at].lstrip())])
    for number in range(at + 1, after):
        row = rows[number]
        body = row.strip()
        if body[:1] == ">":
            body = _bare(row)
        else:
            column = columns(row[: len(row) - len(row.lstrip())])
            if column > base + 3 or (column > 3 >= base) or (base > 3 >= column):
                return False
        if "|" not in body or (
            number > at + 1 and body[:1] in "|:-" and "--" in body and cells.is_delimiter(body)
        ):
            return False
        if cells.count(body) != wide:
            return False
    return True


def _bare(row: str) -> str:
    prefix = CONTAINER.match(row)
    body = row[prefix.end() :] if prefix else row
    if m := _ITEM.match(body):
        body = body[m.end() :]
    return body.strip()


def _line(rows: list[str], number: int, gap: bool) -> Line:
    raw = rows[number]
    container = CONTAINER.match(raw)
    prefix = container.end() if container else 0
    if m := _ITEM.match(raw, prefix):
        prefix = m.end()
    return Line(number, raw[:prefix], raw[prefix:].strip(), gap)


def _with_stray_rows(
    rows: list[str], kinds: bytearray, first: int, after: int, kind: str, fixes: list[Fix]
) -> int:
    """Rows behind blank lines below a sound table belong to it: then the table is mended after all."""
    if _following(rows, kinds, after) is None:
        return after
    return max(after, _mend(rows, kinds, first, after, kind, fixes))


def _following(rows: list[str], kinds: bytearray, after: int) -> int | None:
    """The first line of a paragraph of rows behind blank lines, if it is no table of its own."""
    at = after
    while at < len(rows) and kinds[at] == PLAIN and _is_blank(rows[at]) and at - after < 4:
        at += 1
    if at == after or at >= len(rows) or kinds[at] != PLAIN or "|" not in rows[at]:
        return None
    body, sample = _bare(rows[at]), _bare(rows[after - 1])
    if (body[:1] == "|") != (sample[:1] == "|"):
        return None
    least = 2 if cells.is_delimiter(body) else 3
    if body[:1] != "|" and (cells.count(body) != cells.count(sample) or cells.count(body) < least):
        return None
    own = at + 1 < len(rows) and cells.is_delimiter(_bare(rows[at + 1]))
    if own and not cells.is_delimiter(body):
        return None
    return at


def _mend(
    rows: list[str], kinds: bytearray, first: int, after: int, kind: str, fixes: list[Fix]
) -> int:
    """Collect the table that starts in this paragraph over blank lines, and mend it. The line after it."""
    lines = [_line(rows, number, False) for number in range(first, after)]
    end = after
    for _ in range(_MOST_PARTS):
        start = _following(rows, kinds, end)
        if start is None:
            break
        if end - first > _LINES_TO_DELIMITER and not any(
            cells.is_delimiter(x.text) for x in lines[:8]
        ):
            break  # no table begins here
        _, end = _paragraph(rows, kinds, start)
        lines += [_line(rows, number, number == start) for number in range(start, end)]
    fixed, used = mend(lines, kind)
    fixes += fixed
    if used >= len(lines):
        return end
    return max(after, lines[used].number) if used else after


__all__ = ["table_fixes"]

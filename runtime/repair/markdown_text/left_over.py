"""Masks that a decoder left in a text: taken out, with the blank beside them."""

from __future__ import annotations

import re

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.lines import Fix, Lines
from carrara.runtime.repair.markdown_text.regions import PLAIN
from carrara.runtime.repair.masks import MASK

_RUN = re.compile(rf"(?:{MASK.pattern})(?:[ \t]*(?:{MASK.pattern}))*")
_EMPTIED = re.compile(r"[ \t>]*(?:[-*+•]|\d{1,9}[.)])[ \t]*")
PLACE = "…"
_WHOLE = re.compile(
    rf"(?:\||^[ \t>]*(?:[-*+•]|\d{{1,9}}[.)]))[ \t]*(?:{MASK.pattern})[ \t]*(?:\||$)"
)
_FENCE_END = re.compile(
    rf"([ \t>]*(?:`{{3,}}|~{{3,}}))[ \t]*(?:{MASK.pattern})(?:{MASK.pattern}|[ \t])*$"
)
_REASON = "a left-over token of the decoder"


def mask_fixes(lines: Lines, kinds: bytearray, kind: str) -> list[Fix]:
    """Take the masks out of cells, items and headings. A single [MASK] within the text of a page may be meant, and
    stays."""
    fixes = []
    asked = kind in ("table", "list")
    for number, row in enumerate(lines.rows):
        if kinds[number] != PLAIN or not MASK.search(row):
            continue
        if _is_delimiter(lines.rows, number, row):
            text = _RUN.sub("---", row)
            fixes.append(Fix(number, number + 1, (text,), "delim_garbled", _REASON, "likely"))
            continue
        if (drawn := _as_pipe(lines.rows, number, row)) is not None:
            fixes.append(Fix(number, number + 1, (drawn,), "mask_left", _REASON, "likely"))
            continue
        text = _without(row, sure=asked or _WHOLE.search(row) is not None)
        if _EMPTIED.fullmatch(text) and not _EMPTIED.fullmatch(row):
            text = f"{text.rstrip()} {PLACE}"  # an item without text would join the line above or below
        if text != row:
            fixes.append(Fix(number, number + 1, (text,), "mask_left", _REASON, "likely"))
    return fixes


def fence_mask_fixes(lines: Lines) -> list[Fix]:
    """Take the masks off a line that closes a fence: with them it does not."""
    return [
        Fix(number, number + 1, (m.group(1),), "mask_left", _REASON, "likely")
        for number, row in enumerate(lines.rows)
        if (m := _FENCE_END.match(row))
    ]


def _as_pipe(rows: list[str], number: int, row: str) -> str | None:
    """The row with a pipe in the place of its masks, if it then has the cells of the rows beside it, and lacks them
    without."""
    beside = [rows[n].strip() for n in (number - 1, number + 1, number - 2) if 0 <= n < len(rows)]
    wide = [cells.count(line) for line in beside if "|" in line and not MASK.search(line)]
    if not wide or max(wide) != min(wide) or "|" not in MASK.sub("", row):
        return None
    drawn = _RUN.sub("|", row)
    bare = _without(row, True).strip()
    return drawn if cells.count(drawn.strip()) == wide[0] != cells.count(bare) else None


def _without(row: str, sure: bool) -> str:
    parts, at = [], 0
    coded = cells.code_spans(row)
    for m in _RUN.finditer(row):
        if cells.within(row, [m.start()], coded):
            continue
        if not sure and m.group() in ("[MASK]", "<mask>", "<pad>"):
            continue
        start, end = m.span()
        before, after = row[start - 1 : start], row[end : end + 1]
        if before in " \t" and (not after or after in " \t") and row[:start].strip():
            start -= len(before) if row[start - 2 : start - 1] not in ("|",) or after != " " else 0
        parts.append(row[at:start])
        at = end
    return "".join(parts) + row[at:]


def _is_delimiter(rows: list[str], number: int, row: str) -> bool:
    """Whether the masks stand in the place of a delimiter row's dashes."""
    rest = MASK.sub("", row)
    if rest.strip(" \t|:->") or "|" not in rest or number == 0:
        return False
    near = rows[max(0, number - 2) : number] + rows[number + 1 : number + 2]
    return "|" in rows[number - 1] and not any(cells.is_delimiter(line.strip()) for line in near)


__all__ = ["PLACE", "fence_mask_fixes", "mask_fixes"]

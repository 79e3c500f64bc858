"""The delimiter row of a table: found, garbled or not, on a line with other rows, above the header, or missing."""

from __future__ import annotations

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.lines import Fix
from carrara.runtime.repair.markdown_text.table_parts import Line, Shape, base_prefix, unmasked
from carrara.runtime.repair.markdown_text.table_rows import segments
from carrara.runtime.repair.report import Certainty

_NEAR = 6  # lines in which the delimiter row must be found


def delimiter_line(lines: list[Line], first: int) -> int | None:
    """The line that is the delimiter row: one that is right, else a garbled one below the first line with pipes."""
    for at in range(first, min(len(lines), first + _NEAR)):
        if cells.is_delimiter(lines[at].text) and (at > first or lines[at].wide > 1):
            return at
    for at in range(first + 1, min(len(lines), first + 3)):
        above = lines[at - 1]
        if above.gap and at - 1 > first:
            break
        text = lines[at].text
        if "|" in above.text and cells.looks_like_delimiter(text, unmasked(text)):
            return at
    return None


def delimiter_first(lines: list[Line], at: int) -> tuple[list[Fix], int]:
    """The delimiter row stands above the header."""
    wide = lines[at].wide
    header = lines[at + 1]
    if header.wide != wide or cells.is_delimiter(header.text):
        return [], 0
    rows = (header.prefix + header.text, lines[at].prefix + lines[at].text)
    number = lines[at].number
    reason = "the delimiter row belongs under the header"
    return [Fix(number, header.number + 1, rows, "delim_first", reason, "likely")], len(lines)


def glued_delimiter(lines: list[Line], first: int) -> Fix | None:
    """The delimiter row on one line with the header, with the first row, or with the whole table."""
    for at in range(first, min(len(lines), first + 3)):
        line = lines[at]
        texts = cells.split(line.text)
        run = _delimiter_run(texts)
        if run is None:
            continue
        start, size = run
        spans = cells.spans(line.text)
        pieces: list[tuple[int, int]] = []
        lead = ""
        if start:
            head = start - 1 if not texts[start - 1] else start
            if head == size + 1 and not line.text.startswith("|"):
                lead = line.text[: spans[0][1]].rstrip()
                pieces.append((spans[1][0], spans[head - 1][1]))
            elif head >= 1 and (head == size or head == start - 1):
                pieces.append((spans[0][0], spans[head - 1][1]))
            else:
                return None
        elif at == first:
            return None
        pieces.append((spans[start][0], spans[start + size - 1][1]))
        rest = start + size
        if rest < len(texts):
            rest += not texts[rest]
            if rest < len(texts):
                pieces += _rest_rows(line.text, spans[rest:], size)
        leading = "|" in line.text[: spans[0][0] + 1] or lead != ""
        rows = [line.prefix + _piece(line.text, piece, leading) for piece in pieces]
        if lead:
            rows[:0] = [line.prefix + lead, line.prefix.rstrip()]
        rule = "collapsed" if len(pieces) > 2 else "delim_joined"
        reason = (
            "the newlines of the table are lost"
            if len(pieces) > 2
            else "the newline beside the delimiter row is lost"
        )
        return Fix(line.number, line.number + 1, tuple(rows), rule, reason)
    return None


def _rest_rows(text: str, spans: list[tuple[int, int]], wide: int) -> list[tuple[int, int]]:
    """The rows behind a delimiter row on its line; a remainder that does not divide stays one."""
    first, last = spans[0][0], spans[-1][1]
    parts = segments(text[first:last], wide)
    if parts is None:
        return [(first, last)]
    return [(first + a, first + b) for a, b in parts]


def _piece(text: str, piece: tuple[int, int], leading: bool) -> str:
    body = text[piece[0] : piece[1]]
    return f"|{body}|" if leading else body.strip()


def _delimiter_run(texts: list[str]) -> tuple[int, int] | None:
    """Start and length of the first run of delimiter cells in a line that has other cells as well."""
    start = next((n for n, text in enumerate(texts) if cells.STRICT_CELL.fullmatch(text)), None)
    if start is None:
        return None
    size = 0
    while start + size < len(texts) and cells.STRICT_CELL.fullmatch(texts[start + size]):
        size += 1
    if size < 2 or size == len(texts):
        return None
    return start, size


def missing_delimiter(lines: list[Line], first: int, kind: str) -> tuple[list[Fix], int]:
    """Rows only: the first one is the header."""
    rows = lines[first:]
    part = next((n for n, line in enumerate(rows) if line.gap and n), len(rows))
    rows = rows[:part]
    if len(rows) < 2:
        return [], 0
    wide = rows[0].wide
    same = sum(line.wide == wide for line in rows)
    framed = all(line.text.startswith("|") for line in rows) and sum(
        line.text.endswith("|") for line in rows
    ) + 1 >= len(rows)
    sure = framed and rows[0].text.endswith("|")
    if not sure and not (kind == "table" and len(rows) >= 2):
        return [], 0
    if wide < 2 or same * 3 < len(rows) * 2 or (not sure and same < len(rows)):
        return [], 0
    shape = Shape(wide, rows[0].text.startswith("|"), rows[0].text.endswith("|"), rows[0].prefix)
    text = base_prefix(rows) + shape.delimiter([])
    reason = "these lines are rows, and a table needs a delimiter row under its header"
    certainty: Certainty = "certain" if sure else "likely"
    fix = Fix(rows[0].number + 1, rows[0].number + 1, (text,), "delim_missing", reason, certainty)
    return [fix], len(lines)


__all__ = ["delimiter_first", "delimiter_line", "glued_delimiter", "missing_delimiter"]

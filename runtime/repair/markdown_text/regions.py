"""Which lines are nobody's business: code fences, indented code, HTML, math, front matter.

One pass over the lines. Lists are followed only as far as needed to tell indented code from the content of items.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from carrara.runtime.repair.markdown_text.lines import columns

FENCE = re.compile(r"[ \t>]*+(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}|~{3,})([^\n]*)$")
CONTAINER = re.compile(r"[ \t]*+(?:>[ \t]?)*+[ \t]*+")
_MARKER = re.compile(r"[ \t>]*+(?:[-*+•◦▪‣●○]|\d{1,9}[.)])(?:[ \t]|$|\[)")
_RAW_TAG = re.compile(
    r"<(script|pre|style|textarea)(?=[\s>]|$)|<!--|<\?|<!\[CDATA\[|<![A-Za-z]", re.I
)
_RAW_END = {"<!--": "-->", "<?": "?>", "<![cdata[": "]]>"}
_BLOCK_TAG = re.compile(
    r"</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div"
    r"|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link"
    r"|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead"
    r"|title|tr|track|ul)(?=[\s/>]|$)",
    re.I,
)
_ONE_TAG = re.compile(r"<(?:/[A-Za-z][\w-]*\s*|[A-Za-z][\w-]*(?:\s[^<>]*)?/?)>\s*$")
_YAML = re.compile(r"[\w\"'-][\w\"' .-]*:(?:\s|$)|#|-\s|\s")

PLAIN, FENCED, INDENTED, HTML, FRONT, MATH = range(6)


@dataclass(frozen=True, slots=True)
class Fence:
    """Lines `first` to `last`, the closing line included; `closed` says whether there is one."""

    first: int
    last: int
    mark: str
    info: str
    closed: bool


@dataclass(slots=True)
class Regions:
    """`kinds` has one of PLAIN to MATH for each line."""

    kinds: bytearray
    fences: list[Fence] = field(default_factory=list)


def regions(rows: list[str], text: str) -> Regions:
    found = Regions(bytearray(len(rows)))
    if not _needs_a_look(text):
        return found
    at = _front_matter(rows, found.kinds)
    blank, in_list = True, False
    size = len(rows)
    while at < size:
        row = rows[at]
        if not row or row.isspace():
            blank = True
            at += 1
            continue
        c = row[0]
        if c.isalnum() and not c.isdigit():  # prose, the usual case
            if blank:
                in_list = False
            blank = False
            at += 1
            continue
        body = row.lstrip(" \t>")
        first = body[:1]
        if ("```" in row or "~~~" in row) and (m := _opening(row, in_list)):
            at = _fence(rows, at, m, found)
            blank = True
            continue
        if first in "-*+•◦▪‣●○0123456789" and _MARKER.match(row):
            in_list = True
        elif blank and c not in " \t>":
            in_list = False
        if (
            blank
            and not in_list
            and c in " \t"
            and columns(row[: len(row) - len(row.lstrip())]) >= 4
        ):
            at = _indented(rows, at, found.kinds)
            continue
        if first == "<":
            end = _html(rows, at, body, blank)
            if end > at:
                found.kinds[at:end] = bytes([HTML]) * (end - at)
                at, blank = end, False
                continue
        if first == "$" and body.startswith("$$"):
            at = _math(rows, at, body, found.kinds)
            blank = False
            continue
        blank = False
        at += 1
    return found


def _opening(row: str, in_list: bool) -> re.Match[str] | None:
    """The opening of a fence, if the line is one: far indented only inside of a list."""
    found = FENCE.match(row)
    if found is None or (found.group(1)[0] == "`" and "`" in found.group(2)):
        return None
    return found if in_list or columns(row[: len(row) - len(row.lstrip())]) < 4 else None


def _needs_a_look(text: str) -> bool:
    return (
        "```" in text
        or "~~~" in text
        or "    " in text
        or "\t" in text
        or "<" in text
        or "$$" in text
        or text.startswith("---")
    )


def _front_matter(rows: list[str], kinds: bytearray) -> int:
    if rows[0].rstrip() not in ("---", "+++"):
        return 0
    mark = rows[0].rstrip()
    for at in range(1, min(len(rows), 400)):
        row = rows[at]
        if row.rstrip() == mark or (mark == "---" and row.rstrip() == "..."):
            kinds[: at + 1] = bytes([FRONT]) * (at + 1) if at > 1 else bytes(at + 1)
            return at + 1 if at > 1 else 0
        if mark == "---" and row and not _YAML.match(row):
            return 0
    return 0


def closes(row: str, mark: str) -> bool:
    """Whether the line closes a fence that was opened with `mark`."""
    body = row.lstrip(" \t>").rstrip()
    return len(body) >= len(mark) and not body.strip(mark[0])


def _fence(rows: list[str], first: int, opening: re.Match[str], found: Regions) -> int:
    mark = opening.group(1)
    quoted = rows[first].lstrip()[:1] == ">"
    last, closed = len(rows) - 1, False
    for at in range(first + 1, len(rows)):
        row = rows[at]
        if mark in row and closes(row, mark):
            last, closed = at, True
            break
        if quoted and row.lstrip()[:1] != ">":
            last = at - 1
            closed = True  # the quotation ends, and the fence with it
            break
    found.kinds[first : last + 1] = bytes([FENCED]) * (last + 1 - first)
    found.fences.append(Fence(first, last, mark, opening.group(2).strip(), closed))
    return last + 1


def _indented(rows: list[str], first: int, kinds: bytearray) -> int:
    at = last = first
    while at < len(rows):
        row = rows[at]
        if row and not row.isspace():
            if columns(row[: len(row) - len(row.lstrip())]) < 4:
                break
            last = at
        at += 1
    if last + 1 < len(rows) and rows[last + 1][:1] == "|" and rows[last].lstrip()[:1] == "|":
        return last + 1  # rows of a table that goes on below without the indent
    kinds[first : last + 1] = bytes([INDENTED]) * (last + 1 - first)
    return last + 1


def _html(rows: list[str], first: int, body: str, blank: bool) -> int:
    """The line after the HTML block that starts here, `first` itself if none does."""
    if m := _RAW_TAG.match(body):
        opened = m.group().lower()
        end = _RAW_END.get(opened) or (f"</{m.group(1).lower()}>" if m.group(1) else ">")
        for at in range(first, len(rows)):
            if end in rows[at].lower():
                return at + 1
        return len(rows)
    if _BLOCK_TAG.match(body) or (blank and _ONE_TAG.match(body)):
        at = first
        while at < len(rows) and rows[at].strip(" \t>"):
            at += 1
        return at
    return first


def _math(rows: list[str], first: int, body: str, kinds: bytearray) -> int:
    if body.count("$$") >= 2:
        kinds[first] = MATH
        return first + 1
    for at in range(first + 1, min(len(rows), first + 200)):
        if "$$" in rows[at]:
            kinds[first : at + 1] = bytes([MATH]) * (at + 1 - first)
            return at + 1
    return first + 1


__all__ = [
    "CONTAINER",
    "FENCE",
    "FENCED",
    "INDENTED",
    "PLAIN",
    "Fence",
    "Regions",
    "closes",
    "regions",
]

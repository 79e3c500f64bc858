"""Code fences without their end, found by what they swallow: another fence's opening, a heading, the whole rest.

A repair is taken when the fences of the text are in order with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from carrara.runtime.repair.markdown_text.lines import Fix, Lines
from carrara.runtime.repair.markdown_text.regions import Fence, Regions, regions

_HEADING = re.compile(r" {0,3}#{2,6}[ \t]+\S")
_TITLE = re.compile(r" {0,3}#{1,6}[ \t]+\S")
_OPENS = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*[\w+#.-]+[ \t]*$")
_TEXTS = frozenset({"md", "markdown", "mdx"})
_SHORT_OPEN = re.compile(r"([ \t>]*)(?:``|~~)([\w+#.-]+)[ \t]*$")
_TRIALS = 12
_GLUED_OPEN = re.compile(
    r"^(?P<text>(?![ \t>]*(?:[-*+]|\d+[.)])?[ \t]*[`~]).*\S)[ \t]*(?P<fence>`{3,}[\w+#.-]*)[ \t]*$"
)


def fence_fixes(lines: Lines, found: Regions) -> list[Fix]:
    """Repairs of fences, none when all are in order."""
    rows = lines.rows
    if not found.fences:
        return []
    trouble = [fence for fence in found.fences if not fence.closed or _swallowed(rows, fence)]
    if not trouble:
        return []
    before = _disorder(rows, found)
    for number, fix in enumerate(_candidates(lines, found, trouble)):
        if number >= _TRIALS:
            break
        changed = [*rows[: fix.first], *_as_rows(fix), *rows[fix.after :]]
        after = _disorder(changed, regions(changed, lines.text))
        if after < before or after == (0, 0):
            return [fix]
    return []


def _as_rows(fix: Fix) -> tuple[str, ...]:
    return fix.rows


def _disorder(rows: list[str], found: Regions) -> tuple[int, int]:
    """How many fences are not closed, and how many swallow the opening of another."""
    return sum(not f.closed for f in found.fences), sum(
        bool(_swallowed(rows, f)) for f in found.fences
    )


def _swallowed(rows: list[str], fence: Fence) -> int:
    """The line inside a fence at which another fence opens, 0 without one. Text that shows Markdown may hold some."""
    shown = _shows_markdown(fence)
    for at in range(fence.first + 1, fence.last):
        row = rows[at]
        if (
            shown
            and _HEADING.match(row)
            and not rows[at - 1].strip()
            and _level(row) in _levels(rows[: fence.first])
        ):
            shown = False
        if shown:
            continue
        if (
            fence.mark in row
            and (m := _OPENS.match(row))
            and m.group(1)[0] == fence.mark[0]
            and len(m.group(1)) >= len(fence.mark)
        ):
            return at
    return 0


def _shows_markdown(fence: Fence) -> bool:
    return fence.info.split(" ")[0].lower() in _TEXTS


def _level(row: str) -> int:
    return len(row.strip()) - len(row.strip().lstrip("#"))


def _levels(rows: list[str]) -> set[int]:
    """Levels of the headings in these lines."""
    return {_level(row) for row in rows if row[:1] == "#" and _TITLE.match(row)}


def _candidates(lines: Lines, found: Regions, trouble: list[Fence]) -> Iterator[Fix]:
    """Where the end may have been, the surest first."""
    rows = lines.rows
    for fence in trouble:
        if (
            fence.last > fence.first
            and rows[fence.first].strip() == rows[fence.first + 1].strip()
            and fence.info
        ):
            yield Fix(
                fence.first,
                fence.first + 1,
                (),
                "fence_repeated",
                "the fence opens twice",
                "certain",
            )
    for fence in found.fences:
        yield from _short_opening(rows, fence, found)
    for fence in found.fences:
        yield from _short_ends(rows, fence)
    for fence in trouble:
        yield from _other_ends(rows, fence)
    for fence in found.fences:
        yield from _glued_ends(rows, fence)
    for fence in trouble:
        yield from _before_headings(rows, fence)
    for fence in found.fences:
        if fence not in trouble:
            yield from _before_headings(rows, fence)
    last = found.fences[-1]
    if not last.closed:
        yield _at_the_end(lines, last)
    for fence in trouble:
        at = _swallowed(rows, fence)
        if at:
            yield from _before_opening(rows, fence, at)


def _short_opening(rows: list[str], fence: Fence, found: Regions) -> Iterator[Fix]:
    """What closes a fence opens one where the real opening has a mark too few."""
    if fence.info:
        return
    for at in range(fence.first - 1, max(-1, fence.first - 200), -1):
        if found.kinds[at]:
            return
        if m := _SHORT_OPEN.match(rows[at]):
            text = m.group(1) + fence.mark + m.group(2)
            yield Fix(
                at,
                at + 1,
                (text,),
                "fence_open_short",
                f"a fence opens with {fence.mark}",
                "likely",
            )
            return


def _short_ends(rows: list[str], fence: Fence) -> Iterator[Fix]:
    mark = fence.mark
    for at in range(fence.first + 1, fence.last + 1):
        body = rows[at].strip()
        if len(body) < len(mark) and len(body) >= 2 and not body.strip(mark[0]):
            text = rows[at].rstrip() + mark[0] * (len(mark) - len(body))
            reason = f"the fence was opened with {mark}"
            yield Fix(at, at + 1, (text,), "fence_close_short", reason)


def _other_ends(rows: list[str], fence: Fence) -> Iterator[Fix]:
    """The one line that would close a fence of the other sort."""
    other = "~" if fence.mark[0] == "`" else "`"
    ends = [
        at
        for at in range(fence.first + 1, fence.last + 1)
        if len(body := rows[at].strip()) >= 3 and not body.strip(other)
    ]
    if len(ends) == 1:
        text = rows[ends[0]].rstrip().rstrip(other) + fence.mark
        reason = f"the fence was opened with {fence.mark}"
        yield Fix(ends[0], ends[0] + 1, (text,), "fence_close_other", reason, "likely")


def _glued_ends(rows: list[str], fence: Fence) -> Iterator[Fix]:
    """Closing marks behind the last line of code, or text behind the closing marks."""
    mark = fence.mark
    for at in range(fence.first + 1, fence.last + 1):
        row = rows[at]
        if mark not in row:
            continue
        body = row.rstrip()
        indent = _indent(rows[fence.first])
        if body.endswith(mark) and body.strip() != mark and body.count(mark) == 1:
            text = body[: -len(mark)].rstrip()
            yield Fix(
                at,
                at + 1,
                (text, indent + mark),
                "fence_close_glued",
                "the newline before the fence's end is lost",
            )
        elif body.lstrip().startswith(mark + " ") and body.count(mark) == 1:
            rest = body.lstrip()[len(mark) :].strip()
            yield Fix(
                at,
                at + 1,
                (indent + mark, "", rest),
                "fence_close_glued",
                "the newline behind the fence's end is lost",
                "likely",
            )


def _before_headings(rows: list[str], fence: Fence) -> Iterator[Fix]:
    known = _levels(rows[: fence.first]) if _shows_markdown(fence) else None
    for at in range(fence.first + 2, fence.last + 1):
        if not _HEADING.match(rows[at]) or rows[at - 1].strip():
            continue
        if known is not None and _level(rows[at]) not in known:
            continue
        if at + 1 < len(rows) and rows[at + 1].strip() and not _TITLE.match(rows[at]):
            continue
        place = at - 1
        while place > fence.first + 1 and not rows[place - 1].strip():
            place -= 1
        text = _indent(rows[fence.first]) + fence.mark
        yield Fix(
            place,
            place,
            (text,),
            "fence_unclosed",
            "a heading follows: the code ended before it",
            "likely",
        )


def _before_opening(rows: list[str], fence: Fence, at: int) -> Iterator[Fix]:
    """Another fence opens: the code ended at the last blank line before the paragraph above it, or right above."""
    place = at
    while place > fence.first + 1 and rows[place - 1].strip():
        place -= 1
    while place > fence.first + 1 and not rows[place - 1].strip():
        place -= 1
    if place <= fence.first + 1:
        place = at
    text = _indent(rows[fence.first]) + fence.mark
    yield Fix(
        place,
        place,
        (text,),
        "fence_unclosed",
        "another fence opens: the code ended before it",
        "likely",
    )


def _at_the_end(lines: Lines, fence: Fence) -> Fix:
    rows = lines.rows
    place = len(rows)
    while place > fence.first + 1 and not rows[place - 1].strip():
        place -= 1
    text = _indent(rows[fence.first]) + fence.mark
    if place == len(rows):
        return Fix(
            place - 1,
            place,
            (rows[place - 1], text),
            "fence_unclosed",
            "the text ends inside of the code",
        )
    return Fix(place, place, (text,), "fence_unclosed", "the text ends inside of the code")


def _indent(row: str) -> str:
    """What stands before a fence's marks on the lines inside of it."""
    body = row.lstrip(" \t>")
    lead = row[: len(row) - len(body)]
    if body[:1] not in "`~":
        rest = body.lstrip("-*+0123456789.) \t")
        lead += " " * (len(body) - len(rest))
    return lead


def glued_opening_fixes(lines: Lines, found: Regions) -> list[Fix]:
    """A fence that opens behind the text of a line, where a fence's end stands further down alone."""
    if "```" not in lines.text:
        return []
    fixes = []
    rows = lines.rows
    for fence in found.fences:
        if fence.info:
            continue
        for at in range(max(0, fence.first - 200), fence.first):
            if found.kinds[at]:
                continue
            m = _GLUED_OPEN.match(rows[at]) if "```" in rows[at] else None
            if m is None or m.group("text").count("`") % 2:
                continue
            if fence.closed and not m.group("fence").strip("`"):
                continue
            reason = "the newline before the fence is lost"
            fixes.append(
                Fix(
                    at,
                    at + 1,
                    (m.group("text"), "", m.group("fence")),
                    "fence_glued",
                    reason,
                    "likely",
                )
            )
            return fixes
    return fixes


__all__ = ["fence_fixes", "glued_opening_fixes"]

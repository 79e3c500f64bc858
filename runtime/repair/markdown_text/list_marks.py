"""Markers written wrongly: other signs for bullets, a blank lost or a marker doubled, items on one line.

A line is taken for an item only where items beside it say so.
"""

from __future__ import annotations

import re
from collections import Counter

from carrara.runtime.repair.markdown_text.lines import Fix
from carrara.runtime.repair.markdown_text.list_glued import glued_fix, written
from carrara.runtime.repair.markdown_text.list_items import (
    GLYPHS,
    Row,
    marker_of,
    rows_from,
)
from carrara.runtime.repair.markdown_text.regions import PLAIN
from carrara.runtime.repair.report import Certainty

_GLYPH = re.compile(rf"([{GLYPHS}])[ \t]*(?=\S)")
_DASH = re.compile(r"([–—·])[ \t]+(?=\S)")
_TIGHT_BULLET = re.compile(r"([-*+])(?=\[[ xX]?\]|[^\W\d_]|[`\[(\"“'])|([-+])(?=\*\*|__|!\[)")
_SPACED_NUMBER = re.compile(r"(\d{1,3})[ \t]+([.)])[ \t]+(?=\S)")
_TIGHT_NUMBER = re.compile(r"(\d{1,4})([.)])(?=[^\s\d.,)])")
_WIDE_NUMBER = re.compile(r"([0-9０-９]{1,3})([．、）])[ \t]*(?=\S)|([０-９]{1,3})[.)][ \t]*(?=\S)")
_ANY_NUMBER = re.compile(r"([0-9０-９]{1,4})[ \t]?([.)．、）])")
_NEAR = 40  # lines in which the item before or behind is looked for
_OPTION = re.compile(r"-\w(?:[ ,=]|$)")
_BARE = re.compile(r"(?:[-*+]|\d{1,9}[.)])$")
_TWICE = re.compile(r"((?:[-*+]|\d{1,9}[.)]))[ \t]+\1[ \t]+(?=\S)")
_TIGHT_ANY = re.compile(r"[-*+](?=[^\W_])")
_BULLETS = f"-*+–—·{GLYPHS}"
_TWICE_MIXED = re.compile(r"[-*+][ \t]+([-*+])[ \t]+(?=[^\s\-+*])")
_TWICE_TIGHT = re.compile(r"([-+*]|\d{1,9}[.)])\1[ \t]+(?=[^\s\-+*])")
_BOX = re.compile(r"\[[ xX]\](?=[ \t])")
_TASK = re.compile(
    r"(?P<sign>\[[_✓✔☑✗☐]\])[ \t]*"
    r"|(?P<tight>\[[ xX]\])(?=[^\s(\[:]|\[[^\]]*\]\()|(?P<empty>\[\])[ \t]*(?=[^\s(\[:]|\[[^\]]*\]\()"
    r"|(?P<spaced>\[(?: [xX] ?|[xX] | {2,})\])[ \t]*"
    r"|(?P<open>\[([ xX]))[ \t]+(?=[^\s\]])|(?P<closed>([xX ]?)\])[ \t]+|(?P<round>\([ xX]?\))[ \t]+"
)
_NO_MARK = re.compile(r"\[([ xX]?)\][ \t]+(?=\S)")


def mark_fixes(block: list[Row], kind: str) -> list[Fix]:
    """Repairs of the markers in one block, all of them independent of each other."""
    fixes = []
    facts = _Facts(block)
    for at, row in enumerate(block):
        if row.kind != PLAIN or not row.body:
            continue
        fix = _fix(block, at, facts, kind)
        if fix is not None:
            fixes.append(fix)
    return fixes


class _Facts:
    """What the well-written items of a block say: markers by column, whether there are task items."""

    def __init__(self, block: list[Row]) -> None:
        self.bullets: dict[int, Counter[str]] = {}
        self.ordered: dict[int, Counter[str]] = {}
        self.boxes = 0
        self.glyphs = 0
        self.dashes = 0
        self._lines: Counter[int] = Counter()
        self._like: Counter[int] = Counter()
        for row in block:
            if row.kind != PLAIN or not row.body:
                continue
            self._lines[row.column] += 1
            self._like[row.column] += row.body[0] in _BULLETS
            self.glyphs += row.body[0] in GLYPHS
            self.dashes += row.body[0] in "–—·"
            found = marker_of(row.body)
            if found is None:
                continue
            self.boxes += _BOX.match(row.body[found.end() :].lstrip()) is not None
            if found.group(1):
                self.bullets.setdefault(row.column, Counter())[found.group(1)] += 1
            else:
                self.ordered.setdefault(row.column, Counter())[found.group(3)] += 1

    def only_bullets(self, column: int) -> bool:
        """Whether all lines at a column begin with a bullet of some kind, and one at least is written well."""
        return self._lines[column] == self._like[column] > 1 and (
            column in self.bullets or self.glyphs > 0
        )

    def bullet(self, column: int) -> str:
        """The bullet in use at a column, or near it, or anywhere; "-" without one."""
        for at in (column, *sorted(self.bullets, key=lambda c: abs(c - column))):
            if at in self.bullets:
                return self.bullets[at].most_common(1)[0][0]
        return "-"


def _fix(block: list[Row], at: int, facts: _Facts, kind: str) -> Fix | None:
    row = block[at]
    body = row.body
    found = marker_of(body)
    if found is None:
        return _no_marker(block, at, facts, kind)
    if _BARE.match(body):
        return _split(block, at, kind)
    if _is_fragment(block, at, found):
        reason = "the item begins anew on the next line"
        return Fix(row.line, row.line + 1, (), "item_fragment_dup", reason, "likely")
    if (again := _restart(body, found)) > 0:
        reason = "the item begins anew on its line"
        return _line(row, body[again:], "item_fragment_dup", reason, "likely")
    if (m := _TWICE.match(body)) and _is_doubled(block, at, m):
        rest = body[m.end() :]
        return _line(row, f"{m.group(1)} {rest}", "dup_marker", "the marker stands twice", "likely")
    if (m := _TWICE_MIXED.match(body)) and body[0] != m.group(1) and _is_doubled(block, at, m):
        marks = facts.bullets.get(row.column, Counter())
        if marks[m.group(1)] > marks[body[0]]:
            rest = body[m.start(1) :]
            return _line(row, rest, "dup_marker", "the marker stands twice", "likely")
    start = len(body) - len(body[found.end() :].lstrip())
    if facts.boxes or body[start : start + 1] in "[x(":
        fix = _task(row, start, facts)
        if fix is not None:
            return fix
    return glued_fix(block, at, found, facts.boxes > 0)


def _line(row: Row, body: str, rule: str, reason: str, certainty: Certainty = "certain") -> Fix:
    return Fix(row.line, row.line + 1, (written(row, body),), rule, reason, certainty)


def _no_marker(block: list[Row], at: int, facts: _Facts, kind: str) -> Fix | None:
    """A line that begins with something that was meant for a marker."""
    row, body = block[at], block[at].body
    column = row.column
    if "|" in body and _is_row(block, at):
        return None
    if (m := _GLYPH.match(body)) and (kind == "list" or facts.glyphs > 1 or facts.bullets):
        mark = facts.bullet(column)
        return _line(row, f"{mark} {body[m.end() :]}", "bullet_glyph", "a bullet of Markdown")
    if (m := _DASH.match(body)) and (
        facts.dashes > 2 or column in facts.bullets or (kind == "list" and facts.dashes > 1)
    ):
        return _line(
            row,
            f"{facts.bullet(column)} {body[m.end() :]}",
            "bullet_glyph",
            "a bullet of Markdown",
            "likely",
        )
    if body[0] in ".)" and body[1:2] == " " and (fix := _lost_number(block, at)):
        return fix
    if m := _WIDE_NUMBER.match(body):
        digits = (m.group(1) or m.group(3)).translate(_DIGITS)
        if column in facts.ordered or kind == "list" or _numbers_beside(block, at, int(digits)):
            return _line(
                row, f"{digits}. {body[m.end() :]}", "number_glyph", "digits and stops of Markdown"
            )
    if (m := _TIGHT_NUMBER.match(body)) and _beside(block, at, ordered=True):
        marks = facts.ordered.get(column)
        if (marks and m.group(2) in marks) or _numbers_beside(block, at, int(m.group(1))):
            return _line(
                row,
                f"{m.group()} {body[m.end() :]}",
                "missing_space",
                "a blank belongs behind the marker",
            )
    if (
        (m := _TIGHT_BULLET.match(body))
        and _beside(block, at, ordered=False)
        and _is_bullet(body, m.group())
    ):
        marks = facts.bullets.get(column)
        boxed = body[1:2] == "[" and facts.boxes > 0
        if (marks and m.group() in marks) or boxed:
            return _line(
                row, f"{m.group()} {body[1:]}", "missing_space", "a blank belongs behind the marker"
            )
    if kind == "list" and (m := _TIGHT_ANY.match(body)):
        number = body[1].isdigit()
        if (number and _has_child(block, at)) or (
            facts.only_bullets(column) and (number or _is_bullet(body, m.group()))
        ):
            text = f"{body[0]} {body[1:]}"
            reason = "a blank belongs behind the marker"
            return _line(row, text, "missing_space", reason, "likely")
    if (m := _TWICE_TIGHT.match(body)) and _beside(block, at, ordered=body[0].isdigit()):
        text = f"{m.group(1)} {body[m.end() :]}"
        return _line(row, text, "dup_marker", "the marker stands twice", "likely")
    if (m := _SPACED_NUMBER.match(body)) and _numbers_beside(block, at, int(m.group(1))):
        text = f"{m.group(1)}{m.group(2)} {body[m.end() :]}"
        return _line(row, text, "number_glyph", "no blank within the marker", "likely")
    if (m := _NO_MARK.match(body)) and facts.boxes and column in facts.bullets:
        box = m.group(1) or " "
        text = f"{facts.bullet(column)} [{box}] {body[m.end() :]}"
        return _line(row, text, "task_malformed", "a task item begins with its marker", "likely")
    return None


def _is_row(block: list[Row], at: int) -> bool:
    """Whether the line stands beside another with pipes: rows of a table, whose first cell may be a dash."""
    beside = block[max(0, at - 1) : at] + block[at + 1 : at + 2]
    return any("|" in row.body for row in beside)


_DIGITS = str.maketrans("０１２３４５６７８９", "0123456789")


def _is_bullet(body: str, mark: str) -> bool:
    """Not emphasis, not an option of a command."""
    rest = body[1:]
    if mark == "*":
        return rest.count("*") % 2 == 0
    return not (mark == "-" and (rest[:1] == "-" or _OPTION.match(body)))


def _beside(block: list[Row], at: int, ordered: bool) -> bool:
    """Whether the item before or behind this line, at its column, is of the kind."""
    column = block[at].column
    for step in (-1, 1):
        near = at + step
        for _ in range(30):
            if not 0 <= near < len(block):
                break
            row = block[near]
            if row.body and row.kind == PLAIN and row.column <= column:
                found = marker_of(row.body)
                if found is not None and row.column == column:
                    if bool(found.group(2)) == ordered:
                        return True
                    break
                if row.column < column:
                    break
            near += step
    return False


def _numbers_beside(block: list[Row], at: int, number: int) -> bool:
    """Whether the next or the previous number stands before or behind this line, at its column."""
    return any(abs(near - number) == 1 for near, _ in _near_numbers(block, at) if near >= 0)


def _near_numbers(block: list[Row], at: int) -> list[tuple[int, str]]:
    """The number and its delimiter at the column of this line in the item before and in the one behind; -1 where
    there is none."""
    found = []
    for step in (-1, 1):
        near, seen = at + step, (-1, "")
        for _ in range(_NEAR):
            if not 0 <= near < len(block):
                break
            row = block[near]
            if row.body and row.column <= block[at].column:
                if row.column == block[at].column and (m := _ANY_NUMBER.match(row.body)):
                    seen = int(m.group(1).translate(_DIGITS)), m.group(2)
                break
            near += step
        found.append(seen)
    return found


def _lost_number(block: list[Row], at: int) -> Fix | None:
    """A delimiter without its number, between the items that say which one."""
    row = block[at]
    (before, mark), (after, _) = _near_numbers(block, at)
    if before < 0 or row.body[0] != mark or after not in (-1, before + 2):
        return None
    reason = "a number is missing among those beside it"
    return _line(row, f"{before + 1}{row.body}", "number_lost", reason, "likely")


def _split(block: list[Row], at: int, kind: str) -> Fix | None:
    """A marker alone on its line, its text on the next one."""
    row = block[at]
    if at + 1 >= len(block) or not block[at + 1].body or block[at + 1].kind != PLAIN:
        return None
    following = block[at + 1]
    if following.column >= row.column + len(row.body) + 1 or marker_of(following.body):
        return None
    if not (kind == "list" or _beside(block, at, row.body[0].isdigit()) or row.body[0].isdigit()):
        return None
    if following.body[0] in "#>|" or following.body[:3] in ("```", "~~~"):
        return None
    text = f"{row.body} {following.body}"
    reason = "the newline between marker and text"
    return Fix(row.line, following.line + 1, (written(row, text),), "marker_split_newline", reason)


def _is_fragment(block: list[Row], at: int, found: re.Match[str]) -> bool:
    """Whether an item is the beginning of the next one, cut within a word: a decoder began it anew."""
    if at + 1 >= len(block):
        return False
    row, following = block[at], block[at + 1]
    if following.column != row.column or following.kind != PLAIN:
        return False
    other = marker_of(following.body)
    if other is None:
        return False
    mine, whole = row.body[found.end() :].strip(), following.body[other.end() :].strip()
    if len(mine) < 6 or len(mine) >= len(whole) or not whole.startswith(mine):
        return False
    same = found.group(2) is not None and found.group(2) == other.group(2)
    cut = mine[-1].isalnum() and whole[len(mine)].isalnum() and " " in mine
    return same or (cut and mine[-1].isascii())


def _restart(body: str, found: re.Match[str]) -> int:
    """Where an item begins again on its own line, cut within a word before; 0 where it does not."""
    mark = f"{found.group()} "
    at = body.find(mark, found.end() + 4)
    if at < 0:
        return 0
    fragment, whole = body[found.end() : at].strip(), body[at + len(mark) :].strip()
    cut = len(fragment) > 3 and whole.startswith(fragment) and len(whole) > len(fragment)
    return at if cut and body[at - 1].isalnum() and whole[len(fragment)].isalnum() else 0


def _has_child(block: list[Row], at: int) -> bool:
    """Whether an item stands below, further in."""
    following = block[at + 1] if at + 1 < len(block) else None
    return (
        following is not None
        and following.column > block[at].column
        and marker_of(following.body) is not None
    )


def _is_doubled(block: list[Row], at: int, found: re.Match[str]) -> bool:
    """Whether a marker stands twice by accident: no list goes on at the inner one."""
    row = block[at]
    inner = row.column + found.end(1) + 1
    for later in rows_from(block, at + 1):
        if not later.body:
            continue
        return not (later.column >= inner and marker_of(later.body) is not None)
    return found.group(1)[0].isdigit() or at > 0


def _task(row: Row, start: int, facts: _Facts) -> Fix | None:
    body = row.body
    m = _TASK.match(body, start)
    if m is None or facts.boxes == 0:
        return None
    rest = body[m.end() :]
    if m.group("sign"):
        box = "x" if m.group("sign")[1] in "✓✔☑" else " "
    elif m.group("open"):
        closing, opening = rest.find("]"), rest.find("[")
        if closing >= 0 and (opening < 0 or closing < opening):
            return None
        box = m.group("open")[1]
    elif m.group("closed"):
        box = m.group("closed")[0] if len(m.group("closed")) > 1 else " "
    elif m.group("round"):
        box = "x" if "x" in m.group("round").lower() else " "
    else:
        box = "x" if "x" in m.group().lower() else " "
    text = f"{body[:start]}[{box}] {rest}"
    return _line(
        row, text, "task_malformed", "a task item begins with [ ] or [x] and a blank", "likely"
    )


__all__ = ["mark_fixes"]

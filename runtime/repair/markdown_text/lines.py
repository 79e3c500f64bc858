"""A text as Markdown's lines, and repairs of lines as edits of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from carrara.runtime.repair.report import Certainty, Edit

_NEWLINE = re.compile(r"\r\n|\r|\n")


@dataclass(slots=True)
class Lines:
    """`rows` are the lines without their ends, `starts` the offset of each."""

    text: str
    rows: list[str]
    starts: list[int] = field(default_factory=list)
    newline: str = "\n"

    @classmethod
    def of(cls, text: str) -> Lines:
        if "\r" not in text:
            return cls(text, text.split("\n"))
        rows, starts, at = [], [], 0
        for match in _NEWLINE.finditer(text):
            rows.append(text[at : match.start()])
            starts.append(at)
            at = match.end()
        newline = "\r\n" if "\r\n" in text else "\r"
        return cls(text, [*rows, text[at:]], [*starts, at], newline)

    def start(self, row: int) -> int:
        """The offset of a line; that of the end of the text for the line after the last."""
        if not self.starts:
            at = 0
            for line in self.rows:
                self.starts.append(at)
                at += len(line) + 1
        return self.starts[row] if row < len(self.starts) else len(self.text)

    def end(self, row: int) -> int:
        return self.start(row) + len(self.rows[row])


@dataclass(frozen=True, slots=True)
class Fix:
    """Lines `first` up to `after` (not included) become `rows`. Without `rows` the lines go with their ends;
    with `first == after` the rows come in before that line."""

    first: int
    after: int
    rows: tuple[str, ...]
    rule: str
    reason: str
    certainty: Certainty = "certain"


def edits_of(lines: Lines, fixes: list[Fix]) -> list[Edit]:
    """The fixes as the smallest edits, in order. Of fixes that overlap the first one is kept."""
    edits: list[Edit] = []
    last = 0
    for fix in sorted(fixes, key=lambda f: (f.first, f.after)):
        if fix.first < last:
            continue
        last = fix.after
        edit = _edit(lines, fix)
        if edit is not None and (not edits or edits[-1].end <= edit.start):
            edits.append(edit)
    return edits


def _edit(lines: Lines, fix: Fix) -> Edit | None:
    text, newline = lines.text, lines.newline
    if fix.first == fix.after:
        return _inserted(lines, fix)
    if not fix.rows:
        start, end = lines.start(fix.first), lines.start(fix.after)
        if fix.after >= len(lines.rows) and fix.first > 0:
            start = lines.end(fix.first - 1)
        return Edit(start, end, text[start:end], "", fix.rule, fix.reason, 1, fix.certainty)
    start, end = lines.start(fix.first), lines.end(fix.after - 1)
    return _smallest(start, text[start:end], newline.join(fix.rows), fix)


def _inserted(lines: Lines, fix: Fix) -> Edit | None:
    at = lines.start(fix.first)
    new = lines.newline.join(fix.rows)
    if fix.first < len(lines.rows):
        new += lines.newline
    else:
        new = lines.newline + new
    return Edit(at, at, "", new, fix.rule, fix.reason, 1, fix.certainty)


def _smallest(start: int, before: str, after: str, fix: Fix) -> Edit | None:
    """One edit without the beginning and the end that both texts share."""
    if before == after:
        return None
    most = min(len(before), len(after))
    head = 0
    while head < most and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < most - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    at = start + head
    return Edit(at, at + len(old), old, new, fix.rule, fix.reason, 1, fix.certainty)


def columns(blank: str) -> int:
    """The width of leading white space, tabs to the next multiple of four."""
    if "\t" not in blank:
        return len(blank)
    width = 0
    for c in blank:
        width += 4 - width % 4 if c == "\t" else 1
    return width


__all__ = ["Fix", "Lines", "columns", "edits_of"]

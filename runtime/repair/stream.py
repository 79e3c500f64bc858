"""Repair of a text that arrives in pieces: what can no longer change is given out as soon as that is sure.

Markdown is cut between paragraphs of prose, where neither a table, a list, a heading nor a fence goes on. JSON has no
such place: it comes out at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from carrara.runtime.repair.form import kind_of, repair
from carrara.runtime.repair.markdown_text.lines import Lines
from carrara.runtime.repair.markdown_text.regions import PLAIN, regions
from carrara.runtime.repair.policy import DEFAULT, RepairPolicy
from carrara.runtime.repair.report import RepairReport

_PROSE = re.compile(r"[^\W\d_]")
_GROWTH = 16  # a text that grows by less than this part is not looked at again
_KNOWN_FROM = 16  # characters after which "auto" is decided


@dataclass(slots=True)
class RepairStream:
    """`feed` pieces as they come, then `close`. All that they return, joined, is the repaired text; each part between
    two cuts is repaired for itself. Feed a diffusion canvas by whole blocks: it is not written from left to right."""

    kind: str = "auto"
    policy: RepairPolicy = DEFAULT
    reports: list[RepairReport] = field(default_factory=list)
    _held: str = ""
    _look_from: int = 0  # a look at all that is held pays only when it has grown

    def feed(self, piece: str) -> str:
        """The repaired text that became sure with this piece, often ""."""
        self._held += piece
        if self.kind == "auto" and len(self._held.lstrip()) >= _KNOWN_FROM:
            self.kind = kind_of(self._held)
        held = self._held
        if self.kind in ("auto", "json") or len(held) < self._look_from or "\n\n" not in held:
            return ""
        end = _sure_end(held)
        self._look_from = 0 if end else len(held) + len(held) // _GROWTH
        return self._out(end) if end else ""

    def close(self) -> str:
        """The rest. The stream can be used again."""
        return self._out(len(self._held)) if self._held else ""

    def _out(self, end: int) -> str:
        part, self._held, self._look_from = self._held[:end], self._held[end:], 0
        report = repair(part, self.kind, policy=self.policy)
        self.reports.append(report)
        return report.text


def _sure_end(text: str) -> int:
    """The start of the last paragraph of prose that follows one of prose, 0 without any."""
    lines = Lines.of(text)
    found = regions(lines.rows, text)
    if found.fences and not found.fences[-1].closed:
        return 0
    for at in range(len(lines.rows) - 2, 1, -1):
        if not _is_prose(lines, found.kinds, at) or lines.rows[at - 1].strip():
            continue
        above = at - 1
        while above > 0 and not lines.rows[above].strip():
            above -= 1
        if (
            _is_prose(lines, found.kinds, above)
            and "|" not in lines.rows[above]
            and not _in_list(lines, above)
        ):
            return lines.start(at)
    return 0


def _is_prose(lines: Lines, kinds: bytearray, at: int) -> bool:
    return kinds[at] == PLAIN and _PROSE.match(lines.rows[at]) is not None


def _in_list(lines: Lines, at: int) -> bool:
    """Whether a paragraph may belong to a list: a line without an indent below an item does."""
    while at > 0 and lines.rows[at].strip():
        if not _PROSE.match(lines.rows[at]):
            return True
        at -= 1
    return False


__all__ = ["RepairStream"]

"""A place in broken JSON: what was read, what may follow, and what the repairs so far cost.

States are values that share their past, so that a search can keep several readings of one text at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

CONTENT = "content"  # in a trail: not an edit, but a string whose content may need some
VALUE, KEY, COLON, NEXT, DONE, END = range(6)


class Frame(NamedTuple):
    """An open object or list. `opened` is the offset of its bracket, `member` that of the member being read (-1:
    none yet), `key` its key as written, `before` the offset of the member before. `shape` tells equal nestings
    apart from others without comparing them."""

    kind: str
    parent: Frame | None
    opened: int
    shape: int
    depth: int
    member: int = -1
    key: str = ""
    before: int = -1


class Trail(NamedTuple):
    """The edits made, newest first: `start` to `end` of the text became `after`."""

    start: int
    end: int
    after: str
    rule: str
    earlier: Trail | None


class State(NamedTuple):
    """`end` is where the last token ended, `comma` where the comma before this member stands (-1: none),
    `closed` the frame that was closed last and `closer` where."""

    cost: float
    at: int
    expect: int
    frame: Frame | None
    trail: Trail | None
    end: int
    comma: int = -1
    closed: Frame | None = None
    closer: int = -1


def opened(kind: str, parent: Frame | None, at: int) -> Frame:
    shape = hash((kind, parent.shape if parent else 0))
    return Frame(kind, parent, at, shape, parent.depth + 1 if parent else 1)


def edited(trail: Trail | None, start: int, end: int, after: str, rule: str) -> Trail:
    return Trail(start, end, after, rule, trail)


def edits_of(
    trail: Trail | None, inside: Callable[[int, int], list[tuple[int, int, str, str]]]
) -> list[tuple[int, int, str, str]]:
    """Edits in the order of the text: (start, end, after, rule). `inside` gives those within a string's content."""
    found: list[tuple[int, int, str, str]] = []
    while trail is not None:
        if trail.rule == CONTENT:
            found += reversed(inside(trail.start, trail.end))
        else:
            found.append((trail.start, trail.end, trail.after, trail.rule))
        trail = trail.earlier
    found.reverse()
    found.sort(key=lambda edit: (edit[0], edit[1]))
    return found


__all__ = [
    "COLON",
    "CONTENT",
    "DONE",
    "END",
    "KEY",
    "NEXT",
    "VALUE",
    "Frame",
    "State",
    "Trail",
    "edited",
    "edits_of",
    "opened",
]

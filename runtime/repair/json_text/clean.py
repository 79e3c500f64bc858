"""The quick way through sound JSON: one loop that reads tokens until something is wrong."""

from __future__ import annotations

import re

from carrara.runtime.repair.json_text.indents import is_outdented
from carrara.runtime.repair.json_text.lexemes import (
    AFTER_IN_ARRAY,
    AFTER_IN_OBJECT,
    AFTER_KEY,
    AFTER_ROOT,
    LITERAL,
    LONGEST,
    NUMBER,
    STRING,
)
from carrara.runtime.repair.json_text.states import (
    COLON,
    DONE,
    KEY,
    NEXT,
    VALUE,
    Frame,
    State,
    opened,
)
from carrara.runtime.repair.masks import MASK

DEEPEST = 900  # brackets inside of each other; Python's reader gives up soon after
_BLANK = re.compile(r"[ \t\r\n]++")


def read_on(text: str, state: State, masked: bool, indented: bool = False) -> State:
    """The furthest state that is reached from `state` without any repair or choice. With `masked`, left-over masks
    stop it too; with `indented`, a key that stands further left than the key before it."""
    reading = _Reading(text, state, indented)
    steps = (reading.value, reading.key, reading.colon, reading.next)  # as VALUE, KEY, COLON, NEXT
    size = len(text)
    while reading.expect < DONE:
        at = reading.at
        if at < size and text[at] in " \t\r\n" and (blank := _BLANK.match(text, at)):
            at = reading.at = blank.end()
        if at >= size:
            break
        c = text[at]
        if masked and c in '"[<' and _has_mask(text, at, c):
            break
        if not steps[reading.expect](c):
            break
    return reading.state(state)


class _Reading:
    """The fields of a state while it is read on. Each step reads the token that begins with `c` at `at`, and says
    whether it is sound there; where it is not, no token was taken."""

    __slots__ = ("at", "closed", "closer", "comma", "end", "expect", "frame", "indented", "text")

    def __init__(self, text: str, state: State, indented: bool) -> None:
        self.text, self.indented = text, indented
        _, self.at, self.expect, self.frame, _, self.end, self.comma, self.closed, self.closer = (
            state
        )

    def state(self, origin: State) -> State:
        return State(
            origin.cost, self.at, self.expect, self.frame, origin.trail, self.end, self.comma,
            self.closed, self.closer,
        )  # fmt: skip

    def value(self, c: str) -> bool:
        frame = self.frame
        if frame is not None and frame.kind == "[":
            if c == "]":
                return self.comma < 0 and self._close(frame)
            kind, parent, first, shape, depth, member, _, _ = frame
            self.frame = frame = Frame(kind, parent, first, shape, depth, self.at, "", member)
        if c in "{[":
            return self._open(c)
        end = self._string(frame) if c == '"' else self._plain()
        if end < 0:
            return False
        self.at = self.end = end
        self.expect = NEXT
        return True

    def next(self, c: str) -> bool:
        frame = self.frame
        if frame is None:
            self.expect = DONE
            return False
        if c == ",":
            self.comma = self.at
            self.at += 1
            self.expect = KEY if frame.kind == "{" else VALUE
            return True
        if c != ("}" if frame.kind == "{" else "]"):
            return False
        self.comma = -1
        return self._close(frame)

    def key(self, c: str) -> bool:
        frame, text, at = self.frame, self.text, self.at
        if frame is None:
            return False
        if c != '"':
            return c == "}" and self.comma < 0 and self._close(frame)
        found = STRING.match(text, at, at + LONGEST)
        if found is None or AFTER_KEY.match(text, found.end()) is None:
            return False
        if self.indented and self.comma >= 0 and is_outdented(text, frame, at):
            return False
        kind, parent, first, shape, depth, member, _, _ = frame
        self.frame = Frame(kind, parent, first, shape, depth, at, found.group(), member)
        self.at = self.end = found.end()
        self.expect = COLON
        return True

    def colon(self, c: str) -> bool:
        if c != ":":
            return False
        self.at = self.end = self.at + 1
        self.expect = VALUE
        return True

    def _open(self, c: str) -> bool:
        """Enter an object or a list; too deep a one is entered, and read no further."""
        self.frame = frame = opened(c, self.frame, self.at)
        self.at = self.end = self.at + 1
        self.comma = -1
        self.expect = KEY if c == "{" else VALUE
        return frame.depth <= DEEPEST

    def _close(self, frame: Frame) -> bool:
        self.closed, self.closer = frame, self.at
        self.at = self.end = self.at + 1
        self.frame, self.expect = frame.parent, NEXT
        return True

    def _string(self, frame: Frame | None) -> int:
        """Where the string at `at` ends, -1 if it is not sound or what follows it is not."""
        found = STRING.match(self.text, self.at, self.at + LONGEST)
        if found is None:
            return -1
        follow = (
            AFTER_ROOT
            if frame is None
            else AFTER_IN_OBJECT
            if frame.kind == "{"
            else AFTER_IN_ARRAY
        )
        return -1 if follow.match(self.text, found.end()) is None else found.end()

    def _plain(self) -> int:
        """Where the number or literal at `at` ends, -1 without one."""
        text, at = self.text, self.at
        found = NUMBER.match(text, at, at + LONGEST) or LITERAL.match(text, at)
        return -1 if found is None else found.end()


def _has_mask(text: str, at: int, c: str) -> bool:
    """Whether a mask stands at `at`, or in the string that opens there."""
    found = STRING.match(text, at, at + LONGEST) if c == '"' else None
    return (
        MASK.search(text, at, found.end()) is not None
        if found
        else MASK.match(text, at) is not None
    )


__all__ = ["DEEPEST", "read_on"]

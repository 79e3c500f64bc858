"""The quick way through sound JSON: one loop that reads tokens until something is wrong."""

from __future__ import annotations

import re

from carrara.runtime.repair.json_text.indents import is_outdented
from carrara.runtime.repair.json_text.lexemes import (
    AFTER_IN_ARRAY,
    AFTER_IN_OBJECT,
    AFTER_KEY,
    AFTER_ROOT,
    ELEMENT,
    LITERAL,
    LONGEST,
    MEMBER,
    NUMBER,
    STRING,
)
from carrara.runtime.repair.json_text.states import COLON, DONE, KEY, NEXT, VALUE, Frame, State
from carrara.runtime.repair.masks import MASK

DEEPEST = 900  # brackets inside of each other; Python's reader gives up soon after
_BLANK = re.compile(r"[ \t\r\n]++")


def read_on(text: str, state: State, masked: bool, indented: bool = False) -> State:
    """The furthest state that is reached from `state` without any repair or choice. With `masked`, left-over masks
    stop it too; with `indented`, a key that stands further left than the key before it.

    One loop with its state in local names. Where no mask can stand, whole members and elements are taken by one pattern
    (broken records then take 0.8 of the time); the way token by token takes the same.
    """
    _, at, expect, frame, trail, end, comma, closed, closer = state
    blank, string, number, literal = _BLANK.match, STRING.match, NUMBER.match, LITERAL.match
    after_key, in_object, in_array = AFTER_KEY.match, AFTER_IN_OBJECT.match, AFTER_IN_ARRAY.match
    whole, element = MEMBER.match, ELEMENT.match
    size = len(text)
    while True:
        if at < size and text[at] in " \t\r\n" and (space := blank(text, at)):
            at = space.end()
        if at >= size:
            break
        c = text[at]
        if masked and c in '"[<' and _has_mask(text, at, c):
            break
        if expect == VALUE:
            if frame is not None and frame.kind == "[":
                if c == "]":
                    if comma >= 0:
                        break
                    closed, closer, end = frame, at, at + 1
                    frame, at, expect = frame.parent, at + 1, NEXT
                    continue
                kind, parent, first, shape, depth, member, _, before = frame
                while not masked and (found := element(text, at, at + LONGEST)):
                    before, member = member, at
                    end, comma, at = found.end(1), found.start(2), found.end()
                c = text[at]
                frame = Frame(kind, parent, first, shape, depth, at, "", member)
            if c == '"':
                found = string(text, at, at + LONGEST)
                if found is None:
                    break
                follow = (
                    AFTER_ROOT.match
                    if frame is None
                    else in_object
                    if frame.kind == "{"
                    else in_array
                )
                if follow(text, found.end()) is None:
                    break
                at = found.end()
            elif c in "{[":
                shape = hash((c, frame.shape if frame else 0))
                frame = Frame(c, frame, at, shape, frame.depth + 1 if frame else 1)
                at, comma, expect = at + 1, -1, KEY if c == "{" else VALUE
                end = at
                if frame.depth > DEEPEST:
                    break
                continue
            else:
                found = number(text, at, at + LONGEST) or literal(text, at)
                if found is None:
                    break
                at = found.end()
            end, expect = at, NEXT
        elif expect == NEXT:
            if frame is None:
                expect = DONE
                break
            if c == ",":
                comma, at = at, at + 1
                expect = KEY if frame.kind == "{" else VALUE
            elif (c == "}" and frame.kind == "{") or (c == "]" and frame.kind == "["):
                closed, closer, end = frame, at, at + 1
                frame, at, comma = frame.parent, at + 1, -1
            else:
                break
        elif expect == KEY:
            if (
                c == '"'
                and not masked
                and frame is not None
                and (found := whole(text, at, at + LONGEST))
            ):
                kind, parent, first, shape, depth, member, key, before = frame
                while found:
                    if indented and comma >= 0 and is_outdented(text, member, at):
                        break
                    before, member, key = member, at, found.group(1)
                    end = found.end(2)
                    if found.start(3) < 0:
                        at, expect = end, NEXT
                        break
                    comma, at = found.start(3), found.end()
                    found = whole(text, at, at + LONGEST)
                frame = Frame(kind, parent, first, shape, depth, member, key, before)
                if expect == NEXT:
                    continue
            if c == '"':
                found = string(text, at, at + LONGEST)
                if found is None or after_key(text, found.end()) is None or frame is None:
                    break
                kind, parent, first, shape, depth, member, _, _ = frame
                if indented and comma >= 0 and is_outdented(text, frame.member, at):
                    break
                frame = Frame(kind, parent, first, shape, depth, at, found.group(), member)
                at = end = found.end()
                expect = COLON
                if at < size and text[at] == ":":
                    at = end = at + 1
                    expect = VALUE
            elif c == "}" and comma < 0 and frame is not None:
                closed, closer, end = frame, at, at + 1
                frame, at, expect = frame.parent, at + 1, NEXT
            else:
                break
        elif expect == COLON:
            if c != ":":
                break
            at = end = at + 1
            expect = VALUE
        else:
            break
    return State(state.cost, at, expect, frame, trail, end, comma, closed, closer)


def _has_mask(text: str, at: int, c: str) -> bool:
    """Whether a mask stands at `at`, or in the string that opens there."""
    found = STRING.match(text, at, at + LONGEST) if c == '"' else None
    return (
        MASK.search(text, at, found.end()) is not None
        if found
        else MASK.match(text, at) is not None
    )


__all__ = ["DEEPEST", "read_on"]

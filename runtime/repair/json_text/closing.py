"""Brackets: the wrong one, one too few, one too many, and what stands behind the last."""

from __future__ import annotations

import re

from carrara.runtime.repair.json_text import lexemes as lex
from carrara.runtime.repair.json_text.parts import Moves, drop, value_of
from carrara.runtime.repair.json_text.states import DONE, END, KEY, NEXT, VALUE, State, edited

_GOES_ON = re.compile(r"\s*+[,:\"'{\[]")


def close(text: str, s: State, c: str) -> Moves:
    frame, at = s.frame, s.at
    assert frame is not None
    mine = lex.CLOSER[frame.kind]
    if c == mine:
        trail = s.trail if text[at] == c else edited(s.trail, at, at + 1, c, "wide_punctuation")
        return [State(s.cost, at + 1, NEXT, frame.parent, trail, at + 1, -1, frame, at)]
    lost: Moves = []
    if c == "]" and frame.kind == "{" and frame.key:
        start = value_of(text, frame)
        if start < s.end:
            opening = edited(s.trail, start, start, "[", "bracket_lost")
            lost = [State(s.cost + 1.9, at + 1, NEXT, frame, opening, at + 1)]
    trail = edited(s.trail, at, at + 1, mine, "wrong_bracket")
    found = [State(s.cost + 2.0, at + 1, NEXT, frame.parent, trail, at + 1, -1, frame, at)]
    if frame.parent is not None:
        found.append(insert_close(s, before_comma=False))
    twice = at > 0 and text[at - 1] == c  # a bracket written twice
    found.append(drop(s, at, at + 1, "extra_close", 1.4 if twice else 2.3))
    return lost + found


def close_after_comma(text: str, s: State, c: str) -> Moves:
    """A closing bracket where a member should come: the comma before it goes."""
    if s.comma >= 0:
        start, end = s.comma, s.comma + (1 if text[s.comma] != " " else 0)
        trail = s.trail
        if (
            trail is not None
            and trail.start == s.comma
            and trail.rule in ("missing_comma", "comma_swapped")
        ):
            if trail.rule == "missing_comma":
                return [s._replace(expect=NEXT, comma=-1, trail=trail.earlier)]
            trail = trail.earlier
        s = s._replace(trail=edited(trail, start, end, "", "trailing_comma"), cost=s.cost + 0.4)
    return close(text, s._replace(expect=NEXT, comma=-1), c)


def to_next(s: State) -> State:
    """The end of the text behind a comma or an opening bracket."""
    trail = s.trail
    if s.comma >= 0:
        trail = edited(trail, s.comma, s.comma + 1, "", "trailing_comma")
    return s._replace(expect=NEXT, comma=-1, trail=trail, cost=s.cost + 0.3)


def insert_close(s: State, before_comma: bool) -> State:
    """Close the innermost frame where the last token ended; a comma just read then belongs to the parent."""
    frame = s.frame
    assert frame is not None
    place = s.end if not before_comma else min(s.end, s.comma)
    trail = edited(s.trail, place, place, lex.CLOSER[frame.kind], "close_lost")
    parent = frame.parent
    if before_comma:
        if parent is None:
            return s._replace(cost=s.cost + 99.0)
        expect = KEY if parent.kind == "{" else VALUE
        return State(s.cost + 1.6, s.at, expect, parent, trail, s.end, s.comma)
    return State(s.cost + 1.6, s.at, NEXT, parent, trail, s.end, -1, frame, -1)


def close_rest(text: str, s: State, cost: float = 0.0) -> State:
    """Close everything that is open."""
    closers = ""
    frame = s.frame
    while frame is not None:
        closers += lex.CLOSER[frame.kind]
        frame = frame.parent
    trail = edited(s.trail, s.end, s.end, closers, "unclosed_end")
    return State(s.cost + cost + 0.5 + 0.3 * min(len(closers), 10), s.at, DONE, None, trail, s.end)


def done_moves(text: str, s: State, c: str, masked: bool) -> Moves:
    at = s.at
    if not c:
        return [s._replace(expect=END)]
    if c in "}]":
        return [drop(s, at, at + 1, "extra_close", 0.6)._replace(end=at + 1)]
    if masked and (end := lex.mask_at(text, at)) > at:
        return [drop(s, at, end, "mask_left", 0.5)._replace(end=end)]
    found: Moves = []
    closed = s.closed
    if c in ",，" and closed is not None and s.closer >= 0:
        trail = edited(s.trail, s.closer, s.closer + 1, "", "extra_close")
        found.append(State(s.cost + 2.0, at, NEXT, closed, trail, s.end))
    rest = text[at:].rstrip()
    # What begins with a comma may just as well be the next element, of a list whose first bracket was lost.
    if len(rest) > 1 and c not in ",，" and text.endswith(rest, 0, s.end):
        trail = edited(s.trail, s.end, len(text), "", "end_repeated")
        found.append(State(s.cost + 1.0, len(text), END, None, trail, s.end))
    if _GOES_ON.match(text, at) or _is_torn_off(text, s):
        return found  # more of the value, or another one: it may not be dropped
    found.append(
        State(
            s.cost + 1.0,
            len(text),
            END,
            None,
            edited(s.trail, s.end, len(text), "", "text_around"),
            s.end,
        )
    )
    return found


def _is_torn_off(text: str, s: State) -> bool:
    """Whether the text behind a value that was never closed stands on its line: words of it, not around it."""
    left_open = s.trail is not None and s.trail.rule in ("unclosed_end", "value_quote_lost")
    fenced = text.startswith(("```", "~~~"), s.at)
    return left_open and not fenced and "\n" not in text[s.end : s.at]


__all__ = ["close", "close_after_comma", "close_rest", "done_moves", "insert_close", "to_next"]

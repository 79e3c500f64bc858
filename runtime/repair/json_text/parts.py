"""Moves that others are made of: a string with a doubtful end, a token taken, written otherwise or dropped."""

from __future__ import annotations

from carrara.runtime.repair.json_text import lexemes as lex
from carrara.runtime.repair.json_text.states import (
    COLON,
    CONTENT,
    NEXT,
    Frame,
    State,
    Trail,
    edited,
)
from carrara.runtime.repair.json_text.strings import endings

Moves = list[State]
_BEHIND_EMPTY = frozenset(' \t\r\n,:}]"') | {""}


def string_moves(text: str, s: State, key: bool) -> Moves:
    frame = s.frame
    kind = "k" if key else frame.kind if frame else ""
    found = []
    if text.startswith('"""', s.at) and (close := text.find('"""', s.at + 3)) > 0 and not key:
        opening = edited(s.trail, s.at, s.at + 3, '"', "single_quotes")
        trail = contents(opening, s.at + 3, close)
        return [on(s, close + 3, edited(trail, close, close + 3, '"', "single_quotes"), 0.1)]
    if (
        text[s.at] == '"' == text[s.at + 1 : s.at + 2]
        and text[s.at + 2 : s.at + 3] not in _BEHIND_EMPTY
    ):
        once = drop(s, s.at, s.at + 1, "quote_doubled", 0.6)
        found += string_moves(text, once, key)
    for end, after, cost in endings(text, s.at, kind):
        trail = s.trail
        if text[s.at] != '"':
            trail = edited(trail, s.at, s.at + 1, '"', style(text[s.at]))
        trail = contents(trail, s.at + 1, end)
        if after == end:
            trail = edited(trail, end, end, '"', "key_quote_lost" if key else "value_quote_lost")
        elif text[end] != '"':
            trail = edited(trail, end, after, '"', style(text[end]))
        if key and frame is not None:
            named = frame._replace(key=text[s.at : after])
            found.append(
                State(s.cost + cost, after, COLON, named, trail, after, s.comma, s.closed, s.closer)
            )
        else:
            found.append(on(s, after, trail, cost))
    return found


def style(quote: str) -> str:
    return "single_quotes" if quote in "'`" else "smart_quotes"


def contents(trail: Trail | None, start: int, end: int) -> Trail | None:
    """Note that a string's content from `start` to `end` is to be looked through if this reading is taken."""
    return edited(trail, start, end, "", CONTENT) if start < end else trail


def took(s: State, start: int, end: int) -> State:
    return on(s, end, s.trail, 0.0)


def rewrote(s: State, start: int, end: int, after: str, rule: str, cost: float) -> State:
    return on(s, end, edited(s.trail, start, end, after, rule), cost)


def on(s: State, end: int, trail: Trail | None, cost: float) -> State:
    return State(s.cost + cost, end, NEXT, s.frame, trail, end, s.comma, s.closed, s.closer)


def drop(s: State, start: int, end: int, rule: str, cost: float) -> State:
    return s._replace(at=end, trail=edited(s.trail, start, end, "", rule), cost=s.cost + cost)


def hole(s: State, start: int, end: int, rule: str, cost: float) -> State:
    after = "null" if start < end else " null"
    return on(s, end, edited(s.trail, start, end, after, rule), cost)


def value_of(text: str, frame: Frame) -> int:
    """Where the value of the current member starts."""
    at = frame.member + len(frame.key)
    m = lex.AFTER_KEY.match(text, at)
    return lex.past_space(text, m.end() if m else at)


__all__ = [
    "Moves",
    "contents",
    "drop",
    "hole",
    "on",
    "rewrote",
    "string_moves",
    "took",
    "value_of",
]

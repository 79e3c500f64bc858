"""Moves that others are made of: a string with a doubtful end, a token taken, written otherwise or dropped."""

from __future__ import annotations

from carrara.runtime.repair.json_text import lexemes as lex
from carrara.runtime.repair.json_text.states import COLON, NEXT, Frame, State, Trail, edited
from carrara.runtime.repair.json_text.strings import endings, inner_edits, mask_edits

Moves = list[State]


def string_moves(text: str, s: State, masked: bool, key: bool) -> Moves:
    frame = s.frame
    kind = "k" if key else frame.kind if frame else ""
    found = []
    if text.startswith('"""', s.at) and (close := text.find('"""', s.at + 3)) > 0 and not key:
        opening = edited(s.trail, s.at, s.at + 3, '"', "single_quotes")
        trail = contents(text, opening, s.at + 3, close, masked)
        return [on(s, close + 3, edited(trail, close, close + 3, '"', "single_quotes"), 0.1)]
    for end, after, cost in endings(text, s.at, kind):
        trail = s.trail
        if text[s.at] != '"':
            trail = edited(trail, s.at, s.at + 1, '"', style(text[s.at]))
        trail = contents(text, trail, s.at + 1, end, masked)
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


def contents(text: str, trail: Trail | None, start: int, end: int, masked: bool) -> Trail | None:
    edits = inner_edits(text, start, end)
    if masked:
        edits = sorted(edits + mask_edits(text, start, end))
    for edit in edits:
        trail = edited(trail, *edit)
    return trail


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
    return lex.SPACE.match(text, m.end() if m else at).end()  # type: ignore[union-attr]


def is_outdented(text: str, frame: Frame, at: int) -> bool:
    """Whether the line of `at` is indented less than the line of the member before: an object may have ended."""
    here, before = _indent(text, at), _indent(text, frame.member)
    return 0 <= here < before


def _indent(text: str, at: int) -> int:
    """The column of `at` if only blanks stand before it on its line, else -1."""
    if at < 0:
        return -1
    start = text.rfind("\n", max(0, at - 200), at) + 1
    return -1 if start == 0 or text[start:at].strip(" \t") else at - start


__all__ = [
    "Moves",
    "contents",
    "drop",
    "hole",
    "is_outdented",
    "on",
    "rewrote",
    "string_moves",
    "took",
    "value_of",
]

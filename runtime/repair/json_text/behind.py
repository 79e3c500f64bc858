"""Behind a key and behind a value: colons and commas lost or changed, and keys where a value was read."""

from __future__ import annotations

import re

from carrara.runtime.repair.json_text import lexemes as lex
from carrara.runtime.repair.json_text.closing import close, close_rest, insert_close
from carrara.runtime.repair.json_text.indents import is_outdented
from carrara.runtime.repair.json_text.parts import (
    Moves,
    contents,
    drop,
    hole,
    on,
    value_of,
)
from carrara.runtime.repair.json_text.restarts import restarted, value_again
from carrara.runtime.repair.json_text.states import (
    COLON,
    DONE,
    KEY,
    VALUE,
    Frame,
    State,
    Trail,
    edited,
    opened,
)
from carrara.runtime.repair.json_text.strings import endings

_VALUE_BEHIND = re.compile(
    r"\s*+(?:\"[^\"\\\n]*+(?:\\.[^\"\\\n]*+)*+\"|[-\w.+]++)\s*+(?:,\s*+\"[^\"\n]{0,120}+\"\s*+:|[}\n])|\s*+[{\[]"
)
_CLOSED = re.compile(r"\s*+[,}\]]")
_JOINED = re.compile(r'\s*\+\s*"')


def colon_moves(text: str, s: State, c: str, masked: bool) -> Moves:
    at, frame = s.at, s.frame
    if c == ":":
        trail = s.trail if text[at] == ":" else edited(s.trail, at, at + 1, ":", "wide_punctuation")
        return [State(s.cost, at + 1, VALUE, frame, trail, at + 1, s.comma)]
    if c == "=":
        end = at + (2 if text[at : at + 2] == "=>" else 1)
        trail = edited(s.trail, at, end, ":", "colon_swapped")
        return [State(s.cost + 1.0, end, VALUE, frame, trail, end, s.comma)]
    if masked and (end := lex.mask_at(text, at)) > at:
        return [drop(s, at, end, "mask_left", 0.8)]
    found: Moves = []
    if c == '"' and at == s.end and text[at - 1] == '"' and lex.AFTER_KEY.match(text, at + 1):
        found.append(drop(s, at, at + 1, "quote_doubled", 0.6)._replace(end=at + 1))
    if c and c in lex.VALUE_START:
        trail = _moved_out(text, s, ":") or edited(s.trail, s.end, s.end, ":", "missing_colon")
        found.append(State(s.cost + 1.5, at, VALUE, frame, trail, s.end, s.comma))
    if c == "," and frame is not None and _VALUE_BEHIND.match(text, at + 1):
        trail = edited(s.trail, at, at + 1, ":", "colon_swapped")
        cost = 1.2 if _is_key_elsewhere(text, frame) else 1.8
        found.append(State(s.cost + cost, at + 1, VALUE, frame, trail, at + 1, s.comma))
    if not c or c in ",}]":
        found.append(
            hole(
                s._replace(trail=edited(s.trail, s.end, s.end, ":", "missing_colon")),
                s.end,
                s.end,
                "value_missing",
                3.5,
            )
        )
    return found + restarted(text, s)


def next_moves(text: str, s: State, c: str, masked: bool) -> Moves:
    frame, at = s.frame, s.at
    if frame is None:
        return [s._replace(expect=DONE)]
    if not c:
        return [close_rest(text, s)]
    if c == ",":
        trail = s.trail if text[at] == "," else edited(s.trail, at, at + 1, ",", "comma_swapped")
        expect = KEY if frame.kind == "{" else VALUE
        return [State(s.cost, at + 1, expect, frame, trail, s.end, at, s.closed, s.closer)]
    if c in "}]":
        return close(text, s, c)
    if masked and (end := lex.mask_at(text, at)) > at:
        return [drop(s, at, end, "mask_left", 0.8)]
    found: Moves = value_again(text, s)
    if c == '"' and at == s.end and text[at - 1] == '"' and _CLOSED.match(text, at + 1):
        found.append(drop(s, at, at + 1, "quote_doubled", 0.6)._replace(end=at + 1))
    if c in ":=":
        found += _colon_in_list(text, s) if frame.kind == "[" else _colon_behind_value(text, s)
    elif c == "+" and text[s.end - 1] == '"' and (m := _JOINED.match(text, s.end)):
        trail = edited(s.trail, s.end - 1, m.end(), "", "joined_strings")
        found += _string_from(text, s._replace(trail=trail, cost=s.cost + 0.3), m.end() - 1)
    elif c in lex.VALUE_START or lex.BARE_KEY.match(text, at):
        found += _missing_comma(text, s, c)
    if frame.parent is not None:
        found.append(insert_close(s, before_comma=False))
    if frame.parent is None:
        found.append(close_rest(text, s, 3.0))
    return found + restarted(text, s)


def _missing_comma(text: str, s: State, c: str) -> Moves:
    frame = s.frame
    assert frame is not None
    wanted = (
        c in lex.QUOTES or lex.BARE_KEY.match(text, s.at)
        if frame.kind == "{"
        else c in lex.VALUE_START
    )
    if not wanted:
        return []
    trail = _moved_out(text, s, ",") or edited(s.trail, s.end, s.end, ",", "missing_comma")
    expect = KEY if frame.kind == "{" else VALUE
    found = [State(s.cost + 1.5, s.at, expect, frame, trail, s.end, s.end, s.closed, s.closer)]
    if frame.kind == "{" and frame.parent is not None and is_outdented(text, frame.member, s.at):
        found.append(insert_close(s, before_comma=False)._replace(cost=s.cost + 1.2))
    return found


def _moved_out(text: str, s: State, mark: str) -> Trail | None:
    """The trail with the comma or colon that is missing behind a string taken from inside its closing quote."""
    at = s.end - 2
    before = text[at - 1 : at]
    ends_a_word = before.isalnum() or before in ")]}.!?%" or (mark == ":" and before not in ' \\"')
    if text[at : s.end] != mark + '"' or not ends_a_word:
        return None
    return edited(s.trail, at, s.end, '"' + mark, "quote_swapped")


def _is_key_elsewhere(text: str, frame: Frame) -> bool:
    """Whether the key being read stands as one near by."""
    around = text[max(0, frame.member - lex.WINDOW) : frame.member + lex.WINDOW]
    return f"{frame.key}:" in around


def _colon_behind_value(text: str, s: State) -> Moves:
    """A key where a value was read: the key twice, or a bracket or a value lost before it."""
    frame = s.frame
    assert frame is not None
    found: Moves = []
    if frame.member < 0:
        return found
    start = value_of(text, frame)
    if start >= s.end or text[start] not in lex.QUOTES:
        return found
    fresh = frame._replace(member=start, key=text[start : s.end])
    trail = edited(s.trail, start, start, "{", "bracket_lost")
    inner = opened("{", frame, start)._replace(member=start, key=text[start : s.end])
    if _same_key(text[start : s.end], frame.key):
        found.append(State(s.cost + 1.2, s.at, COLON, inner, trail, s.end))
        trail = edited(s.trail, frame.member, start, "", "dup_key_token")
        return [*found, State(s.cost + 0.8, s.at, COLON, fresh, trail, s.end, s.comma)]
    found.append(State(s.cost + 2.6, s.at, COLON, inner, trail, s.end))
    trail = edited(s.trail, start, start, "null, ", "value_missing")
    found.append(State(s.cost + 4.0, s.at, COLON, fresh, trail, s.end, start))
    return found


def _same_key(one: str, other: str) -> bool:
    return one.strip("\"'“”‘’`") == other.strip("\"'“”‘’`")


def _colon_in_list(text: str, s: State) -> Moves:
    """A key in a list: the list ended before it, or an object began with it, or the object before went on."""
    frame = s.frame
    assert frame is not None
    start = frame.member
    if start < 0 or text[start] not in lex.QUOTES:
        return []
    key = text[start : s.end]
    found: Moves = []
    if s.comma >= 0 and frame.parent is not None and frame.parent.kind == "{":
        close = _token_end(text, s.comma)
        trail = edited(s.trail, close, close, "]", "array_close_lost")
        parent = frame.parent._replace(member=start, key=key, before=frame.parent.member)
        found.append(State(s.cost + 1.5, s.at, COLON, parent, trail, s.end, s.comma))
    sibling = s.closed if s.closed is not None and s.closed.kind == "{" else None
    begins = sibling is not None and text.startswith(key, lex.past_space(text, sibling.opened + 1))
    trail = edited(s.trail, start, start, "{", "bracket_lost")
    inner = opened("{", frame, start)._replace(member=start, key=key)
    found.append(State(s.cost + (1.2 if begins else 2.2), s.at, COLON, inner, trail, s.end))
    if (
        sibling is not None
        and s.comma > s.closer >= 0
        and not text[s.closer + 1 : s.comma].strip()
        and f"{key}:" not in text[max(sibling.opened, s.closer - lex.WINDOW) : s.closer]
        and f"{key} :" not in text[max(sibling.opened, s.closer - lex.WINDOW) : s.closer]
    ):
        trail = edited(s.trail, s.closer, s.closer + 1, "", "extra_close")
        old = sibling._replace(member=start, key=key, before=sibling.member)
        found.append(State(s.cost + 2.0, s.at, COLON, old, trail, s.end, s.comma))
    return found


def _string_from(text: str, s: State, at: int) -> Moves:
    kind = s.frame.kind if s.frame else ""
    return [
        on(s, e.after, contents(s.trail, at + 1, e.end), e.cost)
        for e in endings(text, at, kind)[:2]
        if e.after > e.end
    ]


def _token_end(text: str, at: int) -> int:
    while at > 0 and text[at - 1] in " \t\r\n":
        at -= 1
    return at


__all__ = ["colon_moves", "next_moves"]

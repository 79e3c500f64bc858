"""What may be done where sound reading stops: each move is a repair, with its cost, that leads to a new state.

Costs say how often a fault is met: a lost comma is likelier than a lost bracket, a bracket than a lost key.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from carrara.runtime.repair.json_text import lexemes as lex
from carrara.runtime.repair.json_text.behind import colon_moves, next_moves
from carrara.runtime.repair.json_text.closing import (
    close_after_comma,
    done_moves,
    insert_close,
    to_next,
)
from carrara.runtime.repair.json_text.indents import is_outdented
from carrara.runtime.repair.json_text.parts import (
    Moves,
    contents,
    drop,
    hole,
    on,
    rewrote,
    string_moves,
    took,
    value_of,
)
from carrara.runtime.repair.json_text.restarts import restarted
from carrara.runtime.repair.json_text.states import (
    COLON,
    DONE,
    KEY,
    NEXT,
    VALUE,
    State,
    Trail,
    edited,
    opened,
)

_MEMBER = re.compile(r'"[^"\n]{1,120}"\s*+:')
_SHORT = 80
_KEY_BEHIND = re.compile(r'\s*+"[^"\n]{1,120}"\s*+:')
_WHOLE = re.compile(r'\s*+(?:"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|[-\w.+]++)\s*+[,}\]]')
_DIGIT = re.compile(r"\d")


def moves(text: str, state: State, masked: bool) -> Moves:
    """All states that one repair, or one token with a doubtful reading, leads to."""
    at, dropped = lex.skip(text, state.at)
    trail, cost = state.trail, state.cost
    for start, end, rule in dropped:
        trail, cost = (
            edited(trail, start, end, " " if rule == "strange_space" else "", rule),
            cost + 0.05,
        )
    c = text[at : at + 1]
    if c in "`~" and state.expect != DONE and text.startswith(("```", "~~~"), at):
        c = ""  # a closing fence: for the value this is the end of the text
    here = state._replace(at=at, trail=trail, cost=cost)
    if c in lex.WIDE and c and state.expect != DONE:
        plain = lex.WIDE[c]
        wide = here._replace(cost=cost + 0.02)
        return _ON[state.expect](text, wide, plain, masked)
    return _ON[state.expect](text, here, c, masked)


def _value(text: str, s: State, c: str, masked: bool) -> Moves:
    frame = s.frame
    if not c:
        return _no_value(s)
    if masked and (end := lex.mask_at(text, s.at)) > s.at:
        lost = [hole(s, s.at, end, "mask_left", 1.0), *_masked_bracket(text, s, end)]
        if _WHOLE.match(text, end):
            lost.append(drop(s, s.at, end, "mask_left", 0.8))
        return lost
    if frame is not None and frame.kind == "[":
        if c in "]}":
            return close_after_comma(text, s, c)
        if c == ",":
            return [drop(s, s.at, s.at + 1, "dup_comma", 1.0)]
        frame = frame._replace(member=s.at, key="", before=frame.member)
        s = s._replace(frame=frame)
    if c in "{[":
        return [_open(text, s, c)]
    found: Moves = []
    if c in lex.QUOTES:
        found = string_moves(text, s, key=False)
    elif c in ",}]":
        return _no_value(s)
    elif c == ":":
        return [drop(s, s.at, s.at + 1, "dup_colon", 1.0)]
    else:
        found = _scalar(text, s, masked)
    if not found or found[0].cost > s.cost + 0.9:
        found += restarted(text, s)
    return found


def _masked_bracket(text: str, s: State, end: int) -> Moves:
    """A bracket in the place of the mask, where what follows can be the first member."""
    at = lex.past_space(text, end)
    if _MEMBER.match(text, at):
        bracket, expect = "{", KEY
    elif text[at : at + 1] and text[at] in lex.VALUE_START:
        bracket, expect = "[", VALUE
    else:
        return []
    trail = edited(s.trail, s.at, end, bracket, "mask_left")
    frame = opened(bracket, s.frame, s.at)
    return [State(s.cost + 0.9, end, expect, frame, trail, end)]


def _scalar(text: str, s: State, masked: bool) -> Moves:
    at = s.at
    for pattern in (lex.NUMBER, lex.LITERAL):
        if (m := pattern.match(text, at)) and m.end() > at:
            return [took(s, at, m.end())]
    if m := lex.OTHER_LITERAL.match(text, at):
        return [rewrote(s, at, m.end(), lex.SPELLED[m.group()], "python_literal", 0.05)]
    if m := lex.CUT_LITERAL.match(text, at):
        return [rewrote(s, at, m.end(), lex.SPELLED[m.group()], "literal_cut", 0.6)]
    if (m := lex.OTHER_NUMBER.match(text, at)) and _DIGIT.search(m.group()):
        plain = _plain_number(m.group())
        if plain is not None:
            return [rewrote(s, at, m.end(), plain, "number_spelling", 1.0)]
    found: Moves = []
    if m := lex.GLUED_NUMBER.match(text, at):
        found.append(on(s, m.end(), s.trail, 0.2))
    if m := lex.CUT_OPEN.match(text, at):
        end = m.end() - 1
        trail: Trail | None = edited(s.trail, at, at, '"', "value_quote_lost")
        trail = contents(trail, at, end)
        if text[end] != '"':
            trail = edited(trail, end, end + 1, '"', "smart_quotes")
        found.append(on(s, m.end(), trail, 2.0))
    if m := lex.BARE_VALUE.match(text, at):
        end = at + len(m.group().rstrip())
        trail = edited(s.trail, at, at, '"', "value_quotes_lost")
        trail = contents(trail, at, end)
        found.append(on(s, end, edited(trail, end, end, '"', "value_quotes_lost"), 3.0))
    return found


def _plain_number(written: str) -> str | None:
    """JSON's spelling of a number with a plus, a bare point or grouping; None where it is more of a code."""
    digits = written.replace("_", "").removeprefix("+")
    sign, digits = ("-", digits[1:]) if digits[:1] == "-" else ("", digits)
    if digits[:1] == ".":
        digits = "0" + digits
    digits = re.sub(r"\.(?=$|[eE])", "", digits)
    return sign + digits if lex.NUMBER.fullmatch(sign + digits) else None


def _no_value(s: State) -> Moves:
    """A key without a value, or the end of the text in a list."""
    if s.frame is None:
        return []
    if s.frame.kind == "{":
        return [hole(s, s.end, s.end, "value_missing", 2.5)]
    return [to_next(s)]


def _open(text: str, s: State, c: str) -> State:
    trail = s.trail if text[s.at] == c else edited(s.trail, s.at, s.at + 1, c, "wide_punctuation")
    expect = KEY if c == "{" else VALUE
    frame = opened(c, s.frame, s.at)
    return State(s.cost, s.at + 1, expect, frame, trail, s.at + 1)


def _key(text: str, s: State, c: str, masked: bool) -> Moves:
    frame, at = s.frame, s.at
    assert frame is not None
    if not c:
        return [to_next(s)]
    if c in "}]":
        return close_after_comma(text, s, c)
    if c == ",":
        return [drop(s, at, at + 1, "dup_comma", 1.0)]
    found: Moves = []
    if c in lex.QUOTES and not text[at + 1 :][:_SHORT].strip() and at + _SHORT >= len(text):
        return [drop(s, at, at + 1, "unclosed_end", 0.3)]  # the text ends with a key's first quote
    if c in lex.QUOTES:
        read = s._replace(frame=frame._replace(member=at, before=frame.member))
        if s.comma >= 0 and is_outdented(
            text, frame.member, at
        ):  # its object has ended, says the indentation
            found.append(insert_close(s._replace(cost=s.cost - 1.2), before_comma=True))
            read = read._replace(cost=s.cost + 1.5)
        found += string_moves(text, read, key=True)
        found += _lost_list(text, s)
    elif m := lex.BARE_KEY.match(text, at):
        found = [_bare_key(text, s, m.end())]
    elif masked and (end := lex.mask_at(text, at)) > at:
        found.append(drop(s, at, end, "mask_left", 0.8 if _KEY_BEHIND.match(text, end) else 1.5))
    elif c in "{[":
        if s.comma >= 0:
            found.append(insert_close(s, before_comma=True))
            if frame.key and text[value_of(text, frame) : value_of(text, frame) + 1] == c:
                found += _list_from(text, s)  # elements of one kind
        elif c == "{" and frame.member < 0:
            found.append(drop(s, at, at + 1, "dup_bracket", 2.0))
    if not found or found[0].cost > s.cost + 0.9:
        found += restarted(text, s)
    return found


def _bare_key(text: str, s: State, end: int) -> State:
    """A key without quotes, or with the closing one only."""
    at, frame = s.at, s.frame
    assert frame is not None
    end = at + len(text[at:end].rstrip())
    quoted = text[end : end + 1] in ('"', "'", "”", "’")
    rule = "key_quote_lost" if quoted else "unquoted_keys"
    trail = edited(s.trail, at, at, '"', rule)
    after = end + 1 if quoted else end
    if quoted and text[end] != '"':
        trail = edited(trail, end, after, '"', rule)
    elif not quoted:
        trail = edited(trail, end, end, '"', rule)
    frame = frame._replace(member=at, key=text[at:after], before=frame.member)
    return State(
        s.cost + (0.8 if quoted else 0.05),
        after,
        COLON,
        frame,
        trail,
        after,
        s.comma,
        s.closed,
        s.closer,
    )


def _lost_list(text: str, s: State) -> Moves:
    """Strings without colons after a member: its value began a list whose bracket is lost."""
    frame = s.frame
    if frame is None or frame.member < 0 or not frame.key or s.comma < 0:
        return []
    m = lex.STRING.match(text, s.at)
    if m is None or lex.AFTER_KEY.match(text, m.end()):
        return []
    return _list_from(text, s)


def _list_from(text: str, s: State) -> Moves:
    """The value of the member before is the first element of a list whose bracket is lost."""
    frame = s.frame
    if frame is None or not frame.key or frame.member < 0:
        return []
    start = value_of(text, frame)
    trail = edited(s.trail, start, start, "[", "bracket_lost")
    inner = opened("[", frame, start)._replace(member=start)
    return [State(s.cost + 2.6, s.at, VALUE, inner, trail, s.end, s.comma)]


_ON: dict[int, Callable[[str, State, str, bool], Moves]] = {
    VALUE: _value,
    KEY: _key,
    COLON: colon_moves,
    NEXT: next_moves,
    DONE: done_moves,
}

__all__ = ["moves"]

"""What may be done where sound reading stops: each move is a repair, with its cost, that leads to a new state.

Costs say how often a fault is met: a lost comma is likelier than a lost bracket, a bracket than a lost key.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from carrara.runtime.repair.json_text import lexemes as lex
from carrara.runtime.repair.json_text.restarts import restarted
from carrara.runtime.repair.json_text.states import (
    COLON,
    DONE,
    END,
    KEY,
    NEXT,
    VALUE,
    Frame,
    State,
    Trail,
    edited,
    opened,
)
from carrara.runtime.repair.json_text.strings import endings, inner_edits, mask_edits

Moves = list[State]
_GOES_ON = re.compile(r"\s*+[,:\"'{\[]")
_DIGIT = re.compile(r"\d")


def moves(text: str, state: State, masked: bool) -> Moves:
    """All states that one repair, or one token with a doubtful reading, leads to."""
    at, dropped = lex.skip(text, state.at)
    trail, cost = state.trail, state.cost
    for start, end, rule in dropped:
        trail, cost = edited(trail, start, end, " " if rule == "strange_space" else "", rule), cost + 0.05
    c = text[at : at + 1]
    if c in "`~" and state.expect != DONE and text.startswith(("```", "~~~"), at):
        c = ""  # a closing fence: for the value this is the end of the text
    here = state._replace(at=at, trail=trail, cost=cost)
    if c in lex.WIDE and c and state.expect != DONE:
        plain = lex.WIDE[c]
        wide = here._replace(cost=cost + 0.02)
        return _ON[state.expect](text, wide, plain, masked)
    return _ON[state.expect](text, here, c, masked)


# In the place of a value


def _value(text: str, s: State, c: str, masked: bool) -> Moves:
    frame = s.frame
    if not c:
        return _no_value(s)
    if masked and (end := lex.mask_at(text, s.at)) > s.at:
        return [_hole(s, s.at, end, "mask_left", 1.0)]
    if frame is not None and frame.kind == "[":
        if c in "]}":
            return _close_after_comma(text, s, c)
        if c == ",":
            return [_drop(s, s.at, s.at + 1, "dup_comma", 1.0)]
        frame = frame._replace(member=s.at, key="", before=frame.member)
        s = s._replace(frame=frame)
    if c in "{[":
        return [_open(text, s, c)]
    found: Moves = []
    if c in lex.QUOTES:
        found = _string(text, s, masked, key=False)
    elif c in ",}]":
        return _no_value(s)
    elif c == ":":
        return [_drop(s, s.at, s.at + 1, "dup_colon", 1.0)]
    else:
        found = _scalar(text, s, masked)
    if not found or found[0].cost > s.cost + 0.9:
        found += restarted(text, s)
    return found


def _scalar(text: str, s: State, masked: bool) -> Moves:
    at = s.at
    for pattern in (lex.NUMBER, lex.LITERAL):
        if (m := pattern.match(text, at)) and m.end() > at:
            return [_took(s, at, m.end())]
    if m := lex.OTHER_LITERAL.match(text, at):
        return [_rewrote(s, at, m.end(), lex.SPELLED[m.group()], "python_literal", 0.05)]
    if (m := lex.OTHER_NUMBER.match(text, at)) and _DIGIT.search(m.group()):
        plain = _plain_number(m.group())
        if plain is not None:
            return [_rewrote(s, at, m.end(), plain, "number_spelling", 1.0)]
    found: Moves = []
    if m := lex.CUT_OPEN.match(text, at):
        trail = edited(s.trail, at, at, '"', "value_quote_lost")
        end = m.end() - 1
        trail = _contents(text, trail, at, end, masked)
        if text[end] != '"':
            trail = edited(trail, end, end + 1, '"', "smart_quotes")
        found.append(_on(s, m.end(), trail, 2.0))
    if m := lex.BARE_VALUE.match(text, at):
        end = at + len(m.group().rstrip())
        trail = edited(s.trail, at, at, '"', "value_quotes_lost")
        trail = _contents(text, trail, at, end, masked)
        found.append(_on(s, end, edited(trail, end, end, '"', "value_quotes_lost"), 3.0))
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
        return [_hole(s, s.end, s.end, "value_missing", 2.5)]
    return [_to_next(s)]


def _hole(s: State, start: int, end: int, rule: str, cost: float) -> State:
    after = "null" if start < end else " null"
    return _on(s, end, edited(s.trail, start, end, after, rule), cost)


def _open(text: str, s: State, c: str) -> State:
    trail = s.trail if text[s.at] == c else edited(s.trail, s.at, s.at + 1, c, "wide_punctuation")
    expect = KEY if c == "{" else VALUE
    frame = opened(c, s.frame, s.at)
    return State(s.cost, s.at + 1, expect, frame, trail, s.at + 1)


# In the place of a key


def _key(text: str, s: State, c: str, masked: bool) -> Moves:
    frame, at = s.frame, s.at
    assert frame is not None
    if not c:
        return [_to_next(s)]
    if c in "}]":
        return _close_after_comma(text, s, c)
    if c == ",":
        return [_drop(s, at, at + 1, "dup_comma", 1.0)]
    found: Moves = []
    if c in lex.QUOTES:
        found = _string(text, s._replace(frame=frame._replace(member=at, before=frame.member)), masked, key=True)
        if s.comma >= 0 and _is_outdented(text, frame, at):
            found.append(_insert_close(s._replace(cost=s.cost + 0.6), before_comma=True))
        found += _lost_list(text, s)
    elif m := lex.BARE_KEY.match(text, at):
        found = [_bare_key(text, s, m.end())]
    elif c in "{[":
        if s.comma >= 0:
            found.append(_insert_close(s, before_comma=True))
        elif c == "{" and frame.member < 0:
            found.append(_drop(s, at, at + 1, "dup_bracket", 2.0))
    elif masked and (end := lex.mask_at(text, at)) > at:
        found.append(_drop(s, at, end, "mask_left", 1.5))
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
    return State(s.cost + (0.8 if quoted else 0.05), after, COLON, frame, trail, after, s.comma, s.closed, s.closer)


def _lost_list(text: str, s: State) -> Moves:
    """Strings without colons after a member: its value began a list whose bracket is lost."""
    frame = s.frame
    if frame is None or frame.member < 0 or not frame.key or s.comma < 0:
        return []
    m = lex.STRING.match(text, s.at)
    if m is None or lex.AFTER_KEY.match(text, m.end()):
        return []
    start = _value_of(text, frame)
    trail = edited(s.trail, start, start, "[", "bracket_lost")
    inner = opened("[", frame, start)._replace(member=start)
    return [State(s.cost + 2.6, s.at, VALUE, inner, trail, s.end, s.comma)]


def _value_of(text: str, frame: Frame) -> int:
    """Where the value of the current member starts."""
    at = frame.member + len(frame.key)
    m = lex.AFTER_KEY.match(text, at)
    return lex.SPACE.match(text, m.end() if m else at).end()  # type: ignore[union-attr]


def _is_outdented(text: str, frame: Frame, at: int) -> bool:
    """Whether the line of `at` is indented less than the line of the member before: an object may have ended."""
    here, before = _indent(text, at), _indent(text, frame.member)
    return 0 <= here < before


def _indent(text: str, at: int) -> int:
    """The column of `at` if only blanks stand before it on its line, else -1."""
    if at < 0:
        return -1
    start = text.rfind("\n", max(0, at - 200), at) + 1
    return -1 if start == 0 or text[start:at].strip(" \t") else at - start


# Behind a key


def _colon(text: str, s: State, c: str, masked: bool) -> Moves:
    at, frame = s.at, s.frame
    if c == ":":
        trail = s.trail if text[at] == ":" else edited(s.trail, at, at + 1, ":", "wide_punctuation")
        return [State(s.cost, at + 1, VALUE, frame, trail, at + 1, s.comma)]
    if c == "=":
        end = at + (2 if text[at : at + 2] == "=>" else 1)
        trail = edited(s.trail, at, end, ":", "colon_swapped")
        return [State(s.cost + 1.0, end, VALUE, frame, trail, end, s.comma)]
    if masked and (end := lex.mask_at(text, at)) > at:
        return [_drop(s, at, end, "mask_left", 0.8)]
    found: Moves = []
    if c and c in lex.VALUE_START:
        trail = edited(s.trail, s.end, s.end, ":", "missing_colon")
        found.append(State(s.cost + 1.5, at, VALUE, frame, trail, s.end, s.comma))
    if not c or c in ",}]":
        found.append(_hole(s._replace(trail=edited(s.trail, s.end, s.end, ":", "missing_colon")), s.end, s.end, "value_missing", 3.5))
    return found + restarted(text, s)


# Behind a value


def _next(text: str, s: State, c: str, masked: bool) -> Moves:
    frame, at = s.frame, s.at
    if frame is None:
        return [s._replace(expect=DONE)]
    if not c:
        return [_close_rest(text, s)]
    if c == ",":
        trail = s.trail if text[at] == "," else edited(s.trail, at, at + 1, ",", "comma_swapped")
        expect = KEY if frame.kind == "{" else VALUE
        return [State(s.cost, at + 1, expect, frame, trail, s.end, at, s.closed, s.closer)]
    if c in "}]":
        return _close(text, s, c)
    if masked and (end := lex.mask_at(text, at)) > at:
        return [_drop(s, at, end, "mask_left", 0.8)]
    found: Moves = []
    if c in ":=":
        found += _colon_in_list(text, s) if frame.kind == "[" else _colon_behind_value(text, s)
    elif c == "+" and text[s.end - 1] == '"' and (m := re.compile(r'\s*\+\s*"').match(text, s.end)):
        trail = edited(s.trail, s.end - 1, m.end(), "", "joined_strings")
        found += _string_from(text, s._replace(trail=trail, cost=s.cost + 0.3), m.end() - 1, masked)
    elif c in lex.VALUE_START or lex.BARE_KEY.match(text, at):
        found += _missing_comma(text, s, c)
    if frame.parent is not None:
        found.append(_insert_close(s, before_comma=False))
    if frame.parent is None:
        found.append(_close_rest(text, s, 3.0))
    return found + restarted(text, s)


def _missing_comma(text: str, s: State, c: str) -> Moves:
    frame = s.frame
    assert frame is not None
    wanted = c in lex.QUOTES or lex.BARE_KEY.match(text, s.at) if frame.kind == "{" else c in lex.VALUE_START
    if not wanted:
        return []
    trail = edited(s.trail, s.end, s.end, ",", "missing_comma")
    expect = KEY if frame.kind == "{" else VALUE
    found = [State(s.cost + 1.5, s.at, expect, frame, trail, s.end, s.end, s.closed, s.closer)]
    if frame.kind == "{" and frame.parent is not None and _is_outdented(text, frame, s.at):
        found.append(_insert_close(s, before_comma=False)._replace(cost=s.cost + 1.2))
    return found


def _string_from(text: str, s: State, at: int, masked: bool) -> Moves:
    kind = s.frame.kind if s.frame else ""
    return [
        _on(s, e.after, _contents(text, s.trail, at + 1, e.end, masked), e.cost)
        for e in endings(text, at, kind)[:2]
        if e.after > e.end
    ]


def _colon_behind_value(text: str, s: State) -> Moves:
    """A key where a value was read: the key twice, or a bracket or a value lost before it."""
    frame = s.frame
    assert frame is not None
    found: Moves = []
    if frame.member < 0:
        return found
    start = _value_of(text, frame)
    if start >= s.end or text[start] not in lex.QUOTES:
        return found
    fresh = frame._replace(member=start, key=text[start : s.end])
    if _same_key(text[start : s.end], frame.key):
        trail = edited(s.trail, frame.member, start, "", "dup_key_token")
        return [State(s.cost + 0.8, s.at, COLON, fresh, trail, s.end, s.comma)]
    trail = edited(s.trail, start, start, "{", "bracket_lost")
    inner = opened("{", frame, start)._replace(member=start, key=text[start : s.end])
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
    trail = edited(s.trail, start, start, "{", "bracket_lost")
    inner = opened("{", frame, start)._replace(member=start, key=key)
    found.append(State(s.cost + 2.2, s.at, COLON, inner, trail, s.end))
    if s.closed is not None and s.closed.kind == "{" and s.comma > s.closer >= 0 and not text[s.closer + 1 : s.comma].strip():
        trail = edited(s.trail, s.closer, s.closer + 1, "", "extra_close")
        old = s.closed._replace(member=start, key=key, before=s.closed.member)
        found.append(State(s.cost + 2.0, s.at, COLON, old, trail, s.end, s.comma))
    return found


def _token_end(text: str, at: int) -> int:
    while at > 0 and text[at - 1] in " \t\r\n":
        at -= 1
    return at


# Brackets


def _close(text: str, s: State, c: str) -> Moves:
    frame, at = s.frame, s.at
    assert frame is not None
    mine = lex.CLOSER[frame.kind]
    if c == mine:
        trail = s.trail if text[at] == c else edited(s.trail, at, at + 1, c, "wide_punctuation")
        return [State(s.cost, at + 1, NEXT, frame.parent, trail, at + 1, -1, frame, at)]
    trail = edited(s.trail, at, at + 1, mine, "wrong_bracket")
    found = [State(s.cost + 2.0, at + 1, NEXT, frame.parent, trail, at + 1, -1, frame, at)]
    if frame.parent is not None:
        found.append(_insert_close(s, before_comma=False))
    found.append(_drop(s, at, at + 1, "extra_close", 2.3))
    return found


def _close_after_comma(text: str, s: State, c: str) -> Moves:
    """A closing bracket where a member should come: the comma before it goes."""
    if s.comma >= 0:
        start, end = s.comma, s.comma + (1 if text[s.comma] != " " else 0)
        trail = s.trail
        if trail is not None and trail.start == s.comma and trail.rule in ("missing_comma", "comma_swapped"):
            if trail.rule == "missing_comma":
                return [s._replace(expect=NEXT, comma=-1, trail=trail.earlier)]
            trail = trail.earlier
        s = s._replace(trail=edited(trail, start, end, "", "trailing_comma"), cost=s.cost + 0.4)
    return _close(text, s._replace(expect=NEXT, comma=-1), c)


def _to_next(s: State) -> State:
    """The end of the text behind a comma or an opening bracket."""
    trail = s.trail
    if s.comma >= 0:
        trail = edited(trail, s.comma, s.comma + 1, "", "trailing_comma")
    return s._replace(expect=NEXT, comma=-1, trail=trail, cost=s.cost + 0.3)


def _insert_close(s: State, before_comma: bool) -> State:
    """Close the innermost frame where the last token ended; a comma just read then belongs to the parent."""
    frame = s.frame
    assert frame is not None
    place = s.end if not before_comma else min(s.end, s.comma)
    trail = _insert(s.trail, place, lex.CLOSER[frame.kind], "close_lost")
    parent = frame.parent
    if before_comma:
        if parent is None:
            return s._replace(cost=s.cost + 99.0)
        expect = KEY if parent.kind == "{" else VALUE
        return State(s.cost + 1.6, s.at, expect, parent, trail, s.end, s.comma)
    return State(s.cost + 1.6, s.at, NEXT, parent, trail, s.end, -1, frame, -1)


def _insert(trail: Trail | None, place: int, after: str, rule: str) -> Trail:
    return edited(trail, place, place, after, rule)


def _close_rest(text: str, s: State, cost: float = 0.0) -> State:
    """Close everything that is open."""
    closers = ""
    frame = s.frame
    while frame is not None:
        closers += lex.CLOSER[frame.kind]
        frame = frame.parent
    trail = edited(s.trail, s.end, s.end, closers, "unclosed_end")
    return State(s.cost + cost + 0.5 + 0.3 * min(len(closers), 10), s.at, DONE, None, trail, s.end)


# Behind the value


def _done(text: str, s: State, c: str, masked: bool) -> Moves:
    at = s.at
    if not c:
        return [s._replace(expect=END)]
    if c in "}]":
        return [_drop(s, at, at + 1, "extra_close", 0.6)._replace(end=at + 1)]
    if masked and (end := lex.mask_at(text, at)) > at:
        return [_drop(s, at, end, "mask_left", 0.5)._replace(end=end)]
    found: Moves = []
    closed = s.closed
    if c in ",，" and closed is not None and s.closer >= 0:
        trail = edited(s.trail, s.closer, s.closer + 1, "", "extra_close")
        found.append(State(s.cost + 2.0, at, NEXT, closed, trail, s.end))
    if _GOES_ON.match(text, at):
        return found  # more of the value, or another one: it may not be dropped
    found.append(State(s.cost + 1.0, len(text), END, None, edited(s.trail, s.end, len(text), "", "text_around"), s.end))
    return found


# Parts


def _string(text: str, s: State, masked: bool, key: bool) -> Moves:
    frame = s.frame
    kind = "k" if key else frame.kind if frame else ""
    found = []
    if text.startswith('"""', s.at) and (close := text.find('"""', s.at + 3)) > 0 and not key:
        trail = edited(s.trail, s.at, s.at + 3, '"', "single_quotes")
        trail = _contents(text, trail, s.at + 3, close, masked)
        return [_on(s, close + 3, edited(trail, close, close + 3, '"', "single_quotes"), 0.1)]
    for end, after, cost in endings(text, s.at, kind):
        trail = s.trail
        if text[s.at] != '"':
            trail = edited(trail, s.at, s.at + 1, '"', _style(text[s.at]))
        trail = _contents(text, trail, s.at + 1, end, masked)
        if after == end:
            trail = edited(trail, end, end, '"', "key_quote_lost" if key else "value_quote_lost")
        elif text[end] != '"':
            trail = edited(trail, end, after, '"', _style(text[end]))
        if key and frame is not None:
            named = frame._replace(key=text[s.at : after])
            found.append(State(s.cost + cost, after, COLON, named, trail, after, s.comma, s.closed, s.closer))
        else:
            found.append(_on(s, after, trail, cost))
    return found


def _style(quote: str) -> str:
    return "single_quotes" if quote in "'`" else "smart_quotes"


def _contents(text: str, trail: Trail | None, start: int, end: int, masked: bool) -> Trail | None:
    edits = inner_edits(text, start, end)
    if masked:
        edits = sorted(edits + mask_edits(text, start, end))
    for edit in edits:
        trail = edited(trail, *edit)
    return trail


def _took(s: State, start: int, end: int) -> State:
    return _on(s, end, s.trail, 0.0)


def _rewrote(s: State, start: int, end: int, after: str, rule: str, cost: float) -> State:
    return _on(s, end, edited(s.trail, start, end, after, rule), cost)


def _on(s: State, end: int, trail: Trail | None, cost: float) -> State:
    return State(s.cost + cost, end, NEXT, s.frame, trail, end, s.comma, s.closed, s.closer)


def _drop(s: State, start: int, end: int, rule: str, cost: float) -> State:
    return s._replace(at=end, trail=edited(s.trail, start, end, "", rule), cost=s.cost + cost)


_ON: dict[int, Callable[[str, State, str, bool], Moves]] = {
    VALUE: _value,
    KEY: _key,
    COLON: _colon,
    NEXT: _next,
    DONE: _done,
}

__all__ = ["moves"]

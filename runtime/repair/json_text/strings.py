"""Strings whose end is in doubt: a quote lost, left unescaped, of another kind, or a line break inside.

Every reading that is possible is returned with its cost; the search keeps those that what follows speaks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from carrara.runtime.repair.json_text.lexemes import (
    AFTER_IN_ARRAY,
    AFTER_IN_OBJECT,
    AFTER_KEY,
    AFTER_ROOT,
    BARE_KEY,
    CLOSERS,
    CLOSING,
    CONTROL,
    ENDING,
    LONGEST,
    NEXT_ELEMENT,
    NEXT_KEY,
    QUOTES,
    STRING,
    WINDOW,
    skip,
)
from carrara.runtime.repair.masks import MASK

_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_KEY_END = re.compile(r"[^\"”'\n:]{1,120}?(?=\s{0,20}+:)")
_TAIL = " \t\r\n\x0b\x0c\xa0,}]"  # what may stand between a string's end and the end of its line
_MOST_ENDS = 40
_STRUCTURE = frozenset('{}[],:"“”')
_STARTS = frozenset("{[\"'“‘0123456789-tfnTFN")


class Ending(NamedTuple):
    """The content ends at `end`, the token at `after`; equal offsets mean that the closing quote is lost."""

    end: int
    after: int
    cost: float


def endings(text: str, at: int, kind: str) -> list[Ending]:
    """Where the string that opens at `at` may end. `kind`: "k" for a key, "{" or "[" for a value in an object or
    in a list, "" for a value alone. Cheapest first; one only where no other reading is worth a thought."""
    follows = {"k": AFTER_KEY, "{": AFTER_IN_OBJECT, "[": AFTER_IN_ARRAY, "": AFTER_ROOT}[kind]
    quote = text[at]
    if quote == '"' and (found := STRING.match(text, at)) and follows.match(text, found.end()):
        return [Ending(found.end() - 1, found.end(), 0.0)]
    style = 0.0 if quote == '"' else 0.02
    reach = LONGEST
    found_ends: list[Ending] = []
    strong = False
    escaped = style
    for inner, end in enumerate(_quotes(text, at)):
        reach = WINDOW if end < at + WINDOW else reach
        breaks = text.count("\n", at, end)
        odd = 1.5 if inner % 2 else 0.0
        cost = escaped + (1.6 if kind == "k" else 0.7) * min(breaks, 3) + odd
        after = skip(text, end + 1).at
        if follows.match(text, end + 1) or follows.match(text, after):
            found_ends.append(Ending(end, end + 1, cost))
            if inner == 0 and breaks == 0 and quote != "'":
                return found_ends
            if strong:
                break
            strong = True
        elif inner == 0 and _may_follow(text, after, kind):
            found_ends.append(Ending(end, end + 1, cost + 0.4))
        escaped += _price(text, end, after, kind)
        if escaped > 8.0:
            break
    for end, after, cost in _unquoted(text, at, kind, reach, style):
        swallowed = len(ENDING[quote].findall(text, at + 1, end))
        found_ends.append(Ending(end, after, cost + 1.2 * min(swallowed, 6)))
    found_ends.sort(key=lambda ending: ending.cost)
    return found_ends[:8]


def _price(text: str, quote: int, after: int, kind: str) -> float:
    """What it costs to take this quote for a part of the string: more where it looks like a delimiter."""
    price = 0.4 if after == quote + 1 else 0.8
    if after < len(text) and text[after] in _STRUCTURE:
        price += 2.0 if kind == "[" and text[after] == ":" else 1.0
    elif text[quote - 1] in _STRUCTURE or (
        text[quote - 1] in " \n" and text[quote - 2 : quote - 1] in _STRUCTURE
    ):
        price += 0.8
    return 2.5 * price if kind == "k" else price


def _may_follow(text: str, after: int, kind: str) -> bool:
    """What may stand behind a closing quote where another repair has to explain it."""
    if (
        after >= len(text)
        or text[after] in _STARTS
        or (kind == "{" and BARE_KEY.match(text, after))
    ):
        return True
    c = text[after]
    return (c in ":：=" and kind != "k") or (kind == "k" and c in ",}") or c in ",;，、}]+[<"


def _quotes(text: str, at: int) -> Iterator[int]:
    """Offsets of unescaped quotes that could close, nearest first."""
    before = CLOSING[text[at]]
    place, most = at + 1, at + WINDOW
    for _ in range(_MOST_ENDS):
        found = before.match(text, place, most)
        if found is None:
            if most >= len(text) or most > at + WINDOW:
                return
            most = len(text)  # nothing near: one look at all of the rest
            continue
        yield found.end()
        place = found.end() + 1


def _unquoted(text: str, at: int, kind: str, reach: int, style: float) -> Iterator[Ending]:
    """Readings in which the closing quote is lost. They look `reach` characters ahead."""
    first, most = at + 1, min(len(text), at + reach)
    line_end = text.find("\n", at, most)
    stop = most if line_end < 0 else line_end
    if kind == "k":
        if found := _KEY_END.match(text, first, stop):
            yield Ending(found.end(), found.end(), 1.6 + style)
        return
    if line_end >= 0 or most == len(text):
        yield from _at_line_end(text, first, stop, style)
    pattern = NEXT_ELEMENT if kind == "[" else NEXT_KEY
    if found := pattern.search(text, first, most):
        yield Ending(found.start(), found.start(), 2.0 + style)
    if (found := CLOSERS.search(text, first, stop)) and found.start() > first:
        yield Ending(found.start(), found.start(), 2.4 + style)


def _at_line_end(text: str, first: int, stop: int, style: float) -> Iterator[Ending]:
    """The string goes on to the end of its line, without what closes behind it."""
    line = text[first:stop].rstrip()
    body, closed = first + len(line), first + len(line.rstrip(_TAIL))
    if body == first:
        return
    if text[body - 1] == ",":
        yield Ending(body - 1, body - 1, 1.6 + style)
    elif closed == body or text[body - 1] not in "}]":
        yield Ending(body, body, 1.6 + style)
    if first < closed < body:
        yield Ending(closed, closed, 1.8 + style)


def inner_edits(text: str, start: int, end: int) -> list[tuple[int, int, str, str]]:
    """What must change inside a string's content: raw control characters, bare quotes, wrong escapes."""
    edits = []
    for found in CONTROL.finditer(text, start, end):
        mark = found.group()
        if len(mark) > 1:
            continue
        place = found.start()
        if mark == "\\":
            following = text[place + 1 : place + 2]
            if place + 1 < end and following == "'":
                edits.append((place, place + 1, "", "bad_escape"))
            else:
                edits.append((place, place + 1, "\\\\", "bad_escape"))
        elif mark == '"':
            edits.append((place, place + 1, '\\"', "inner_quotes"))
        else:
            after = _ESCAPED.get(mark, f"\\u{ord(mark):04x}")
            if mark == "\r" and text[place + 1 : place + 2] == "\n":
                after = ""
            edits.append(
                (place, place + 1, after, "raw_newline" if mark in "\r\n" else "raw_control")
            )
    return edits


def mask_edits(text: str, start: int, end: int) -> list[tuple[int, int, str, str]]:
    """The masks inside a string's content, each with one space beside it."""
    edits = []
    for found in re.finditer(f"(?:{MASK.pattern})+", text[start:end]):
        a, b = start + found.start(), start + found.end()
        if a > start and text[a - 1] == " " and (b == end or text[b] == " "):
            a -= 1
        elif a == start and b < end and text[b] == " ":
            b += 1
        edits.append((a, b, "", "mask_left"))
    return edits


def quotes_of(text: str, at: int) -> bool:
    return text[at : at + 1] in QUOTES and at < len(text)


__all__ = ["Ending", "endings", "inner_edits", "mask_edits", "quotes_of"]

"""Python regular expressions as language trees. The parsing is Python's own, so the syntax is exactly Python's.

Categories are Unicode's: `\\w` offers the letters and digits of the alphabets in wide use and forbids, negated,
every letter there is. Look-around, back-references, word borders and anchors inside a pattern are refused.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from carrara.engines.diffusion.scaffold import chars
from carrara.engines.diffusion.scaffold.chars import CharSet
from carrara.engines.diffusion.scaffold.language import ANY_TEXT, Alt, Chars, Node, Repeat, Seq
from carrara.engines.errors import CarraraError
from carrara.engines.patterns import ENDS, IRREGULAR, STARTS, unreadable

_sre: Any = importlib.import_module("re._parser")
_NEWLINE = chars.of("\n")
_ALPHABETS = ((0x30, 0x52F), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3))

Items = Sequence[tuple[Any, Any]]


def full(pattern: str) -> Node:
    """Texts that `re.fullmatch` takes.

    Raises:
        CarraraError: a part of the pattern is not regular, or not supported.
    """
    return _anchored(*_parsed(pattern), search=False)


def found(pattern: str) -> Node:
    """Texts in which `re.search` finds the pattern, which is what JSON Schema's `pattern` asks for.

    Raises:
        CarraraError: as for `full`.
    """
    return _anchored(*_parsed(pattern), search=True)


def _parsed(pattern: str) -> tuple[Items, int]:
    try:
        tree = _sre.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise CarraraError(unreadable(pattern, error)) from error
    return list(tree), int(tree.state.flags)


def _anchored(
    items: Items, flags: int, search: bool, start: bool = False, end: bool = False
) -> Node:
    """The whole pattern or, after descending into a group that is all of it, one branch of it."""
    if flags & re.MULTILINE:
        raise CarraraError("a pattern with the multiline flag cannot be held")
    while items and _is_anchor(items[0], STARTS):
        items, start = items[1:], True
    while items and _is_anchor(items[-1], ENDS):
        items, end = items[:-1], True
    if len(items) == 1:
        op, value = items[0]
        if op.name == "BRANCH":
            return Alt(tuple(_anchored(list(b), flags, search, start, end) for b in value[1]))
        if op.name == "SUBPATTERN":
            _, add, drop, inner = value
            return _anchored(list(inner), (flags | add) & ~drop, search, start, end)
    body = _sequence(items, flags)
    before = [] if start or not search else [ANY_TEXT]
    after = [] if end or not search else [ANY_TEXT]
    return Seq((*before, body, *after))


def _is_anchor(item: tuple[Any, Any], names: Sequence[str]) -> bool:
    op, value = item
    return op.name == "AT" and value.name in names


def _sequence(items: Items, flags: int) -> Node:
    return Seq(tuple(_item(op.name, value, flags) for op, value in items))


def _item(op: str, value: Any, flags: int) -> Node:
    match op:
        case "LITERAL":
            return Chars(_cased(((value, value),), flags))
        case "NOT_LITERAL":
            return Chars(chars.complement(_uncased(((value, value),), flags)))
        case "ANY":
            return Chars(chars.ANY if flags & re.DOTALL else chars.complement(_NEWLINE))
        case "IN":
            return Chars(_set(value, flags))
        case "BRANCH":
            return Alt(tuple(_sequence(list(branch), flags) for branch in value[1]))
        case "SUBPATTERN":
            _, add, drop, inner = value
            return _sequence(list(inner), (flags | add) & ~drop)
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, inner = value
            bound = None if most is _sre.MAXREPEAT else int(most)
            return Repeat(_sequence(list(inner), flags), int(least), bound)
    raise CarraraError(f"{IRREGULAR.get(op, op)} in a pattern cannot be held")


def _set(value: Items, flags: int) -> CharSet:
    negated = bool(value) and value[0][0].name == "NEGATE"
    found: list[tuple[int, int]] = []
    for op, part in value:
        if op.name == "LITERAL":
            found.append((part, part))
        elif op.name == "RANGE":
            found.append(part)
        elif op.name == "CATEGORY":
            found += _category(part.name, flags, exact=negated)
    ranges = chars.merged(found)
    if negated:
        return chars.complement(_uncased(ranges, flags))
    return chars.intersection(_cased(ranges, flags), chars.ANY)


def _category(name: str, flags: int, exact: bool) -> CharSet:
    plain = name.removeprefix("CATEGORY_")
    if plain.startswith("NOT_"):
        return chars.complement(_positive(plain.removeprefix("NOT_"), flags, exact=True))
    return _positive(plain, flags, exact)


def _positive(name: str, flags: int, exact: bool) -> CharSet:
    ascii_only = bool(flags & re.ASCII)
    if name == "SPACE":
        return chars.merged([(9, 13), (32, 32)]) if ascii_only else chars.SPACES
    if name == "DIGIT":
        return chars.where(str.isdecimal) if exact and not ascii_only else chars.DIGITS
    if name == "WORD":
        if ascii_only:
            return chars.merged([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
        return chars.merged(chars.where(_is_word) if exact else _common_words())
    raise CarraraError(f"character class {name} in a pattern cannot be held")


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


@lru_cache(maxsize=1)
def _common_words() -> CharSet:
    codes = (code for low, high in _ALPHABETS[:1] for code in range(low, high + 1))
    return chars.merged([(c, c) for c in codes if _is_word(chr(c))] + list(_ALPHABETS[1:]))


def _cased(ranges: CharSet, flags: int) -> CharSet:
    """With the ignore-case flag, both cases of ASCII letters; other letters stay as written."""
    if not flags & re.IGNORECASE:
        return ranges
    lower = chars.intersection(ranges, ((0x61, 0x7A),))
    upper = chars.intersection(ranges, ((0x41, 0x5A),))
    swapped = [(a - 32, b - 32) for a, b in lower] + [(a + 32, b + 32) for a, b in upper]
    return chars.merged([*ranges, *swapped])


def _uncased(ranges: CharSet, flags: int) -> CharSet:
    if flags & re.IGNORECASE:
        raise CarraraError("a negated set under the ignore-case flag cannot be held")
    return ranges

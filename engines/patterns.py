"""Which regular expressions an output contract may have: regular ones, which an automaton can follow to the end."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any, Final

_sre: Any = importlib.import_module("re._parser")
STARTS: Final = ("AT_BEGINNING", "AT_BEGINNING_STRING")
ENDS: Final = ("AT_END", "AT_END_STRING")
IRREGULAR: Final = {
    "ASSERT": "look-around",
    "ASSERT_NOT": "look-around",
    "AT": "an anchor or a word border inside",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a conditional",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
}
"""What Python's parser calls the parts that no automaton can follow."""


def fault(pattern: str) -> str | None:
    """Why no engine can hold an answer to this pattern, None where nothing stands against it."""
    try:
        tree = _sre.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return unreadable(pattern, error)
    found = dict.fromkeys(_irregular(list(tree), outermost=True))
    if not found:
        return None
    return f"the pattern '{pattern}' has {' and '.join(found)}, which no engine can hold"


def unreadable(pattern: str, error: Exception) -> str:
    """What Python's parser has against a pattern, and what to write where it knows no such escape."""
    hint = ""
    if str(error).startswith(("bad escape \\p", "bad escape \\P")):
        hint = (
            "; classes of Unicode are not supported: write [^\\W\\d_] for letters, \\w for letters, digits and _, "
            "\\d for digits, or name the characters"
        )
    return f"bad regular expression {pattern!r}: {error}{hint}"


def _irregular(items: list[tuple[Any, Any]], outermost: bool = False) -> Iterator[str]:
    """What cannot be held in a sequence; `outermost` if it begins and ends the pattern, so that anchors say nothing."""
    while outermost and items and _is(items[0], STARTS):
        items = items[1:]
    while outermost and items and _is(items[-1], ENDS):
        items = items[:-1]
    for op, value in items:
        if op.name in IRREGULAR:
            yield IRREGULAR[op.name]
            continue
        for inner in _sequences(op.name, value):
            yield from _irregular(inner, outermost and len(items) == 1 and "REPEAT" not in op.name)


def _is(item: tuple[Any, Any], names: tuple[str, ...]) -> bool:
    op, value = item
    return op.name == "AT" and value.name in names


def _sequences(op: str, value: Any) -> list[list[tuple[Any, Any]]]:
    """The sequences inside one item."""
    match op:
        case "BRANCH":
            return [list(branch) for branch in value[1]]
        case "SUBPATTERN":
            return [list(value[3])]
        case "MAX_REPEAT" | "MIN_REPEAT":
            return [list(value[2])]
        case _:
            return []

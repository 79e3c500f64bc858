"""The guard on repairs: what a text says, punctuation apart, must be the same before and after."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/])|([bfnrt]))')
_TOKEN = re.compile(
    r"(?<![\w.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|\w+",
)
_LITERALS = {"True": "true", "False": "false", "None": "null", "undefined": "null"}
_SWALLOWED = re.compile(r'"\s*[:,{\[\]}]|[:,{\[]\s*"')
_MASKS = ("[MASK]", "<mask>", "<|mask|>", "<|mdm_mask|>")
_EMPTY = re.compile(r'""(?!")|\'\'(?!\')')


def json_loss(source: str, value: Any, nesting_known: bool) -> str | None:
    """Why `value` says something else than the broken JSON `source`, None if it does not.

    Compared are the words and numbers, each as often as it stands there; JSON escapes, the spelling of
    numbers and Python's literals are not counted as a difference. An empty string that `source` does not
    have counts as invented, for something was there to be written; a string with JSON's own marks around a
    quote counts as two values that became one. Unless the nesting is known from a schema, brackets may
    have been lost at the end only.
    """
    before = _words(source)
    dumped = json.dumps(value, ensure_ascii=False)
    after = _words(dumped)
    if lost := before - after:
        return f"it would lose {_some(lost)}"
    if invented := after - before:
        return f"it would invent {_some(invented)}"
    if any(source.count(bracket) > dumped.count(bracket) for bracket in "{["):
        return "it would drop an object or a list"
    if not nesting_known and not _brackets(dumped).startswith(_brackets(source)):
        return "a bracket is missing or wrong before its end, and no schema says where it belongs"
    return _misread(source, value)


def _misread(source: str, value: Any) -> str | None:
    """Why the strings of `value` are not those that `source` meant to hold."""
    if mask := next((mask for mask in _MASKS if mask in source), None):
        return f"{mask} is left over in it"
    empty = 0
    for text in _strings(value):
        empty += text == ""
        if _SWALLOWED.search(text):
            return f"a string would swallow what follows it: {text[:60]!r}"
    return "a value is missing" if empty > len(_EMPTY.findall(source)) else None


def _brackets(text: str) -> str:
    return re.sub(r"[^][{}]+", "", text)


def _words(text: str) -> Counter[str]:
    plain = _ESCAPE.sub(_unescape, text)
    return Counter(_spelling(token) for token in _TOKEN.findall(plain))


def _unescape(match: re.Match[str]) -> str:
    code, plain, _ = match.groups()
    if code:
        return chr(int(code, 16))
    return plain or " "


def _spelling(token: str) -> str:
    if token[0].isdigit():
        try:
            return repr(float(token)) if "." in token or "e" in token.lower() else token
        except ValueError:
            return token
    return _LITERALS.get(token, token)


def _strings(value: Any) -> Iterator[str]:
    """Every string in `value`, keys too; walked with a stack, so depth does not matter."""
    left = [value]
    while left:
        match left.pop():
            case str() as text:
                yield text
            case dict() as found:
                left += found.keys()
                left += found.values()
            case list() as found:
                left += found


def _some(words: Counter[str]) -> str:
    names = [repr(word) for word in list(words)[:5]]
    more = len(words) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


__all__ = ["json_loss"]

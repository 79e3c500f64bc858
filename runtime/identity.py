"""Hashes that say whether a step would do the same work again: of its definition, and of its inputs.

The identity of a node is the hash of its step's fingerprint and its resolved arguments. Where an argument
cannot be hashed there is none, and the step's result is never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from carrara.runtime.codec import CodecError, dumps, lower
from carrara.runtime.codec.text import is_plain, quoted
from carrara.runtime.fingerprint import source_fingerprint

LONG = 4096
"""Strings from this length on are hashed once and then remembered by the object they are."""

_REMEMBERED = 64


def text_hash(text: str) -> str:
    """32 hex digits of a text that UTF-8 can hold."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def value_hash(value: Any) -> str:
    """The hash of a value's canonical text. Equal values of equal types have equal hashes, whatever process.

    The order of a dict counts: it can reach a prompt. Functions and steps count by their definition.

    Raises:
        CodecError: a part of the value has no text.
    """
    return text_hash(dumps(_tree(value)))


def identity(fingerprint: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The hash of a definition and its resolved arguments; the order of keywords does not count.

    Raises:
        CodecError: an argument cannot be hashed; `path` names it.
    """
    if (
        len(args) == 1 and not kwargs
    ):  # most steps of chains and maps: their text is written down at once
        only = args[0]
        kind = type(only)
        if kind is int or (kind is str and len(only) < LONG):
            head = _heads.get(fingerprint) or _head(fingerprint)
            text = f"{head}{only if kind is int else quoted(only)}],{{}}]"
            if text.isascii():
                return blake2b(text.encode(), digest_size=16).hexdigest()
    named = kwargs if len(kwargs) < 2 else dict(sorted(kwargs.items()))
    try:
        tree = (fingerprint, [_tree(arg) for arg in args], {n: _tree(v) for n, v in named.items()})
    except CodecError:
        raise _named_error(args, named) from None
    except RecursionError:
        raise CodecError("an argument contains itself, or is nested too deeply") from None
    return text_hash(dumps(tree))


_heads: dict[str, str] = {}


def _head(fingerprint: str) -> str:
    """The text of an identity up to its first argument."""
    if len(_heads) >= 1024:
        _heads.clear()
    _heads[fingerprint] = head = f"[{dumps(fingerprint)},["
    return head


def _named_error(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CodecError:
    """The error again, with the argument in its path."""
    for name, value in (*((f"[{i}]", arg) for i, arg in enumerate(args)), *kwargs.items()):
        try:
            _tree(value)
        except CodecError as error:
            return CodecError(error.reason, path=name + error.path)
    raise AssertionError("an argument failed to lower once and not again")


def _tree(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value if len(value) < LONG else {"$text": _long_text(value)}
    if kind is int:
        return value
    if kind is list or kind is dict:
        if is_plain(value):
            return _shortened(value)
        if kind is list:
            return [_tree(part) for part in value]
    found = _definition(value)
    return lower(value, by_name=False) if found is None else found


def _shortened(value: Any) -> Any:
    """A plain value whose long strings are replaced by their hashes."""
    kind = type(value)
    if kind is str and len(value) >= LONG:
        return {"$text": _long_text(value)}
    if kind is list:
        return [_shortened(part) for part in value]
    if kind is dict:
        return {name: _shortened(part) for name, part in value.items()}
    return value


def _definition(value: Any) -> dict[str, str] | None:
    """What stands for a function or a step among the arguments, such as the tools of an agent."""
    spec = getattr(value, "spec", None)
    fingerprint = getattr(spec, "fingerprint", "")
    if fingerprint and callable(value):
        return {"$step": fingerprint}
    if hasattr(value, "__code__") and hasattr(value, "__globals__"):
        return {"$function": source_fingerprint(value)}
    return None


_long: dict[int, tuple[str, str]] = {}


def _long_text(text: str) -> str:
    """The hash of a long string. A document handed to a thousand steps is hashed once.

    The string is kept with its hash, so its id cannot come to mean another one.
    """
    found = _long.get(id(text))
    if found is not None and found[0] is text:
        return found[1]
    made = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    if len(_long) >= _REMEMBERED:
        _long.pop(next(iter(_long)))
    _long[id(text)] = (text, made)
    return made

"""JSON text out of values, values out of JSON text: the natives, and the walk over everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder as _json
from math import isfinite
from types import NoneType
from typing import Any

from carrara.runtime.codec import classes, tags
from carrara.runtime.codec.errors import At, CodecError, index, key, path_of, refusal

_ATOMS = frozenset({str, int, bool, NoneType})


def json_writer(ordinary: json.JSONEncoder) -> Callable[[Any], str]:
    """What `ordinary.encode` does, faster, for values without circles and an encoder without indent.

    Building the C encoder once instead of once a call (as JSONEncoder.encode does) takes a small value from
    2.1 to 0.6 µs; where there is no C encoder the ordinary one serves.
    """
    make: Any = getattr(_json, "c_make_encoder", None)
    if make is None:
        return ordinary.encode
    quote = _json.encode_basestring_ascii if ordinary.ensure_ascii else _json.encode_basestring
    separators = (ordinary.key_separator, ordinary.item_separator)
    rules = (ordinary.sort_keys, ordinary.skipkeys, ordinary.allow_nan)
    try:
        write = make(None, ordinary.default, quote, None, *separators, *rules)
        "".join(write({"a": [1]}, 0))
    except TypeError:  # another Python's C encoder takes other arguments
        return ordinary.encode
    return lambda value: "".join(write(value, 0))


_write = json_writer(
    json.JSONEncoder(
        ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
    )
)
quoted: Callable[[str], str] = _json.encode_basestring
"""A string as JSON text, other alphabets as they are."""
_write_ascii = json.JSONEncoder(
    ensure_ascii=True, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_read = json.JSONDecoder(parse_constant=_no_constant).decode


def is_plain(value: Any) -> bool:
    """Whether `value` is made of natives alone and its JSON is read back as it is."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is float:
        return isfinite(value)
    if kind is list:
        for part in value:  # noqa: SIM110 - a generator would double the time
            if type(part) not in _ATOMS and not is_plain(part):
                return False
        return True
    if kind is dict:
        for name, part in value.items():
            if type(name) is not str or name[:1] == "$":
                return False
            if type(part) not in _ATOMS and not is_plain(part):
                return False
        return True
    return False


def encode(value: Any, returns: Any = None) -> str:
    """`value` as JSON text that UTF-8 can hold. `decode(encode(v, r), r)` equals `v` and has its types.

    `returns` is an annotation in which classes that cannot be found by name (local or generic ones) are
    looked up; None where none is known.

    Raises:
        CodecError: a part of the value cannot be stored; `path` names it.
    """
    if type(value) is str:
        text = quoted(value)
        if text.isascii():
            return text
    try:
        if type(value) in _ATOMS or is_plain(value):
            return dumps(value)
        return dumps(lower(value, returns))
    except RecursionError:
        raise CodecError("the value contains itself, or is nested too deeply") from None


def dumps(tree: Any) -> str:
    """Write what `lower` returns."""
    try:
        text = _write(tree)
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:  # a lone surrogate: only an escape can hold it
        return _write_ascii(tree)
    except ValueError as error:  # an integer of more digits than Python converts
        raise CodecError(str(error)) from error
    return text


def decode(text: str, returns: Any = None) -> Any:
    """The value that `encode` wrote.

    Raises:
        CodecError: the text is damaged, or names a class that is not loaded or has changed.
    """
    try:
        tree = _read(text)
        return _lift(tree, returns, None) if '"$' in text else tree
    except RecursionError:
        raise CodecError("the stored value is nested too deeply") from None
    except CodecError:
        raise
    except ValueError as error:
        raise CodecError(f"stored text is not JSON: {error}") from error


def lower(value: Any, returns: Any = None, *, by_name: bool = True) -> Any:
    """`value` as a tree of natives with tags.

    With `by_name` a class has to be one that reading finds again; without (for hashes) its name is enough.

    Raises:
        CodecError: a part of the value cannot be stored.
    """
    return _lower(value, classes.Lookup(returns, must_find=by_name), None)


def _lower(value: Any, lookup: classes.Lookup, at: At) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is float:
        return value if isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [_lower(part, lookup, index(at, i)) for i, part in enumerate(value)]
    if kind is dict:
        return _lower_dict(value, lookup, at)

    def within(part: Any, name: str | int) -> Any:
        step = index(at, name) if isinstance(name, int) else key(at, name)
        return _lower(part, lookup, step)

    try:
        tag = tags.of(kind)
        if tag is not None:
            return {tag.name: tag.lower(value, within)}
        tree = classes.lower(value, lookup, within)
    except CodecError as error:
        raise error if error.path else CodecError(error.reason, path=path_of(at)) from error
    if tree is None:
        raise CodecError(refusal(value), path=path_of(at))
    return tree


def _lower_dict(value: dict[Any, Any], lookup: classes.Lookup, at: At) -> Any:
    if all(type(name) is str and name[:1] != "$" for name in value):
        return {name: _lower(part, lookup, key(at, name)) for name, part in value.items()}
    pairs = [
        [_lower(name, lookup, key(at, name)), _lower(part, lookup, key(at, name))]
        for name, part in value.items()
    ]
    return {"$dict": pairs}


def _lift(tree: Any, returns: Any, lookup: classes.Lookup | None) -> Any:
    if type(tree) is list:
        return [_lift(part, returns, lookup) for part in tree]
    if type(tree) is not dict:
        return tree
    if len(tree) == 1:
        ((name, body),) = tree.items()
        if name[:1] == "$":
            return _lift_tagged(name, body, lookup or classes.Lookup(returns, must_find=True))
    return {name: _lift(part, returns, lookup) for name, part in tree.items()}


def _lift_tagged(name: str, body: Any, lookup: classes.Lookup) -> Any:
    def within(part: Any) -> Any:
        return _lift(part, lookup.returns, lookup)

    try:
        if name == "$float":
            return float(body)
        if name == "$dict":
            return {within(k): within(v) for k, v in body}
        tag = tags.named(name)
        return tag.lift(body, within) if tag else classes.lift(name, body, lookup, within)
    except CodecError:
        raise
    except Exception as error:  # a damaged body fails in as many ways as there are constructors
        raise CodecError(f"stored {name} cannot be read: {error}") from error

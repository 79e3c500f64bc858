"""What a value holds, as text where it is a constant, else as parts. Nothing of the value's own code runs: attributes
are read where they are stored, past properties and `__getattr__`, and subclasses of list or dict as what they extend.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from types import EllipsisType, MemberDescriptorType, NoneType
from typing import Any

from carrara.runtime.codec import CodecError, dumps, tags
from carrara.runtime.codec.text import is_plain, quoted

_DEEPEST = 50
"""Lists in lists are one constant so deep; deeper ones are told part by part."""


def constant(value: Any) -> str | None:
    """The text of a value that is made of constants alone, None of any other. Equal values of equal types have equal
    texts in every process: the order of a dict counts, that of a set does not."""
    try:
        return _constant(value, _DEEPEST)
    except RecursionError:  # a list that contains itself
        return None


def _constant(value: Any, deep: int) -> str | None:
    kind = type(value)
    write = _ATOMS.get(kind)
    if write is not None:
        return write(value)
    if kind is list or kind is dict:
        if is_plain(value):
            with suppress(CodecError):  # an integer of very many digits
                return dumps(value)
    elif kind is not tuple and kind is not set and kind is not frozenset:
        return _tagged(value)
    if deep == 0:
        return None
    parts = []
    for part in _flat(value) if kind is dict else value:
        text = _constant(part, deep - 1)
        if text is None:
            return None
        parts.append(text)
    if kind is set or kind is frozenset:
        parts.sort()
    return f"{kind.__name__}({','.join(parts)})"


def _flat(pairs: dict[Any, Any]) -> Iterator[Any]:
    for name, part in pairs.items():
        yield name
        yield part


_ATOMS: dict[type, Callable[[Any], str]] = {
    str: quoted,
    int: hex,
    bool: repr,
    float: repr,
    complex: repr,
    bytes: repr,
    range: repr,
    NoneType: repr,
    EllipsisType: repr,
}


def _tagged(value: Any) -> str | None:
    """The text of the standard library's dates, decimals, paths and their like."""
    kind = type(value)
    module = kind.__module__
    if f"{module}.{kind.__qualname__}" in _WRITTEN or module in _WRITTEN:
        return f"{kind.__qualname__} {value}"
    tag = None if issubclass(kind, _BASES) else tags.of(kind)
    if tag is None:
        return None
    try:
        return f"{tag.name} {dumps(tag.lower(value, _same))}"
    except CodecError:
        return None


def _same(part: Any, _: str | int) -> Any:
    return part


_WRITTEN = {"ipaddress", "pydantic.networks", "datetime.timezone", "zoneinfo.ZoneInfo"} | {
    f"pydantic_core._pydantic_core.{name}" for name in ("Url", "MultiHostUrl")
}
"""Classes, and modules full of them, whose `str` says everything."""

_BASES = (list, dict, tuple, set, frozenset, deque)


def content(value: Any) -> tuple[str, Iterable[Any]] | None:
    """What an instance of a built-in type, or of a class that extends one, is beside its attributes: the built-in's
    name and the parts in order; None of others. Of a set the order is any."""
    for base, parts in _CONTENTS.items():
        if issubclass(type(value), base):
            return base.__name__, parts(value)
    return None


_CONTENTS: dict[type, Callable[[Any], Iterable[Any]]] = {
    dict: lambda value: [part for pair in dict.items(value) for part in pair],
    list: list.__iter__,
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    deque: deque.__iter__,
    str: lambda value: [str.__str__(value)],
    int: lambda value: [int.__int__(value)],
    float: lambda value: [float.__float__(value)],
    bytes: lambda value: [bytes.__getitem__(value, slice(None))],
}


def attributes(thing: Any) -> dict[str, Any]:
    """What an object itself holds, by name and sorted; what cached properties have kept is left to be made again."""
    found = dict(stored(thing))
    for kind in type(thing).__mro__:
        for name, member in vars(kind).items():
            if type(member) is MemberDescriptorType:
                with suppress(AttributeError):  # never set
                    found.setdefault(name, member.__get__(thing))
            elif isinstance(member, cached_property):
                found.pop(name, None)
    return dict(sorted(found.items()))


def stored(thing: Any) -> dict[str, Any]:
    """The dict of an object's attributes, without those in slots."""
    try:
        found = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return {name: part for name, part in dict(found).items() if isinstance(name, str)}


def form(value: Any) -> dict[str, Any] | None:
    """What a library's object says of itself by name, None where it has no form that stays the same: its state may be
    a lock, an address, the time."""
    kind = type(value)
    known = _FORMS.get(f"{kind.__module__}.{kind.__qualname__}")
    if known is not None:
        return dict(known(value))
    if issubclass(kind, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    fields = declared(kind)
    if fields is None:
        return None
    names = {*fields, "__pydantic_extra__"}
    return {name: part for name, part in attributes(value).items() if name in names}


def declared(kind: type) -> Mapping[str, Any] | None:
    """The fields of a dataclass or pydantic model by name, None of another class."""
    for base in kind.__mro__:
        for name in ("__dataclass_fields__", "__pydantic_fields__"):
            fields = vars(base).get(name)
            if isinstance(fields, dict):
                return fields
    return None


def _reduced(value: Any) -> dict[str, Any]:
    return {"reduced": value.__reduce__()}


def _picked(*names: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: getattr(value, name, None) for name in names}


_FORMS: dict[str, Callable[[Any], Mapping[str, Any]]] = {
    "re.Pattern": _picked("pattern", "flags"),
    "builtins.slice": _picked("start", "stop", "step"),
    "builtins.mappingproxy": lambda value: {"of": gc.get_referents(value)},
    "types.SimpleNamespace": attributes,
    "string.Template": attributes,
    "builtins.staticmethod": _picked("__func__"),
    "builtins.classmethod": _picked("__func__"),
    "builtins.property": _picked("fget", "fset", "fdel"),
    "functools.cached_property": _picked("func"),
    "functools.partialmethod": _picked("func", "args", "keywords"),
    "functools.singledispatchmethod": _picked("func", "dispatcher"),
    "operator.itemgetter": _reduced,
    "operator.attrgetter": _reduced,
    "operator.methodcaller": _reduced,
    "array.array": lambda value: {"type": value.typecode, "bytes": value.tobytes()},
    "collections.defaultdict": _picked("default_factory"),
    "collections.ChainMap": attributes,
    "collections.UserDict": attributes,
    "collections.UserList": attributes,
    "jinja2.environment.Template": lambda value: {
        "root": value.root_render_func.__code__,
        "blocks": {name: block.__code__ for name, block in value.blocks.items()},
    },
    "dataclasses.Field": _picked("default", "default_factory", "metadata"),
    "pydantic.fields.FieldInfo": _picked(
        "default", "default_factory", "metadata", "discriminator", "alias", "validation_alias"
    ),
    "pydantic.fields.ModelPrivateAttr": _picked("default", "default_factory"),
}

"""How values that hold others are taken apart and put together again.

Known are the standard containers, dataclasses and pydantic models: what the journal can hold. Any other object is
opaque: it is never looked into, never copied.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from operator import is_
from typing import Any

from carrara.runtime.errors import HandleError

PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
"""Types without parts that never change."""

Build = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """`apart` gives the parts of a value and a function that makes an equal value of other parts, whatever has
    become of the first one since. `mutable`: an instance can be changed in place."""

    apart: Callable[[Any], tuple[list[Any], Build]]
    mutable: bool = True


def shape_of(kind: type) -> Shape | None:
    """The shape of the instances of a class, None for opaque ones."""
    try:
        return _SHAPES[kind]
    except KeyError:
        found = _SHAPES[kind] = _work_out(kind)
        return found


def private(value: Any) -> Any:
    """`value` for one reader alone: what is mutable in it is copied, what is not is shared.

    A part that stands in it twice becomes two, as when the value is read from the journal.

    Raises:
        RecursionError: the value contains itself, or nests too deep.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is list:
        return [part if type(part) in PLAIN else private(part) for part in value]
    if kind is dict:
        return {n: part if type(part) in PLAIN else private(part) for n, part in value.items()}
    shape = shape_of(kind)
    if shape is None:
        return value
    parts, build = shape.apart(value)
    own = [part if type(part) in PLAIN else private(part) for part in parts]
    return value if not shape.mutable and all(map(is_, own, parts)) else build(own)


def private_call(
    args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of one call of a body, which may do with them what it likes."""
    own = tuple([arg if type(arg) in PLAIN else private(arg) for arg in args])
    return own, {name: private(arg) for name, arg in kwargs.items()} if kwargs else {}


def _work_out(kind: type) -> Shape | None:
    if issubclass(kind, Enum | BaseException):
        return None
    if issubclass(kind, tuple):
        return Shape(_named_tuple, mutable=False) if hasattr(kind, "_make") else None
    if issubclass(kind, list):
        return Shape(_list_like)
    if issubclass(kind, dict):
        return Shape(_dict_like)
    if dataclasses.is_dataclass(kind):
        frozen = getattr(kind, "__dataclass_params__").frozen  # noqa: B009 - mypy knows it not
        return Shape(_dataclass, mutable=not frozen) if _can_be_made(kind) else None
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_fields"):
        settings: dict[str, Any] = getattr(kind, "model_config", {})
        return Shape(_model, mutable=not settings.get("frozen", False))
    return None


def _can_be_made(kind: type) -> bool:
    """Whether an instance is nothing but its fields: not so where a built-in type is below."""
    try:
        object.__new__(kind)
    except TypeError:
        return False
    return True


def _hashable(build: Build, what: str) -> Build:
    def checked(parts: list[Any]) -> Any:
        try:
            return build(parts)
        except TypeError as error:
            raise HandleError(
                f"a value in the place of a handle cannot be {what} ({error}): pass a list of the handles"
            ) from error

    return checked


def _list(value: list[Any]) -> tuple[list[Any], Build]:
    return list(value), list


def _tuple(value: tuple[Any, ...]) -> tuple[list[Any], Build]:
    return list(value), tuple


def _set(value: Any) -> tuple[list[Any], Build]:
    return list(value), _hashable(type(value), "in a set")


def _deque(value: deque[Any]) -> tuple[list[Any], Build]:
    most = value.maxlen
    return list(value), lambda parts: deque(parts, most)


def _bytearray(value: bytearray) -> tuple[list[Any], Build]:
    held = bytes(value)
    return [], lambda parts: bytearray(held)


def _named_tuple(value: Any) -> tuple[list[Any], Build]:
    return list(value), type(value)._make


def _dict(value: dict[Any, Any]) -> tuple[list[Any], Build]:
    names = list(value)
    if all(type(name) in PLAIN for name in names):
        return list(value.values()), lambda parts: dict(zip(names, parts, strict=True))
    return [*names, *value.values()], _hashable(_paired, "a key")


def _paired(parts: list[Any]) -> dict[Any, Any]:
    half = len(parts) // 2
    return dict(zip(parts[:half], parts[half:], strict=True))


def _list_like(value: Any) -> tuple[list[Any], Build]:
    template = copy.copy(value)

    def build(parts: list[Any]) -> Any:
        made = copy.copy(template)
        made[:] = parts
        return made

    return list(value), build


def _dict_like(value: Any) -> tuple[list[Any], Build]:
    template = copy.copy(value)
    parts, pair = _dict(value)

    def build(parts: list[Any]) -> Any:
        made = copy.copy(template)
        made.clear()
        for name, part in pair(parts).items():
            made[name] = part
        return made

    return parts, build


def _dataclass(value: Any) -> tuple[list[Any], Build]:
    kind = type(value)
    state = {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if hasattr(value, field.name)
    }
    for name, part in getattr(value, "__dict__", {}).items():
        if not isinstance(getattr(kind, name, None), cached_property):
            state.setdefault(name, part)
    names = list(state)

    def build(parts: list[Any]) -> Any:
        made = object.__new__(kind)
        for name, part in zip(names, parts, strict=True):
            object.__setattr__(made, name, part)
        return made

    return list(state.values()), build


def _model(value: Any) -> tuple[list[Any], Build]:
    """Fields, extra fields and private attributes; cached properties are left to be computed again."""
    kind: Any = type(value)
    known = kind.model_fields
    held = (
        {name: part for name, part in value.__dict__.items() if name in known},
        value.__pydantic_extra__,
        value.__pydantic_private__,
    )
    places = [(at, name) for at, part in enumerate(held) for name in part or ()]
    given = set(value.__pydantic_fields_set__)

    def build(parts: list[Any]) -> Any:
        state: list[dict[str, Any] | None] = [None if part is None else {} for part in held]
        for (at, name), part in zip(places, parts, strict=True):
            inner = state[at]
            assert inner is not None
            inner[name] = part
        made = kind.__new__(kind)
        made.__setstate__(
            {
                "__dict__": state[0],
                "__pydantic_fields_set__": set(given),
                "__pydantic_extra__": state[1],
                "__pydantic_private__": state[2],
            }
        )
        return made

    return [part for inner in held for part in (inner or {}).values()], build


_SHAPES: dict[type, Shape | None] = {
    list: Shape(_list),
    tuple: Shape(_tuple, mutable=False),
    dict: Shape(_dict),
    set: Shape(_set),
    frozenset: Shape(_set, mutable=False),
    deque: Shape(_deque),
    bytearray: Shape(_bytearray),
}

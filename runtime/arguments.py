"""Arguments of a step: handles found in them become edges now and values later.

`capture` runs when a step is submitted. It copies lists and dicts, so that what the workflow does to them
afterwards does not reach the step; it puts nodes where handles were, and a `Part` where they lay deeper.
`resolve` runs when the step starts.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from carrara.runtime.errors import HandleError
from carrara.runtime.handle import Handle
from carrara.runtime.node import StepNode

_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


class Part:
    """A container with handles somewhere inside: `build` makes it again from its resolved items."""

    __slots__ = ("build", "items")

    def __init__(self, items: list[Any], build: Callable[[list[Any]], Any]) -> None:
        self.items = items
        self.build = build


def capture(value: Any, inputs: list[StepNode]) -> Any:
    """`value` as it is now; the nodes of its handles are appended to `inputs`, one for each place.

    Looks into list, tuple, set, dict, dataclass and pydantic model instances, not into other objects.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    look = _LOOK.get(kind)
    if look is None:
        look = _LOOK[kind] = _how_to_look(kind)
    return look(value, inputs)


def capture_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: list[StepNode]
) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    """`capture` for the arguments of one call; no keyword arguments become None.

    Raises:
        HandleError: an argument contains itself, or nests too deep to be looked through.
    """
    try:
        taken = tuple([a if type(a) in _PLAIN else capture(a, inputs) for a in args])
        if not kwargs:
            return taken, None
        return taken, {name: capture(value, inputs) for name, value in kwargs.items()}
    except RecursionError:
        raise HandleError(
            "an argument nests too deep, or contains itself: pass flat data, or a key to look it up by"
        ) from None


def resolve(value: Any) -> Any:
    """What `capture` returned, with the values of its nodes, all of which must have ended well."""
    kind = type(value)
    if kind is StepNode:
        return value.value
    if kind is Part:
        return value.build([i.value if type(i) is StepNode else resolve(i) for i in value.items])
    return value


def _opaque(value: Any, inputs: list[StepNode]) -> Any:
    return value


def _handle(value: Handle[Any], inputs: list[StepNode]) -> Any:
    node = value._node
    inputs.append(node)
    return node


def _sequence(value: Any, inputs: list[StepNode]) -> Any:
    before = len(inputs)
    items = []
    for item in value:
        kind = type(item)
        if kind is Handle:
            inputs.append(item._node)
            items.append(item._node)
        else:
            items.append(item if kind in _PLAIN else capture(item, inputs))
    if len(inputs) != before:
        return Part(items, type(value))
    return items if type(value) is list else type(value)(items)


def _named_tuple(value: Any, inputs: list[StepNode]) -> Any:
    before = len(inputs)
    items = [capture(v, inputs) for v in value]
    return value if len(inputs) == before else Part(items, type(value)._make)


def _dict(value: dict[Any, Any], inputs: list[StepNode]) -> Any:
    before = len(inputs)
    found = {key: v if type(v) in _PLAIN else capture(v, inputs) for key, v in value.items()}
    if len(inputs) == before:
        return found
    return Part(list(found.values()), lambda items: dict(zip(found, items, strict=True)))


def _list_like(value: Any, inputs: list[StepNode]) -> Any:
    before = len(inputs)
    items = [capture(v, inputs) for v in value]

    def build(found: list[Any]) -> Any:
        made = copy.copy(value)
        made[:] = found
        return made

    return value if len(inputs) == before else Part(items, build)


def _dict_like(value: Any, inputs: list[StepNode]) -> Any:
    before = len(inputs)
    names = list(value)
    items = [capture(value[name], inputs) for name in names]

    def build(found: list[Any]) -> Any:
        made = copy.copy(value)
        for name, item in zip(names, found, strict=True):
            made[name] = item
        return made

    return value if len(inputs) == before else Part(items, build)


def _dataclass(value: Any, inputs: list[StepNode]) -> Any:
    return _object(value, [f.name for f in dataclasses.fields(value)], inputs)


def _model(value: Any, inputs: list[StepNode]) -> Any:
    return _object(value, list(type(value).model_fields), inputs)


def _object(value: Any, names: list[str], inputs: list[StepNode]) -> Any:
    before = len(inputs)
    names = [name for name in names if hasattr(value, name)]
    items = [capture(getattr(value, name), inputs) for name in names]

    def build(found: list[Any]) -> Any:
        made = copy.copy(value)
        for name, item in zip(names, found, strict=True):
            object.__setattr__(made, name, item)
        return made

    return value if len(inputs) == before else Part(items, build)


Look = Callable[[Any, list[StepNode]], Any]
_LOOK: dict[type, Look] = {
    Handle: _handle,
    list: _sequence,
    tuple: _sequence,
    set: _sequence,
    frozenset: _sequence,
    dict: _dict,
}


def _how_to_look(kind: type) -> Look:
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        return _named_tuple
    if issubclass(kind, list):
        return _list_like
    if issubclass(kind, dict):
        return _dict_like
    if dataclasses.is_dataclass(kind):
        return _dataclass
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_fields"):
        return _model
    return _opaque

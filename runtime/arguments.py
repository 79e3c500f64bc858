"""Arguments of a step: handles found in them become edges now and values later.

`capture` runs when a step is submitted. It takes the argument as it is now, so that what the workflow does to it
afterwards does not reach the step; it puts nodes where handles were, and a `Part` where they lay deeper.
`resolve` runs when the step starts. What it gives belongs to the step alone, whose body may do with it what it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import is_
from types import FunctionType, GeneratorType, ModuleType
from typing import Any

from carrara.runtime.errors import HandleError
from carrara.runtime.handle import Handle
from carrara.runtime.node import StepNode
from carrara.runtime.shapes import PLAIN, Build, Shape, private, shape_of


class Part:
    """A container with handles somewhere inside: `build` makes it again from its resolved items."""

    __slots__ = ("build", "items")

    def __init__(self, items: list[Any], build: Build) -> None:
        self.items = items
        self.build = build


def capture(value: Any, inputs: list[StepNode]) -> Any:
    """`value` as it is now; the nodes of its handles are appended to `inputs`, one for each place.

    Looks into the standard containers (keys of dicts and members of sets, too), dataclasses and pydantic
    models; views of a dict become lists.

    Raises:
        HandleError: a handle lies in another object, where no step would find its value; or an argument can be
            read only once, such as a generator.
    """
    kind = type(value)
    if kind in PLAIN:
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
        HandleError: see `capture`; or an argument contains itself, or nests too deep to be looked through.
    """
    try:
        taken = tuple([a if type(a) in PLAIN else capture(a, inputs) for a in args])
        if not kwargs:
            return taken, None
        return taken, {name: capture(value, inputs) for name, value in kwargs.items()}
    except RecursionError:
        raise HandleError(
            "an argument nests too deep, or contains itself: pass flat data, or a key to look it up by"
        ) from None


def resolve(value: Any) -> Any:
    """What `capture` returned, with copies of the values of its nodes, all of which must have ended well."""
    kind = type(value)
    if kind is StepNode:
        found = value.value
        return found if type(found) in PLAIN else private(found)
    if kind is Part:
        return value.build([i if type(i) in PLAIN else resolve(i) for i in value.items])
    return value


def _handle(value: Handle[Any], inputs: list[StepNode]) -> Any:
    node = value._node
    inputs.append(node)
    return node


def _list(value: list[Any], inputs: list[StepNode]) -> Any:
    before = len(inputs)
    items = []
    for item in value:
        kind = type(item)
        if kind is Handle:
            inputs.append(item._node)
            items.append(item._node)
        else:
            items.append(item if kind in PLAIN else capture(item, inputs))
    return items if len(inputs) == before else Part(items, list)


def _shaped(shape: Shape, value: Any, inputs: list[StepNode]) -> Any:
    before = len(inputs)
    parts, build = shape.apart(value)
    items = [part if type(part) in PLAIN else capture(part, inputs) for part in parts]
    if len(inputs) != before:
        return Part(items, build)
    return value if not shape.mutable and all(map(is_, items, parts)) else build(items)


def _view(value: Iterable[Any], inputs: list[StepNode]) -> Any:
    return _list(list(value), inputs)


def _opaque(value: Any, inputs: list[StepNode]) -> Any:
    return value


def _refused(value: Any, inputs: list[StepNode]) -> Any:
    raise HandleError(
        f"an argument is a {type(value).__name__}, which can be read only once: write list(...) around it"
    )


def _searched(value: Any, inputs: list[StepNode]) -> Any:
    """An object that is handed on as it is, unless a handle lies just inside."""
    held = getattr(value, "__dict__", None) or {}
    if type(value) is partial:
        held = {"args": value.args, "keywords": value.keywords}
    for name, part in held.items():
        found = _first_handle(part)
        if found is not None:
            raise HandleError(
                f"the attribute {name!r} of a {type(value).__name__} holds {found!r}: values are not filled in "
                "there. Await the handle first, pass it as an argument of its own, or use a dataclass"
            )
    return value


def _first_handle(part: Any) -> Handle[Any] | None:
    if type(part) is Handle:
        return part
    if type(part) is dict:
        part = part.values()
    elif type(part) not in (list, tuple, set, frozenset):
        return None
    return next((item for item in part if type(item) is Handle), None)


Look = Callable[[Any, list[StepNode]], Any]
_LOOK: dict[type, Look] = {Handle: _handle, list: _list, FunctionType: _opaque, ModuleType: _opaque}
_LOOK |= dict.fromkeys((type({}.keys()), type({}.values()), type({}.items())), _view)
_LOOK |= dict.fromkeys((GeneratorType, map, filter, zip, enumerate, reversed), _refused)


def _how_to_look(kind: type) -> Look:
    shape = shape_of(kind)
    if shape is not None:
        return partial(_shaped, shape)
    if kind is partial or (kind.__dictoffset__ and not issubclass(kind, type)):
        return _searched
    return _opaque

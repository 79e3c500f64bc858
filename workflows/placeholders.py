"""Handles of a trace: they stand for a step and hold a made-up value of its type."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from carrara.runtime.handle import Handle


class Stand(NamedTuple):
    """What a handle says of its step when it is misused."""

    path: str
    state_name: str = "planned"


class Placeholder(Handle[Any]):
    """The handle of a planned step. `id` is the step's in the plan; `seen` is called when it is awaited."""

    __slots__ = ("_seen", "id", "value")

    def __init__(self, id: str, value: Any, seen: Callable[[], None]) -> None:
        super().__init__(Stand(id))  # type: ignore[arg-type]  # there is no node behind it
        self.id = id
        self.value = value
        self._seen = seen

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        self._seen()
        return self.value

    def cancel(self, reason: str = "") -> None:
        return None


@dataclass(slots=True)
class Arguments:
    """Arguments with values in place of placeholders; `sources` are the ids of those, without repeats."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sources: list[str]


def filled(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """Fill in the values of all placeholders, wherever the runtime would look for handles."""
    sources: dict[str, None] = {}
    values = tuple(_filled(value, sources) for value in args)
    named = {name: _filled(value, sources) for name, value in kwargs.items()}
    return Arguments(values, named, list(sources))


def _filled(value: Any, sources: dict[str, None]) -> Any:
    match value:
        case Placeholder():
            sources[value.id] = None
            return value.value
        case list() | set() | frozenset():
            return type(value)(_filled(part, sources) for part in value)
        case tuple():
            items = [_filled(part, sources) for part in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        case dict():
            made = copy.copy(value)
            made.update({key: _filled(part, sources) for key, part in value.items()})
            return made
        case type():
            return value
    fields = _field_names(value)
    parts = {name: _filled(getattr(value, name), sources) for name in fields}
    if all(part is getattr(value, name) for name, part in parts.items()):
        return value
    made = copy.copy(value)
    for name, part in parts.items():
        object.__setattr__(made, name, part)
    return made


def _field_names(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list(getattr(type(value), "model_fields", ()))
    return [name for name in names if hasattr(value, name)]

"""Which classes an annotation speaks of, directly or through the fields of the classes it names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, get_args, get_type_hints


def classes_in(annotation: Any) -> Mapping[str, tuple[type, ...]]:
    """The classes of an annotation by qualified name; one name may stand for several."""
    try:
        return _classes_in(annotation)
    except TypeError:  # an annotation that cannot be hashed, such as one with a list in Annotated
        return _collect(annotation)


@lru_cache(maxsize=512)
def _classes_in(annotation: Any) -> Mapping[str, tuple[type, ...]]:
    return _collect(annotation)


def _collect(annotation: Any) -> Mapping[str, tuple[type, ...]]:
    found: dict[str, tuple[type, ...]] = {}
    seen: set[int] = set()
    todo = [annotation]
    while todo:
        part = todo.pop()
        if id(part) in seen or isinstance(part, str):
            continue
        seen.add(id(part))
        todo.extend(get_args(part))
        if isinstance(part, type) and part.__module__ != "builtins":
            found[part.__qualname__] = (*found.get(part.__qualname__, ()), part)
            todo.extend(_field_types(part))
    return found


def _field_types(kind: type) -> Iterator[Any]:
    fields = getattr(kind, "model_fields", None)
    if isinstance(fields, dict):
        yield from (field.annotation for field in fields.values())
    elif dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        try:
            yield from get_type_hints(kind).values()
        except (NameError, TypeError):  # a name that only a type checker sees
            yield from getattr(kind, "__annotations__", {}).values()

"""References inside a JSON Schema that lead nowhere. Nothing is fetched: each has to lead to a part of its own schema,
or to a published meta-schema of JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Path = tuple[str | int, ...]


class _Reference(NamedTuple):
    """`ref` as it stands at `path`, seen from a place in the schema that `resolver` knows."""

    path: Path
    ref: str
    resolver: Any


def dangling(schema: Any) -> Iterator[tuple[Path, str]]:
    """The path to each `$ref` and `$dynamicRef` that leads to no schema, and why. What stands in `enum`, `const` and
    the like is data, and no reference. `schema` fits the meta-schema of draft 2020-12.
    """
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012

    places = _places(schema)
    seen: set[int] = set()
    root = REGISTRY.resolver_with_root(DRAFT202012.create_resource(schema))
    left = _references(schema, root, places, seen)
    while left:
        path, ref, resolver = left.pop(0)
        found = _resolved(resolver, ref)
        if found is None or not _is_schema(found.contents, seen):
            yield path, f"{ref!r} leads to no schema in this one, and nothing outside is fetched"
        else:
            left += _references(found.contents, found.resolver, places, seen)


def _references(
    part: Any, resolver: Any, places: Mapping[int, Path], seen: set[int]
) -> list[_Reference]:
    """The references in a schema and in the schemas inside it, without those that were `seen`."""
    from referencing.jsonschema import DRAFT202012

    found: list[_Reference] = []
    left = [(part, resolver)]
    while left:
        part, resolver = left.pop()
        if not isinstance(part, Mapping) or id(part) in seen or id(part) not in places:
            continue
        seen.add(id(part))
        path = places[id(part)]
        found += [
            _Reference((*path, key), part[key], resolver)
            for key in ("$ref", "$dynamicRef")
            if key in part
        ]
        for inner in DRAFT202012.create_resource(part).subresources():
            resource = DRAFT202012.create_resource(inner.contents)
            left.append((inner.contents, resolver.in_subresource(resource)))
    return found


def _resolved(resolver: Any, ref: str) -> Any:
    """What a reference leads to, None for nothing."""
    from referencing.exceptions import Unresolvable

    try:
        return resolver.lookup(ref)
    except (
        Unresolvable,
        ValueError,
        TypeError,
    ):  # also a place behind a number or a text, or no URL
        return None


def _is_schema(found: Any, seen: set[int]) -> bool:
    """Whether it is one of those `seen`, or looks like one where no keyword says so."""
    from jsonschema import Draft202012Validator

    if id(found) in seen:
        return True
    meta = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    return isinstance(found, bool | Mapping) and bool(meta.is_valid(found))


def _places(schema: Any) -> dict[int, Path]:
    """The path to every object in a schema, by its identity."""
    found: dict[int, Path] = {}
    left: list[tuple[Any, Path]] = [(schema, ())]
    while left:
        part, path = left.pop()
        if isinstance(part, Mapping):
            found[id(part)] = path
            left += [(inner, (*path, key)) for key, inner in part.items()]
        elif isinstance(part, list):
            left += [(inner, (*path, at)) for at, inner in enumerate(part)]
    return found


__all__ = ["Path", "dangling"]

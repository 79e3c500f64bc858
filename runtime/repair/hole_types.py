"""The type of a lost JSON value: what the schema says, else what its siblings are, else any scalar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ANY = "any"
"""A string, a number or a boolean: the engine that fills the hole decides."""
_NAMES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}
_MOST_REFERENCES = 16
Place = tuple[str | int, ...]


def type_at(schema: Mapping[str, Any], value: Any, path: Place) -> tuple[str, tuple[Any, ...]]:
    """The type of the value at `path`, and the values that the schema allows there if it lists them."""
    kind, options = _schema_type(schema, path)
    return kind or _sibling_type(value, path), options


def _schema_type(schema: Mapping[str, Any], path: Place) -> tuple[str, tuple[Any, ...]]:
    """The one type that the schema names for a path, "" where it names none; null beside another does not count."""
    node = _node(schema, path)
    given = node.get("enum", (node["const"],) if "const" in node else ())
    options = tuple(option for option in given if isinstance(option, str | int | float))
    named = node.get("type", ())
    kinds = {named} if isinstance(named, str) else set(named)
    kinds = (kinds or {_NAMES[type(option)] for option in options}) - {"null"}
    return (kinds.pop() if len(kinds) == 1 else ANY if kinds else ""), options


def schema_at(schema: Mapping[str, Any], path: Place) -> Mapping[str, Any]:
    """The schema of the value at `path`, with the definitions that it may refer to; empty where it is not said."""
    node = _node(schema, path)
    shared = {word: schema[word] for word in ("$defs", "definitions") if word in schema}
    return {**node, **shared} if node else {}


def _node(schema: Mapping[str, Any], path: Place) -> Mapping[str, Any]:
    node = _resolved(schema, schema)
    for part in path:
        inner = (
            node.get("items")
            if isinstance(part, int)
            else node.get("properties", {}).get(part, node.get("additionalProperties"))
        )
        node = _resolved(schema, inner)
    return node


def _resolved(schema: Mapping[str, Any], node: Any) -> Mapping[str, Any]:
    """The node with references within the schema followed, and a union of one type with null taken for that type."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(node, dict):
            return {}
        branches = [b for b in node.get("anyOf", ()) if b != {"type": "null"}]
        target = node.get("$ref")
        if isinstance(target, str) and target.startswith("#/"):
            node = schema
            for part in target[2:].split("/"):
                name = part.replace("~1", "/").replace("~0", "~")
                node = node.get(name, {}) if isinstance(node, Mapping) else {}
        elif len(branches) == 1:
            node = branches[0]
        else:
            return node
    return {}


def _sibling_type(value: Any, path: Place) -> str:
    """The type of the values that stand at the same place in other items of a list, else of the scalars under the
    same key anywhere; "any" where they differ or where there are none."""
    name, place = _label(path), 0
    for part in path:
        place = _step(place, part)
    same: set[str] = set()
    named: set[str] = set()
    for label, at, inner in _labelled(value):
        kind = _NAMES[type(inner)]
        if at == place:
            same.add(kind)
        elif label == name and kind not in ("array", "object"):
            named.add(kind)
    return _one_of(same) or _one_of(named) or ANY


def _one_of(kinds: set[str]) -> str:
    if kinds == {"integer", "number"}:
        return "number"
    return next(iter(kinds)) if len(kinds) == 1 else ANY if kinds else ""


def _step(place: int, part: str | int) -> int:
    """A place in a value, all positions in a list counting as one, without the length of its path."""
    return hash((place, part if isinstance(part, str) else 0))


def _label(path: Place) -> tuple[str, int]:
    """The last key on the way, and how many lists deep the value stands in it."""
    depth = 0
    for part in reversed(path):
        if isinstance(part, str):
            return part, depth
        depth += 1
    return "", depth


def _labelled(value: Any) -> Iterator[tuple[tuple[str, int], int, Any]]:
    """All values that say something about their kind: label, place, value."""
    left: list[tuple[tuple[str, int], int, Any]] = [(("", 0), 0, value)]
    while left:
        (key, depth), place, part = left.pop()
        if part is not None and part != "":
            yield (key, depth), place, part
        if isinstance(part, dict):
            left += [((name, 0), _step(place, name), inner) for name, inner in part.items()]
        elif isinstance(part, list):
            left += [((key, depth + 1), _step(place, 0), inner) for inner in part]


__all__ = ["ANY", "Place", "schema_at", "type_at"]

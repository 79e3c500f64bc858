"""The parts of a JSON Schema, each equal one once: equal parts are one object, so that what was found out about a part
is known by its identity wherever it stands again.

What a keyword asks is all that counts here. Keywords that ask nothing (titles, defaults, examples, those of OpenAPI,
names of one's own) are annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_ASKING = frozenset(
    (
        *("$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if"),
        *("dependentSchemas", "dependentRequired", "dependencies", "type", "enum", "const"),
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties", "unevaluatedProperties"),
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"),
        *("contains", "minLength", "maxLength", "pattern", "format", "multipleOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    )
)


def asks_anything(schema: Any) -> bool:
    """Whether not every value fits a schema."""
    return schema is False or (isinstance(schema, dict) and not _ASKING.isdisjoint(schema))


def constants(schema: Schema) -> list[Any] | None:
    """The values that a plain schema lists, None if it lists none."""
    if "enum" in schema:
        return list(schema["enum"])
    match schema.get("type"):
        case "null":
            return [None]
        case "boolean":
            return [True, False]
    return None


def member_schema(schema: Schema, key: str) -> Any:
    """The schema of an object's property, False if it may not have it."""
    if key in schema.get("properties", {}):
        return schema["properties"][key]
    return schema.get("additionalProperties", True)


def item_schema(schema: Schema, number: int) -> Any:
    """The schema of an array's item, False if it may not have so many."""
    fixed = schema.get("prefixItems", ())
    return fixed[number] if number < len(fixed) else schema.get("items", True)


def inner_schemas(schema: Schema) -> Iterator[Any]:
    """The schemas of what a value of a plain object or array schema may contain."""
    for word in ("properties", "patternProperties"):
        yield from schema.get(word, {}).values()
    yield from schema.get("prefixItems", ())
    for word in ("additionalProperties", "items"):
        if word in schema:
            yield schema[word]


class Parts:
    """The parts of one root schema, and those that are made of them."""

    def __init__(self, root: Any) -> None:
        self._known: dict[Any, Any] = {}
        self._own: set[int] = set()
        self._asked: dict[int, Any] = {}
        self._whole: dict[frozenset[int], Any] = {}
        self._made: set[int] = set()
        self.root: Any = self.shared(root)

    def shared(self, value: Any) -> Any:
        """The one object that stands for all that are equal to `value`."""
        if not isinstance(value, dict | list) or id(value) in self._own:
            return value
        if isinstance(value, dict):
            inner: Any = {key: self.shared(part) for key, part in value.items()}
            key: Any = tuple((name, _key(part)) for name, part in inner.items())
        else:
            inner = [self.shared(part) for part in value]
            key = (list, *map(_key, inner))
        found = self._known.setdefault(key, inner)
        self._own.add(id(found))
        return found

    def asked(self, schema: Any) -> Any:
        """A shared schema without its annotations: True where it asks nothing."""
        if not isinstance(schema, dict):
            return schema
        assert id(schema) in self._own
        if id(schema) not in self._asked:
            kept = {key: value for key, value in schema.items() if key in _ASKING}
            self._asked[id(schema)] = self.shared(kept) if kept else True
        return self._asked[id(schema)]

    def whole(self, *schemas: Any) -> Any:
        """One schema that asks what several shared ones ask together, whatever their order."""
        parts: dict[int, Any] = {}
        waiting = list(reversed(schemas))
        while waiting:
            part = self.asked(waiting.pop())
            if part is False:
                return False
            if isinstance(part, dict) and part.keys() == {"allOf"}:
                waiting += reversed(part["allOf"])
            elif part is not True:
                parts[id(part)] = part
        if len(parts) < 2:
            return next(iter(parts.values()), True)
        key = frozenset(parts)
        if key not in self._whole:
            before = len(self._own)
            found = self._whole[key] = self.shared({"allOf": list(parts.values())})
            if len(self._own) > before:
                self._made.add(id(found))
        return self._whole[key]

    def is_made(self, schema: Any) -> bool:
        """Whether `whole` made it and it stands nowhere in the root, so that its `allOf` is no place there."""
        return id(schema) in self._made


def _key(part: Any) -> Any:
    """What tells shared parts and plain values apart: 1 is not true, nor 1.0."""
    return id(part) if isinstance(part, dict | list) else (type(part), part)


__all__ = [
    "Parts",
    "Schema",
    "asks_anything",
    "constants",
    "inner_schemas",
    "item_schema",
    "member_schema",
]

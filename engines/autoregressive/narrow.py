"""JSON Schemas narrowed to what a decoder should write: every value of the narrowed one fits the
original.

A schema says what is accepted, and that is often more than anybody wants generated: keys nobody
declared, strings without end. Small models lose themselves there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from carrara.engines.json_schema import validator

# Where schemas stand inside a schema: one, a list of them, or a mapping to them.
_ONE = ("items", "additionalProperties")
_MANY = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions", "patternProperties")

# Under these a narrower part can make the whole wider, or impossible: a schema with any of them is left
# alone.
_ENTANGLED = frozenset(
    {"allOf", "not", "if", "dependentSchemas", "unevaluatedProperties", "contains"}
)

_FIXED = ("enum", "const")
_BOUNDED = ("maxLength", "pattern", "format", *_FIXED)
_RANGE = {"minimum": -(10**15), "maximum": 10**15}


def narrowed(schema: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """`schema` with these habits changed, at every depth:

    - a string without a bound of its own gets `maxLength` = `longest` characters, a number without
      bounds stays between -10**15 and 10**15;
    - an object with declared properties takes no others, unless it says that it does;
    - a mapping whose keys are listed (`propertyNames` with an enum) takes them by a pattern, which llguidance knows;
    - a property that may be left out but could also be null or an empty list is asked for: saying
      "nothing" is better evidence than silence, which small models fall into early.

    Raises:
        CarraraError: it is no JSON Schema; says which part is wrong.
    """
    validator(json.dumps(schema))
    if _ENTANGLED & _keywords(schema):
        return dict(schema)
    found: dict[str, Any] = _narrowed(schema, longest, schema)
    return found


def was_cut(value: Any, longest: int) -> bool:
    """Whether a string in `value` is exactly as long as the bound that `narrowed` set: it ended there."""
    match value:
        case str():
            return len(value) == longest
        case list():
            return any(was_cut(part, longest) for part in value)
        case dict():
            return any(was_cut(part, longest) for part in value.values())
        case _:
            return False


def _narrowed(schema: Any, longest: int, root: Mapping[str, Any]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    new = _with_key_pattern(schema)
    for key in _ONE:
        if key in new:
            new[key] = _narrowed(new[key], longest, root)
    for key in _MANY:
        if isinstance(new.get(key), list):
            new[key] = [_narrowed(part, longest, root) for part in new[key]]
    for key in _NAMED:
        if isinstance(new.get(key), Mapping):
            new[key] = {name: _narrowed(part, longest, root) for name, part in new[key].items()}
    if "string" in _types(schema) and not any(key in schema for key in _BOUNDED):
        new["maxLength"] = max(longest, int(schema.get("minLength", 0)))
    if {"number", "integer"} & set(_types(schema)) and not any(key in schema for key in _FIXED):
        new |= _missing_sides(schema)
    if isinstance(schema.get("properties"), Mapping) and not _takes_more(schema):
        new["additionalProperties"] = False
        new["required"] = _asked_for(schema, root)
    return new


def _with_key_pattern(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with listed keys, those as a pattern; any other schema as it is."""
    names = schema.get("propertyNames")
    listed = names.get("enum") if isinstance(names, Mapping) else None
    if not listed or schema.get("properties") or schema.get("patternProperties"):
        return dict(schema)
    rest = {key: part for key, part in schema.items() if key != "propertyNames"}
    keys = "|".join(re.escape(name) for name in listed if isinstance(name, str))
    values = schema.get("additionalProperties", True)
    return {**rest, "patternProperties": {f"^({keys})$": values}, "additionalProperties": False}


def _missing_sides(schema: Mapping[str, Any]) -> dict[str, int]:
    """The bounds that a number lacks, unless the one it has lies beyond them."""
    given = {
        side: [
            f for k in (side, f"exclusive{side.capitalize()}") if (f := schema.get(k)) is not None
        ]
        for side in _RANGE
    }
    if any(abs(bound) >= 10**15 for bounds in given.values() for bound in bounds):
        return {}
    return {side: bound for side, bound in _RANGE.items() if not given[side]}


def _asked_for(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    required = set(schema.get("required", ()))
    return [
        name
        for name, part in schema["properties"].items()
        if name in required or _can_be_nothing(part, root)
    ]


def _can_be_nothing(schema: Any, root: Mapping[str, Any], depth: int = 4) -> bool:
    """Whether null or an empty list fits `schema`."""
    if not isinstance(schema, Mapping) or depth == 0:
        return False
    types = _types(schema)
    if "null" in types or ("array" in types and not schema.get("minItems")):
        return "enum" not in schema and "const" not in schema
    parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if target := _target(schema.get("$ref"), root):
        parts.append(target)
    return any(_can_be_nothing(part, root, depth - 1) for part in parts)


def _target(ref: Any, root: Mapping[str, Any]) -> Any:
    """What a reference inside the document points at, None for other references."""
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return None
    found: Any = root
    for part in ref[2:].split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _takes_more(schema: Mapping[str, Any]) -> bool:
    return "additionalProperties" in schema or "patternProperties" in schema or "$ref" in schema


def _types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    found = schema.get("type", ())
    return (found,) if isinstance(found, str) else tuple(found)


def _keywords(schema: Any) -> set[str]:
    """All keys at all depths; names of properties count too, which only makes the caller more careful."""
    match schema:
        case Mapping():
            return set(schema).union(*map(_keywords, schema.values()))
        case list():
            return set().union(*map(_keywords, schema))
        case _:
            return set()

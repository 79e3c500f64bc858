"""The strict dialect of JSON Schema that hosted services hold: objects with all keys required and no others.

A key that may be left out becomes one that may be null, where its schema takes null; if it does not, the schema does
not fit. Keywords that the dialect lacks are left out, which makes the schema wider: the answer is checked against the
contract's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEPT = (
    "type",
    "enum",
    "const",
    "description",
    "title",
    "$ref",
    "anyOf",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "$defs",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "pattern",
    "format",
)
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_FATAL = (
    "allOf",
    "not",
    "if",
    "patternProperties",
    "propertyNames",
    "prefixItems",
    "dependentSchemas",
)


def fits_strict(schema: Any) -> bool:
    """Whether `strict(schema)` lets through everything that is needed: no open mappings, no optional key that could
    not be null, nothing that only other keywords can say."""
    match schema:
        case Mapping():
            if any(key in schema for key in _FATAL) or not _closed(schema):
                return False
            return all(fits_strict(part) for part in _parts(schema))
        case bool():
            return False
        case _:
            return True


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` in the strict dialect; see `fits_strict`."""
    new = {key: value for key, value in schema.items() if key in _KEPT}
    if new.get("format") not in (None, *_FORMATS):
        del new["format"]
    if isinstance(schema.get("oneOf"), list):
        new["anyOf"] = schema["oneOf"]
    for key in ("properties", "$defs"):
        if isinstance(new.get(key), Mapping):
            new[key] = {name: _deeper(part) for name, part in new[key].items()}
    if "items" in new:
        new["items"] = _deeper(new["items"])
    if isinstance(new.get("anyOf"), list):
        new["anyOf"] = [_deeper(part) for part in new["anyOf"]]
    if "properties" in new:
        new["required"] = list(new["properties"])
        new["additionalProperties"] = False
    return new


def _deeper(part: Any) -> Any:
    return strict(part) if isinstance(part, Mapping) else part


def _closed(schema: Mapping[str, Any]) -> bool:
    is_object = schema.get("type") == "object" or "properties" in schema
    if not is_object:
        return True
    if schema.get("additionalProperties") not in (None, False):
        return False
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return False
    optional = set(properties) - set(schema.get("required", ()))
    return all(_takes_null(properties[name]) for name in optional)


def _takes_null(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    kind = schema.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    if kind == "array" and not schema.get("minItems"):
        return True  # an empty list says the same
    return any(_takes_null(part) for key in ("anyOf", "oneOf") for part in schema.get(key, ()))


def _parts(schema: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for key in ("properties", "$defs"):
        if isinstance(schema.get(key), Mapping):
            found += schema[key].values()
    for key in ("anyOf", "oneOf"):
        found += schema.get(key, ())
    return [*found, *([schema["items"]] if "items" in schema else [])]


__all__ = ["fits_strict", "strict"]

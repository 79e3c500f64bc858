"""`nullable: true` of OpenAPI 3.0, which JSON Schema does not know, as the JSON Schema that people mean by it."""

from __future__ import annotations

from typing import Any

_MAPS = frozenset(
    ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "schemas")
)
"""Keywords whose keys are names, each with a schema (`schemas`: of OpenAPI's `components`)."""
_DATA = frozenset(("const", "enum", "default", "example", "examples"))
_COMPOSED = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if")
_BESIDE = frozenset(
    (
        "$schema",
        "$id",
        "$anchor",
        "$defs",
        "definitions",
        "components",
        "title",
        "description",
        "default",
    )
)


def with_nulls(schema: Any) -> Any:
    """A JSON Schema in which each part that is `nullable` takes null, in the words of JSON Schema."""
    if isinstance(schema, list):
        return [with_nulls(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            found[key] = {name: with_nulls(part) for name, part in value.items()}
        elif key in _DATA or key.startswith("x-"):
            found[key] = value
        else:
            found[key] = with_nulls(value)
    return _or_null(found) if found.get("nullable") is True else found


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in schema.items() if key != "nullable"}
    if any(key in found for key in _COMPOSED):
        asked = {key: value for key, value in found.items() if key not in _BESIDE}
        beside = {key: value for key, value in found.items() if key in _BESIDE}
        return {**beside, "anyOf": [asked, {"type": "null"}]}
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if "enum" in found and None not in found["enum"]:
        found["enum"] = [*found["enum"], None]
    if "type" in found:
        types = found["type"] if isinstance(found["type"], list) else [found["type"]]
        found["type"] = types if "null" in types else [*types, "null"]
    return found


__all__ = ["with_nulls"]

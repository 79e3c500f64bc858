"""The shape of a contract in a word or two: by it an adapter says what it has learnt, and a router what it expects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from carrara.engines.contract import Contract, Json

NESTED = "nested json"
SHAPES = ("text", "choice", "json", NESTED, "table", "outline", "regex", "infill")


def shape_of(contract: Contract) -> str:
    """The contract's kind; "nested json" for JSON with lists or objects inside its fields."""
    if isinstance(contract, Json) and _is_nested(contract.schema_text):
        return NESTED
    return contract.kind


@lru_cache(1024)
def _is_nested(schema_text: str) -> bool:
    """Whether a field holds a list or an object, or the whole is a list. `$ref`s point into the schema."""
    schema = json.loads(schema_text)
    top = list(_alternatives(schema, schema, frozenset()))
    if any(
        one.get("type") == "array" or ("additionalProperties" in one and _maps(one)) for one in top
    ):
        return True
    fields = (field for one in top for field in one.get("properties", {}).values())
    inner = (one for field in fields for one in _alternatives(field, schema, frozenset()))
    return any(one.get("type") in ("array", "object") or "properties" in one for one in inner)


def _maps(schema: Mapping[str, Any]) -> bool:
    """Whether an object has keys of its own choice."""
    return isinstance(schema["additionalProperties"], Mapping)


def _alternatives(
    schema: Any, root: Mapping[str, Any], seen: frozenset[str]
) -> Iterator[Mapping[str, Any]]:
    """The schema with its references and alternatives followed."""
    if not isinstance(schema, Mapping):
        return
    ref = schema.get("$ref")
    if isinstance(ref, str):
        if ref not in seen:
            yield from _alternatives(_at(ref, root), root, seen | {ref})
        return
    yield schema
    for key in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(key, ()):
            yield from _alternatives(one, root, seen)


def _at(ref: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) and name else found
    return found


__all__ = ["NESTED", "SHAPES", "shape_of"]

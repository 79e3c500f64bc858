"""The JSON Schema that a few values have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

NULL_THROUGHOUT = "is null in every example, so it is taken for a text"
EMPTY_THROUGHOUT = "is an empty list in every example, so its items are taken for texts"
GUESSES = (NULL_THROUGHOUT, EMPTY_THROUGHOUT)
"""What stands under `$comment` where the values do not show a type."""


def inferred(values: Sequence[Any]) -> dict[str, Any]:
    """A schema that all `values` hold to. A key that some objects lack is not required; texts that are all ISO dates
    are dates; kinds that do not go together leave anything open. What is null or an empty list throughout is a guess,
    and says so under `$comment`."""
    there = [value for value in values if value is not None]
    if values and not there:
        return {"type": ["string", "null"], "$comment": NULL_THROUGHOUT}
    found = _of(there) if there else {}
    if len(there) < len(values) and "type" in found:
        return {**found, "type": [found["type"], "null"]}
    return found


def _of(values: Sequence[Any]) -> dict[str, Any]:
    if all(isinstance(value, bool) for value in values):
        return {"type": "boolean"}
    if any(isinstance(value, bool) for value in values):
        return {}
    if all(isinstance(value, int) for value in values):
        return {"type": "integer"}
    if all(isinstance(value, int | float) for value in values):
        return {"type": "number"}
    if all(isinstance(value, str) for value in values):
        dates = all(_is_date(value) for value in values)
        return {"type": "string", "format": "date"} if dates else {"type": "string"}
    if all(isinstance(value, list) for value in values):
        items = [item for value in values for item in value]
        of_items = {"type": "string", "$comment": EMPTY_THROUGHOUT}
        return {"type": "array", "items": inferred(items) if items else of_items}
    if all(isinstance(value, Mapping) for value in values):
        return _object(values)
    return {}


def _object(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(key for value in values for key in value))
    if not names:
        return {"type": "object"}
    return {
        "type": "object",
        "properties": {
            name: inferred([value[name] for value in values if name in value]) for name in names
        },
        "required": [name for name in names if all(name in value for value in values)],
    }


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == 10


__all__ = ["inferred"]

"""JSON values compared as JSON Schema does, not as Python does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any


def exact(value: Any) -> Decimal:
    """A number of JSON, exact in decimal: a float as it is written."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values in order, equal ones once."""
    found: dict[Any, Any] = {}
    others: list[Any] = []
    for value in values:
        if isinstance(value, list | dict):
            if not any(json_equal(value, other) for other in others):
                others.append(value)
                found[len(others), list] = value
        else:
            found.setdefault((value, bool if isinstance(value, bool) else None), value)
    return list(found.values())


def json_equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, and true is not 1."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(json_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(json_equal, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


__all__ = ["distinct", "exact", "json_equal"]

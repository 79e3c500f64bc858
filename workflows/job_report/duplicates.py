"""Rows that say the same under different keys: perhaps one document came twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FEWEST_VALUES = 3
"""Rows with fewer filled values are alike by chance: labels, say."""


@dataclass(frozen=True, slots=True)
class Alike:
    """`count` rows with equal values; the first of their keys in input order."""

    count: int
    keys: list[str]


def values_hash(fields: Mapping[str, Any]) -> int | None:
    """Equal for rows with equal values, for which case and white space do not count; None for a row with few values."""
    values = tuple(_values({name: part for name, part in fields.items() if name != "key"}, ""))
    return hash(values) if len(values) >= FEWEST_VALUES else None


def _values(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    """The filled leaves with their places."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _values(value[key], f"{at}/{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _values(part, f"{at}/{index}")
    elif isinstance(value, str):
        if words := " ".join(value.casefold().split()):
            yield at, words
    elif value is not None:
        yield at, value


__all__ = ["FEWEST_VALUES", "Alike", "values_hash"]

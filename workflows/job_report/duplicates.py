"""Rows that say the same under different keys: perhaps one document came twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrara.workflows.job_report.facts import JobRow

FEWEST_VALUES = 3
"""Rows with fewer filled values are alike by chance: labels, say."""


def duplicates(rows: Iterable[JobRow]) -> list[list[str]]:
    """The keys of rows with equal values, group by group in input order; case and white space do not count."""
    groups: dict[int, list[str]] = {}
    for row in rows:
        values = tuple(_values({k: v for k, v in row.fields.items() if k != "key"}, ""))
        if len(values) >= FEWEST_VALUES:
            groups.setdefault(hash(values), []).append(row.key)
    return [keys for keys in groups.values() if len(keys) > 1]


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


__all__ = ["FEWEST_VALUES", "duplicates"]

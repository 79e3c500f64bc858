"""Comparing two tables of rows by key: rows that came and went, fields that changed, fields of another type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.records import Record


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one row: its JSON pointer, its value before and after. `gone` and `new` say that it was not there
    at all."""

    key: str
    pointer: str
    before: Any
    after: Any
    new: bool = False
    gone: bool = False


@dataclass(slots=True)
class Comparison:
    """`added` and `removed` are keys of rows, `changes` in the order of the first table. `types` tells fields whose
    kinds of values differ: (kinds before, kinds after), "" for a field that one of them lacks."""

    rows: int = 0
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    types: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def changed_rows(self) -> int:
        return len({change.key for change in self.changes})

    @property
    def by_field(self) -> Counter[str]:
        """Changes by field; the items of a list count together."""
        return Counter(_place(change.pointer) for change in self.changes)

    @property
    def same(self) -> bool:
        return not (self.added or self.removed or self.changes)


def compare(before: Iterable[Record], after: Iterable[Record]) -> Comparison:
    """Compare rows by their keys.

    Raises:
        CarraraError: a row cannot be read, or two rows of a table have one key; names both places.
    """
    old, new = _by_key(before), _by_key(after)
    found = Comparison(len(old))
    for key, record in old.items():
        other = new.get(key)
        if other is None:
            found.removed.append(key)
        else:
            found.changes += _changes(key, "", record.fields, other.fields)
    found.added = [key for key in new if key not in old]
    found.types = _drift(old.values(), new.values())
    return found


def _by_key(records: Iterable[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        if record.problem is not None:
            raise CarraraError(f"{record.where}: {record.problem}")
        if record.key in found:
            first = found[record.key].where
            raise CarraraError(f"{record.where}: the key {record.key!r} is that of {first}, too")
        found[record.key] = record
    return found


def _changes(key: str, pointer: str, before: Any, after: Any) -> list[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for name in dict.fromkeys((*before, *after)):
            below = f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"
            if name not in after:
                found.append(Change(key, below, before[name], None, gone=True))
            elif name not in before:
                found.append(Change(key, below, None, after[name], new=True))
            else:
                found += _changes(key, below, before[name], after[name])
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            change
            for index, (old, new) in enumerate(zip(before, after, strict=True))
            for change in _changes(key, f"{pointer}/{index}", old, new)
        ]
    return [] if _same(before, after) else [Change(key, pointer, before, after)]


def _same(before: Any, after: Any) -> bool:
    """Equal, where true is not 1."""
    return bool(before == after) and isinstance(before, bool) == isinstance(after, bool)


def _drift(before: Iterable[Record], after: Iterable[Record]) -> dict[str, tuple[str, str]]:
    """Fields at the top whose kinds of values differ; null says nothing of a kind."""
    old, new = _kinds(before), _kinds(after)
    told = {}
    for name in dict.fromkeys((*old, *new)):
        pair = (" or ".join(sorted(old.get(name, ()))), " or ".join(sorted(new.get(name, ()))))
        if pair[0] != pair[1] and not (name in old and name in new and "" in pair):
            told[name] = pair
    return told


def _kinds(records: Iterable[Record]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.fields.items():
            kinds = found.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))
    return found


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


def _place(pointer: str) -> str:
    return "/".join("*" if part.isdecimal() else part for part in pointer.split("/"))


__all__ = ["Change", "Comparison", "compare"]

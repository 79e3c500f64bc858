"""Comparing two outputs by key: rows that came and went, values that changed, and apart from them the fields that came
and went and those of another type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.workflows.comparing.forms import Cell, Form, equal, equal_but_for_type, shown_kind
from carrara.workflows.comparing.rows import Output
from carrara.workflows.comparing.shelf import Shelf

MOST_FIELDS = 1000
"""So many fields are counted apart; changes in others count together as OTHERS. Mappings may have any keys."""
OTHERS = "(other fields)"


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
    """`added`, `removed` and `changes` hold the first of each, as many as were asked for; the counts count all, and
    `by_field` the changes of each field, items of a list together.

    `fields_added` and `fields_removed` are names that no row of the other output has: the rows that have them do not
    count as changed for it. `retyped` counts values by field and (kind before, kind after): those that are another
    value, too, are changes as well.
    """

    rows: int = 0
    rows_after: int = 0
    added_rows: int = 0
    removed_rows: int = 0
    changed_rows: int = 0
    changed_values: int = 0
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    by_field: Counter[str] = field(default_factory=Counter)
    fields_added: list[str] = field(default_factory=list)
    fields_removed: list[str] = field(default_factory=list)
    retyped: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)

    @property
    def same_schema(self) -> bool:
        return not (self.fields_added or self.fields_removed or self.retyped)

    @property
    def same(self) -> bool:
        return self.same_schema and not (self.added_rows or self.removed_rows or self.changed_rows)


def compare(before: Output, after: Output, limit: int = 50) -> Comparison:
    """Compare rows by their keys; those that are numbers by value. Memory does not grow with the number of rows: they
    are laid into a temporary file.

    What one output has as text only because its form knows no better is read as what the other one has: all of CSV,
    decimals and dates of JSON lines. Where an output has a column for every field, null is the same as a field that is
    not there.

    Raises:
        SourceError: an output cannot be read. OutputError: the temporary file cannot be written.
    """
    with Shelf() as shelf:
        names = shelf.put("before", before), shelf.put("after", after)
        shelf.match_numbers()
        comparer = _Comparer(before.form, after.form, *names, limit)
        same_form = before.form is after.form  # then equal texts are equal values of equal types
        for key, old, new in shelf.pairs(changed_only=same_form):
            comparer.take(key, old, new)
        found = comparer.found
        found.rows, found.rows_after = shelf.count("before"), shelf.count("after")
        found.removed_rows, found.removed = shelf.only("before", limit)
        found.added_rows, found.added = shelf.only("after", limit)
    return found


class _Comparer:
    """Gathers what differs between the rows of two outputs."""

    def __init__(
        self,
        before: Form,
        after: Form,
        old: Mapping[str, bool],
        new: Mapping[str, bool],
        limit: int,
    ) -> None:
        self._forms = before, after
        self._limit = limit
        self._lenient = before.fills or after.fills
        self.found = Comparison(
            fields_added=[n for n, held in new.items() if n not in old and self._counts(held)],
            fields_removed=[n for n, held in old.items() if n not in new and self._counts(held)],
        )
        self._apart = (new.keys() | old.keys()) - (new.keys() & old.keys())

    def _counts(self, held: bool) -> bool:
        """Whether a field that only one output has is one: a column that is empty throughout may be none."""
        return held or self._forms[0].fills == self._forms[1].fills

    def take(self, key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Two rows with one key."""
        found = self.found
        changed = False
        old = {name: value for name, value in before.items() if name not in self._apart}
        new = {name: value for name, value in after.items() if name not in self._apart}
        for change in self._changes(key, "", Cell(old, self._forms[0]), Cell(new, self._forms[1])):
            changed = True
            found.changed_values += 1
            found.by_field[self._place(change.pointer, found.by_field)] += 1
            if len(found.changes) < self._limit:
                found.changes.append(change)
        found.changed_rows += changed

    def _changes(self, key: str, pointer: str, one: Cell, other: Cell) -> Iterator[Change]:
        before, after = one.beside(other), other.beside(one)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from self._of_objects(
                key, pointer, Cell(before, one.form), Cell(after, other.form)
            )
            return
        if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            inside = one.form.within(), other.form.within()
            for index, (old, new) in enumerate(zip(before, after, strict=True)):
                below = f"{pointer}/{index}"
                yield from self._changes(key, below, Cell(old, inside[0]), Cell(new, inside[1]))
            return
        kinds = shown_kind(before), shown_kind(after)
        if kinds[0] != kinds[1] and before is not None and after is not None:
            retyped = self.found.retyped
            retyped.setdefault(self._place(pointer, retyped), Counter())[kinds] += 1
            if equal_but_for_type(before, after):
                return
        if not equal(before, after):
            yield Change(key, pointer, before, after)

    def _of_objects(self, key: str, pointer: str, one: Cell, other: Cell) -> Iterator[Change]:
        before, after = one.value, other.value
        forms = (one.form, other.form) if not pointer else (one.form.within(), other.form.within())
        for name in dict.fromkeys((*before, *after)):
            below = f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"
            if name in before and name in after:
                pair = Cell(before[name], forms[0]), Cell(after[name], forms[1])
                yield from self._changes(key, below, *pair)
            elif name in before:
                if not self._is_nothing(before[name], forms[0]):
                    yield Change(key, below, before[name], None, gone=True)
            elif not self._is_nothing(after[name], forms[1]):
                yield Change(key, below, None, after[name], new=True)

    def _is_nothing(self, value: Any, form: Form) -> bool:
        """Whether a value is as good as a field that is not there."""
        if isinstance(value, str):
            value = form.read(value, None)
        return self._lenient and value is None

    @staticmethod
    def _place(pointer: str, known: Mapping[str, Any]) -> str:
        parts = pointer.split("/")
        place = "/".join("*" if part.isdecimal() else part for part in parts)
        return place if place in known or len(known) < MOST_FIELDS else OTHERS


__all__ = ["MOST_FIELDS", "OTHERS", "Change", "Comparison", "compare"]

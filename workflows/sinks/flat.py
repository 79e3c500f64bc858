"""Nested lists as rows of their own: one for each item, with the fields of the row around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from carrara.workflows.errors import InputError, did_you_mean
from carrara.workflows.sinks.shape import JSON, KEY, Columns, Shape

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Flat:
    """`field` is the list. `names` are the columns of its items' fields, None where an item is one column, called as
    the list; a column is called FIELD_NAME where the row has a NAME of its own.

    Items get the keys `KEY/0`, `KEY/1` and so on. A row whose list is empty or null stays one row, under its own key.
    """

    field: str
    names: Mapping[str, str] | None

    def columns(self, columns: Columns) -> Columns:
        """The columns of the flat rows beside the key."""
        item = columns[self.field].item or JSON
        rest = {name: shape for name, shape in columns.items() if name != self.field}
        if self.names is None:
            return {**rest, self.field: item}
        return {**rest, **{self.names[name]: shape for name, shape in item.fields}}

    def rows(self, fields: Fields) -> Iterator[dict[str, Any]]:
        """The flat rows of one row, not checked against any type."""
        found = fields.get(self.field)
        rest = {name: value for name, value in fields.items() if name != self.field}
        if not isinstance(found, list) or not found:
            yield rest if found in (None, []) else {**rest, self.field: found}
            return
        for place, item in enumerate(found):
            yield {**rest, KEY: f"{fields[KEY]}/{place}", **self._item(item)}

    def _item(self, item: Any) -> dict[str, Any]:
        if self.names is None or not isinstance(item, dict):
            return {self.field: item}
        return {self.names.get(name, name): value for name, value in item.items()}


def flat_of(field: str | None, columns: Columns) -> Flat | None:
    """How rows with these columns are flattened; None where no field is named.

    Raises:
        InputError: there is no such field, or it is no list.
    """
    if field is None:
        return None
    shape = columns.get(field)
    if shape is None:
        meant = did_you_mean(field, columns)
        raise InputError(
            f"--flatten: the rows have no field {field!r}; theirs are: {', '.join(columns)}"
            + (f". Did you mean {meant!r}?" if meant else "")
        )
    if shape.kind not in ("list", "json"):
        raise InputError(f"--flatten: the field {field!r} is no list")
    return Flat(field, _names(field, shape, columns))


def _names(field: str, shape: Shape, columns: Columns) -> Mapping[str, str] | None:
    item = shape.item
    if item is None or item.kind != "object":
        return None
    taken = {KEY, *columns} - {field}
    return {name: f"{field}_{name}" if name in taken else name for name, _ in item.fields}


__all__ = ["Flat", "flat_of"]

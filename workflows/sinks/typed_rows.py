"""Rows of typed columns, as Parquet and tables take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from carrara.workflows.row_format import is_json
from carrara.workflows.sinks.flat import Flat
from carrara.workflows.sinks.shape import KEY, TEXT, VALUE, Columns, Misfit, is_unicode, typed
from carrara.workflows.sinks.sink import Fields

Row = dict[str, Any]


class TypedRows:
    """Makes rows with exactly `columns` (the key first), whose values are of their types."""

    def __init__(self, columns: Columns, flat: Flat | None = None) -> None:
        self._whole = tuple(columns) == (VALUE,)
        self._names = frozenset((KEY, *columns))
        self._flat = flat
        self.columns: Columns = {KEY: TEXT, **(columns if flat is None else flat.columns(columns))}

    def __call__(self, fields: Fields) -> list[Row]:
        """The rows of one record.

        Raises:
            Misfit: a field that is not declared, or a value of another type.
        """
        fields = self._declared(fields)
        rows = [dict(fields)] if self._flat is None else list(self._flat.rows(fields))
        return [self._typed(row) for row in rows]

    def _declared(self, fields: Fields) -> Fields:
        rest = {name: part for name, part in fields.items() if name != KEY}
        if self._whole and set(rest) != {VALUE}:  # an open mapping is one value
            return {KEY: fields[KEY], VALUE: rest}
        stray = fields.keys() - self._names
        if stray:
            raise Misfit(
                f"row {fields.get(KEY)!r} has the field {min(stray)!r}, which the workflow does not declare"
            )
        return fields

    def _typed(self, row: Mapping[str, Any]) -> Row:
        stray = row.keys() - self.columns.keys()
        if stray:
            raise Misfit(f"row {row.get(KEY)!r} has no column for {min(stray)!r}")
        return {name: typed(row.get(name), shape, name) for name, shape in self.columns.items()}


def as_text(value: Any) -> str | None:
    """A value of any type in a column of text: a text as it is, everything else as JSON. A text that could be read as
    JSON becomes JSON, too, so that "1" is not 1."""
    if value is None or (isinstance(value, str) and not is_json(value)):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(value)


__all__ = ["Row", "TypedRows", "as_text"]

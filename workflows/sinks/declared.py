"""Rows held to what their workflow declares to return: one place before every sink, so that a row that may stand in one
may stand in all. What a sink has no room for (a decimal of 50 digits, say) it refuses itself."""

from __future__ import annotations

from typing import Any

from carrara.workflows.sinks.shape import KEY, VALUE, Columns, Misfit, fitting, refuse_lacking
from carrara.workflows.sinks.sink import Fields


class DeclaredRows:
    """Checks rows of JSON data against `columns`, those of the workflow without the key."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._whole = columns[VALUE] if tuple(columns) == (VALUE,) else None

    def __call__(self, fields: Fields) -> dict[str, Any]:
        """The row, with decimals as text; a field that it lacks is null and needs no place.

        Raises:
            Misfit: a field that is not declared, or one that must be there and is not, or a value of another type.
        """
        columns, key = self._columns, fields[KEY]
        rest = {name: part for name, part in fields.items() if name != KEY}
        if self._whole is not None and rest.keys() != columns.keys():  # a mapping with free names
            return {KEY: key, **fitting(rest, self._whole, VALUE)}
        if not rest.keys() <= columns.keys():
            stray = min(rest.keys() - columns.keys())
            raise Misfit(
                f"row {key!r} has the field {stray!r}, which the workflow does not declare: "
                "add it to the type that it returns, or leave it out"
            )
        refuse_lacking(rest, columns, f"row {key!r}")
        made = {KEY: key}
        for name, part in rest.items():
            made[name] = fitting(part, columns[name], name)
        return made


__all__ = ["DeclaredRows"]

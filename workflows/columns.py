"""Columns of a table: written as "name:kind", or taken from the fields of a row type."""

from __future__ import annotations

import datetime
import types
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from carrara.engines.contract import Column, ColumnKind
from carrara.workflows.errors import DefinitionError, did_you_mean

_KINDS: dict[str, ColumnKind] = {
    "string": "string",
    "str": "string",
    "text": "string",
    "integer": "integer",
    "int": "integer",
    "number": "number",
    "float": "number",
    "boolean": "boolean",
    "bool": "boolean",
    "date": "date",
}


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A column and what its cells may be: `text` says that an empty cell is an empty string, not None."""

    column: Column
    text: bool


def parse_column(written: str) -> Column:
    """The column of "name" or "name:kind".

    Raises:
        DefinitionError: an unknown kind, or no name.
    """
    name, colon, kind = (part.strip() for part in written.rpartition(":"))
    if not colon:
        return Column(written.strip())
    if kind not in _KINDS:
        raise DefinitionError(
            f"unknown kind {kind!r} of column {name!r}; kinds are "
            "string, integer, number, boolean and date",
            hint=did_you_mean(kind, _KINDS),
        )
    return Column(name, _KINDS[kind])


def columns_of(row: Any) -> tuple[RowColumn, ...]:
    """The columns of a row type: a pydantic model, a dataclass, a TypedDict or a named tuple.

    Raises:
        DefinitionError: a class without fields, or a field that no table cell can hold.
    """
    hints = get_type_hints(row, include_extras=True) if isinstance(row, type) else {}
    fields = getattr(row, "model_fields", None)
    if fields is not None:
        names = {name: field.alias or name for name, field in fields.items()}
    else:
        names = {name: name for name in hints}
    if not names:
        raise DefinitionError(f"{row!r} has no fields to be the columns of a table")
    return tuple(_row_column(row, label, hints[name]) for name, label in names.items())


def _row_column(row: type, name: str, hint: Any) -> RowColumn:
    kinds = {_kind(part) for part in _alternatives(hint)} - {"null"}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) != 1 or None in kinds:
        raise DefinitionError(
            f"column {name!r} of {row.__name__}: a table cell holds a text, a number, a boolean or a date, "
            f"not {hint!r}"
        )
    kind = _KINDS[str(kinds.pop())]
    return RowColumn(Column(name, kind), text=_plain(hint) is str)


def _plain(hint: Any) -> Any:
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint


def _alternatives(hint: Any) -> tuple[Any, ...]:
    hint = _plain(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(_plain(part) for part in get_args(hint))
    return (hint,)


def _kind(hint: Any) -> str | None:
    """The column kind of one alternative, "null" for None, None where no cell can hold it."""
    if hint is type(None):
        return "null"
    if get_origin(hint) is Literal:
        return "string" if all(isinstance(value, str) for value in get_args(hint)) else None
    if not isinstance(hint, type):
        return None
    for base, kind in _BASES:
        if issubclass(hint, base):
            return kind
    return None


_BASES: tuple[tuple[type, str], ...] = (
    (Enum, "string"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (Decimal, "number"),
    (datetime.datetime, "string"),
    (datetime.date, "date"),
    (datetime.time, "string"),
    (str, "string"),
)

"""Which columns of a table that is there take the values of rows, and in which form, in SQLite and PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

from carrara.workflows.sinks.exact import (
    Form,
    as_decimal,
    as_double,
    as_uuid,
    has_room,
    in_utc,
    within_length,
    within_places,
)
from carrara.workflows.sinks.shape import KEY, Misfit, Shape
from carrara.workflows.sinks.typed_rows import as_text

_MICROSECONDS = 6
"""Digits behind the point of a second that moments and times have."""


class UnfitColumn(Exception):
    """A column does not take the values of a shape."""


def form_of(column: Any, shape: Shape, *, is_sqlite: bool) -> Form | None:
    """How values of a shape stand in a column of a table; None: as they are.

    Raises:
        UnfitColumn: they do not, or would be changed whatever they are.
    """
    import sqlalchemy as sa

    kind = column.type
    match shape.kind:
        case "text":
            return _text_form(kind, is_key=column.name == KEY, is_sqlite=is_sqlite)
        case _ if isinstance(kind, sa.String):  # a column of text takes everything, as CSV does
            return text_form(shape, is_sqlite=is_sqlite)
        case "integer" if isinstance(kind, sa.Integer):
            return None
        case "integer" | "number" | "decimal" if isinstance(kind, sa.Numeric | sa.Float):
            return _number_form(kind, shape, is_sqlite=is_sqlite)
        case "boolean" if isinstance(kind, sa.Boolean):
            return None
        case "date" if isinstance(kind, sa.Date):
            return None
        case "datetime" if isinstance(kind, sa.DateTime):
            _refuse_coarse(kind)
            return in_utc if kind.timezone else None
        case "time" if isinstance(kind, sa.Time) and not kind.timezone:
            _refuse_coarse(kind)
            return None
        case "list" | "object" | "json" if isinstance(kind, sa.JSON):
            return _json_number if is_sqlite and shape.kind == "json" else None
        case _:
            raise UnfitColumn


def text_form(shape: Shape, *, is_sqlite: bool) -> Form:
    """How values of a shape stand in a column of text."""
    is_open = is_sqlite and shape.kind == "json"
    return lambda value, name: as_text(value) if is_open else _text(value)


def key_faults(connection: Any, table: Any, *, is_sqlite: bool) -> list[str]:
    """What is wrong with a table's column of keys, if it takes two keys for one or gives one back as another."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql

    if is_sqlite:
        collations = _unique_collations(connection, table)
    else:
        kind = table.c[KEY].type
        if isinstance(kind, sa.CHAR | postgresql.CITEXT):
            return [f"its column {KEY!r} is {kind}, to which keys that differ may be the same"]
        collations = connection.scalars(sa.text(_LOOSE), {"table": _quoted(table), "key": KEY})
    return [
        f"its column {KEY!r} has the collation {name}, to which keys that differ are the same"
        for name in collations
    ]


_LOOSE = """SELECT c.collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
 WHERE a.attrelid = to_regclass(:table) AND a.attname = :key AND to_jsonb(c) ->> 'collisdeterministic' = 'false'"""
"""By way of JSON: PostgreSQL 11 has no such column, and no such collation."""


def _unique_collations(connection: Any, table: Any) -> list[str]:
    """How SQLite compares keys where it sees to it that none comes twice, where not byte by byte."""
    schema = f'"{table.schema}".' if table.schema else ""
    found = []
    asked = connection.exec_driver_sql(f'PRAGMA {schema}index_list("{table.name}")')
    for index in [row[1] for row in asked if row[2]]:
        info = connection.exec_driver_sql(f'PRAGMA {schema}index_xinfo("{index}")')
        columns = [(row[2], row[4]) for row in info if row[5]]
        if len(columns) == 1 and columns[0][0] == KEY and columns[0][1].upper() != "BINARY":
            found.append(columns[0][1])
    return found


def _quoted(table: Any) -> str:
    return ".".join(f'"{part}"' for part in (table.schema, table.name) if part)


def _text_form(kind: Any, *, is_key: bool, is_sqlite: bool) -> Form | None:
    import sqlalchemy as sa

    if isinstance(kind, sa.Uuid):
        return as_uuid if is_key else None
    if not isinstance(kind, sa.String):
        raise UnfitColumn
    return within_length(kind.length) if kind.length and not is_sqlite else None


def _number_form(kind: Any, shape: Shape, *, is_sqlite: bool) -> Form | None:
    import sqlalchemy as sa

    if is_sqlite or isinstance(kind, sa.Float):  # SQLite has floats only, by whatever name
        if isinstance(kind, sa.REAL) and not is_sqlite:  # of four bytes
            raise UnfitColumn
        return None if shape.kind == "number" else as_double
    if kind.scale is None:
        return as_decimal if shape.kind == "number" else None
    if not has_room(shape, kind.scale):
        raise UnfitColumn
    if shape.kind == "integer":
        return None
    return within_places(kind.scale, as_decimal if shape.kind == "number" else None)


def _refuse_coarse(kind: Any) -> None:
    """Raises UnfitColumn where a column of moments or times would round them."""
    precision = getattr(kind, "precision", None)
    if precision is not None and precision < _MICROSECONDS:
        raise UnfitColumn


def _json_number(value: Any, name: str) -> Any:
    """A value of any type; raises Misfit where a column of SQLite that is called JSON would make it another number."""
    is_whole_float = isinstance(value, float) and value.is_integer()
    if is_whole_float or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise Misfit(
            f"{name}: SQLite would change the number {value!r} in a column of the type JSON; make it TEXT"
        )
    return value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return as_json(value) if isinstance(value, bool | int | float | list | dict) else _part(value)


def as_json(value: Any) -> str:
    """A value as a column of JSON takes it."""
    return json.dumps(value, default=_part)


def _part(value: Any) -> str:
    """A date or a decimal as text."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


__all__ = ["UnfitColumn", "as_json", "form_of", "key_faults", "text_form"]

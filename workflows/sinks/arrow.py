"""Typed rows as Arrow tables, for Parquet and DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.sinks.shape import PLACES, Columns, Shape
from carrara.workflows.sinks.typed_rows import Row, as_text

INSTALL = "pip install 'carrara[data]'"


def need_pyarrow(what: str) -> Any:
    """The module.

    Raises:
        CarraraError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise CarraraError(f"{what} needs the package pyarrow: {INSTALL}") from error
    return pyarrow


def schema_of(columns: Columns) -> Any:
    """The Arrow schema: lists stay lists, objects become structs, what may be anything is text with JSON in it.
    Every column may be null except the key."""
    arrow = need_pyarrow("this output")
    fields = (arrow.field(name, _type(shape), name != "key") for name, shape in columns.items())
    return arrow.schema(list(fields))


def with_utc(schema: Any, names: Sequence[str]) -> Any:
    """The schema with columns of moments that are in UTC, and say so."""
    moment = need_pyarrow("this output").timestamp("us", tz="UTC")
    for name in names:
        place = schema.get_field_index(name)
        schema = schema.set(place, schema.field(place).with_type(moment))
    return schema


def table_of(rows: Sequence[Row], columns: Columns, schema: Any) -> Any:
    """The rows as an Arrow table.

    Raises:
        ValueError: a value that Arrow does not take.
    """
    loose = {name: shape for name, shape in columns.items() if _holds_json(shape)}
    made = [{**row, **{n: _closed(row[n], s) for n, s in loose.items()}} for row in rows]
    return need_pyarrow("this output").Table.from_pylist(made, schema=schema)


def _type(shape: Shape) -> Any:
    arrow = need_pyarrow("this output")
    match shape.kind:
        case "integer":
            return arrow.int64()
        case "number":
            return arrow.float64()
        case "decimal":
            return arrow.decimal128(38, PLACES if shape.places is None else shape.places)
        case "boolean":
            return arrow.bool_()
        case "date":
            return arrow.date32()
        case "datetime":
            return arrow.timestamp("us")
        case "time":
            return arrow.time64("us")
        case "list" if shape.item is not None:
            return arrow.list_(_type(shape.item))
        case "object":
            return arrow.struct([(name, _type(part)) for name, part in shape.fields])
        case _:
            return arrow.string()


def _holds_json(shape: Shape) -> bool:
    parts = [part for _, part in shape.fields] + ([shape.item] if shape.item else [])
    return shape.kind == "json" or any(map(_holds_json, parts))


def _closed(value: Any, shape: Shape) -> Any:
    """The value with every part that may be anything as text."""
    if value is None:
        return None
    match shape.kind:
        case "json":
            return as_text(value)
        case "list" if shape.item is not None:
            return [_closed(part, shape.item) for part in value]
        case "object":
            return {name: _closed(value[name], part) for name, part in shape.fields}
        case _:
            return value


__all__ = ["INSTALL", "need_pyarrow", "schema_of", "table_of", "with_utc"]

"""How pydantic validates, writes and describes the value types of this project. Imports pydantic_core."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import core_schema as cs

from carrara.engines.contract import Column
from carrara.workflows.columns import columns_of
from carrara.workflows.values import Outline, Table

_ROWS = "carrara_rows"  # where a table's schema keeps its row schema and column names

_CELLS: dict[str, Any] = {
    "string": cs.str_schema(),
    "integer": cs.int_schema(),
    "number": cs.float_schema(),
    "boolean": cs.bool_schema(),
    "date": cs.date_schema(),
}


def table_schema() -> Any:
    """For `Table`: rows of any columns."""
    return _table(cs.dict_schema(cs.str_schema(), cs.any_schema()), None)


def typed_table_schema(row: Any, handler: Any) -> Any:
    """For `Table[row]`."""
    return _table(handler.generate_schema(row), [c.column.name for c in columns_of(row)])


def given_table_schema(
    table: Any, columns: Sequence[Column], min_rows: int, max_rows: int | None
) -> Any:
    """For `Annotated[Table, Columns(...)]`, where `table` is the schema of `Table` or `Table[Row]`."""
    row, names = table["metadata"][_ROWS]
    if columns and names is None:
        fields = {c.name: cs.typed_dict_field(cs.nullable_schema(_CELLS[c.kind])) for c in columns}
        row = cs.typed_dict_schema(fields, extra_behavior="forbid")
    return _table(row, [c.name for c in columns] or names, min_rows, max_rows)


def outline_schema(levels: int = 3, min_items: int = 0, max_items: int | None = None) -> Any:
    """For `Outline`: nested `{"text", "items"}` objects, written out level by level."""
    item = _item(cs.list_schema(cs.str_schema(), max_length=0))
    for _ in range(levels - 1):
        item = _item(cs.list_schema(item))
    items = cs.list_schema(item, min_length=min_items or None, max_length=max_items)
    return _instance_or(
        Outline, cs.no_info_after_validator_function(Outline.of, items), lambda value: value.data()
    )


def pattern_schema(inner: Any, regex: str) -> Any:
    """Text that `regex` matches in full; the JSON Schema says so as an anchored pattern."""
    compiled = re.compile(regex)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"does not match {regex!r}")
        return text

    extra = {"pattern": f"^(?:{regex})$"}
    return cs.no_info_after_validator_function(
        check, inner, metadata={"pydantic_js_updates": extra}
    )


def raw_schema(text: str) -> Any:
    """JSON data checked against the JSON Schema in `text`."""
    from carrara.engines.json_schema import first_violation

    def check(value: Any) -> Any:
        found = first_violation(text, value)
        if found is not None:
            raise ValueError(f"{found[0] or 'value'}: {found[1]}")
        return value

    metadata = {"pydantic_js_functions": [lambda schema, handler: json.loads(text)]}
    return cs.no_info_plain_validator_function(check, metadata=metadata)


def _item(items: Any) -> Any:
    fields: Mapping[str, Any] = {
        "text": cs.typed_dict_field(cs.str_schema(min_length=1)),
        "items": cs.typed_dict_field(items, required=False),
    }
    return cs.typed_dict_schema(dict(fields), extra_behavior="forbid")


def _table(
    row: Any, names: Sequence[str] | None, min_rows: int = 0, max_rows: int | None = None
) -> Any:
    rows = cs.list_schema(row, min_length=min_rows or None, max_length=max_rows)
    made = cs.no_info_after_validator_function(lambda found: Table.of(found, names), rows)
    schema = _instance_or(Table, made, lambda value: value.records())
    return {**schema, "metadata": {_ROWS: (row, names)}}


def _instance_or(kind: type, read: Any, write: Any) -> Any:
    """Accepts an instance of `kind` as it is, reads anything else, writes plain data."""
    return cs.json_or_python_schema(
        json_schema=read,
        python_schema=cs.union_schema([cs.is_instance_schema(kind), read]),
        serialization=cs.plain_serializer_function_ser_schema(write),
    )

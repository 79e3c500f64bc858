"""How a contract travels to a server that knows JSON Schema and nothing else.

A choice, a table and an outline become JSON values, and the answer is written back in their own form. A service with
the strict dialect takes objects only, with every key required; what its dialect cannot say is left out of the schema
and checked when the answer is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from carrara.engines.autoregressive.narrow import narrowed
from carrara.engines.cells import read_cell
from carrara.engines.contract import Choice, Contract, Infill, Json, Outline, Regex, Table, Text
from carrara.engines.errors import CarraraError, ContractError
from carrara.engines.json_schema import strict_loads
from carrara.engines.markdown import render_outline, render_table, unfenced
from carrara.engines.remote.grammars import plain_pattern
from carrara.engines.remote.preset import SchemaMode
from carrara.engines.remote.strict import fits_strict, strict

_LONGEST = 512

BOX = "answer"
"""The key under which a value travels that is no object."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """`schema` is sent; `text_of` writes the contract's own text from the JSON value that comes; `path_of` is the
    contract's name for a part of that value (a tuple of keys), None for parts that mean nothing to it.

    `native` says that the JSON text is the contract's own: it is passed on as it is.
    """

    schema: Mapping[str, Any]
    text_of: Callable[[Any], str]
    path_of: Callable[[tuple[Any, ...]], tuple[Any, ...] | None]
    native: bool = False
    boxed: bool = False

    def unpacked(self, raw: str) -> str:
        """The contract's text for the JSON text of an answer; a text that is no such JSON stays as it is, for the
        contract and its repair to judge."""
        if self.native:
            return raw
        try:
            value = strict_loads(unfenced(raw))
            return self.text_of(value[BOX] if self.boxed else value)
        except (ValueError, KeyError, TypeError, RecursionError, CarraraError):
            return raw

    @property
    def hint(self) -> str:
        """One sentence for a model whose server does not show it the schema."""
        return f"Answer with one JSON value and nothing else, following this JSON Schema: {json.dumps(self.schema)}"


def carrier_of(contract: Contract, mode: SchemaMode, *, pattern: bool) -> Carrier | None:
    """How `contract` travels under that mode; None where it cannot, and the form is asked for in words."""
    if mode in ("none", "object") or isinstance(contract, Text | Infill):
        return None
    if isinstance(contract, Regex) and not (pattern and plain_pattern(contract.pattern)):
        return None
    found = _full(contract)
    if (
        mode == "llguidance" and found.native
    ):  # small models lose themselves in what a schema leaves open
        return _with_schema(found, narrowed(found.schema, _LONGEST))
    if mode != "strict":
        return found
    if isinstance(contract, Json) and not fits_strict(contract.schema):
        return None
    if found.schema.get("type") == "object" and "$ref" not in found.schema:
        return _with_schema(found, strict(found.schema))
    boxed = {"type": "object", "properties": {BOX: _without_defs(found.schema)}}
    if defs := found.schema.get("$defs"):
        boxed["$defs"] = defs
    inner = found

    def path_of(path: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return inner.path_of(path[1:]) if path[:1] == (BOX,) else None

    return Carrier(strict(boxed), inner.text_of, path_of, boxed=True)


def _full(contract: Contract) -> Carrier:
    match contract:
        case Choice(options):
            schema: dict[str, Any] = {"type": "string", "enum": list(options)}
            return Carrier(schema, _as_text, lambda path: path)
        case Regex(pattern):
            held = {"type": "string", "pattern": plain_pattern(pattern)}
            return Carrier(held, _as_text, lambda path: path)
        case Json():
            return Carrier(contract.schema, _as_json, lambda path: path, native=True)
        case Table():
            return _table(contract)
        case Outline():
            return _outline(contract)
        case Text() | Infill():
            raise AssertionError("free text has no schema")


def _table(contract: Table) -> Carrier:
    kinds: Mapping[str, dict[str, Any]] = {
        "string": {"type": "string"},
        "integer": {"type": ["integer", "null"]},
        "number": {"type": ["number", "null"]},
        "boolean": {"type": ["boolean", "null"]},
        "date": {"type": ["string", "null"], "format": "date"},
    }
    names = [column.name for column in contract.columns]
    row = {
        "type": "object",
        "properties": {column.name: kinds[column.kind] for column in contract.columns},
        "required": names,
        "additionalProperties": False,
    }
    rows: dict[str, Any] = {"type": "array", "items": row}
    if contract.min_rows:
        rows["minItems"] = contract.min_rows
    if contract.max_rows is not None:
        rows["maxItems"] = contract.max_rows

    def text_of(value: Any) -> str:
        typed = [
            {
                column.name: read_cell(found, "date")
                if column.kind == "date" and isinstance(found := row[column.name], str)
                else row[column.name]
                for column in contract.columns
            }
            for row in value
        ]
        return render_table(typed, contract)

    return Carrier(rows, text_of, lambda path: path if len(path) == 2 else None)


def _outline(contract: Outline) -> Carrier:
    def level(depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = {"text": {"type": "string", "minLength": 1}}
        if depth < contract.max_depth:
            properties["items"] = {"type": "array", "items": level(depth + 1)}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    items: dict[str, Any] = {"type": "array", "items": level(1)}
    if contract.min_items:
        items["minItems"] = contract.min_items
    if contract.max_items is not None:
        items["maxItems"] = contract.max_items

    def text_of(value: Any) -> str:
        return render_outline([_item(item) for item in value])

    def path_of(path: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return path[:-1] if path and path[-1] == "text" else None

    return Carrier(items, text_of, path_of)


def _item(found: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(found["text"], str):
        raise ContractError("an item's text is text", text="")
    return {"text": found["text"], "items": [_item(item) for item in found.get("items", ())]}


def _with_schema(carrier: Carrier, schema: Mapping[str, Any]) -> Carrier:
    return Carrier(schema, carrier.text_of, carrier.path_of, carrier.native, carrier.boxed)


def _without_defs(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$defs"}


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ContractError("the answer is no text", text="")
    return value


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


__all__ = ["BOX", "Carrier", "carrier_of"]

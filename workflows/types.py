"""Python types as output contracts: the one place where an annotation becomes what a model must answer.

| annotation | contract | value |
| --- | --- | --- |
| `str` | text | the text |
| `Annotated[str, Pattern(r"...")]` | regex | the text |
| `Literal[...]`, an `Enum` | choice | the literal, the member |
| `bool` | choice of yes and no | True, False |
| `... \\| None` of those three | the same choice with "none" | also None |
| `Table[Row]`, `Annotated[Table, Columns(...)]` | table | `Table` |
| `Outline`, `Annotated[Outline, Depth(2)]` | outline | `Outline` |
| numbers, dates, models, dataclasses, lists, unions, ... | JSON Schema by pydantic | the validated value |
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from carrara.engines.contract import Choice, Contract, Json, Outline, Regex, Text
from carrara.engines.contract import Table as TableContract
from carrara.workflows.columns import columns_of
from carrara.workflows.errors import DefinitionError, Refusal
from carrara.workflows.json_types import adapter_for, checked, json_contract
from carrara.workflows.markers import Columns, Depth, JsonSchema, Pattern
from carrara.workflows.plain import plain
from carrara.workflows.values import Outline as OutlineValue
from carrara.workflows.values import Rows, as_record
from carrara.workflows.values import Table as TableValue

NONE = "none"
"""How an optional choice spells None."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """A type as both sides see it.

    `to_python` turns a value of the contract into the typed value and raises Refusal (a ValueError) naming
    the parts that are wrong; `from_python` is its inverse.
    """

    annotation: Any
    contract: Contract
    to_python: Callable[[Any], Any]
    from_python: Callable[[Any], Any]


def value_type(annotation: Any) -> ValueType:
    """The contract of a type and the way between their values.

    Raises:
        DefinitionError: no model can answer with such a type; the message says which part.
    """
    annotation = unaliased(annotation)
    base, marks = _unwrapped(annotation)
    if base is None or base is type(None):
        raise DefinitionError("a model's answer has a type; None is not one")
    for mark in marks:
        if isinstance(mark, JsonSchema):
            return ValueType(annotation, Json(mark.text, mark.name), _same, plain)
        if isinstance(mark, Pattern) and base is str:
            return ValueType(annotation, Regex(mark.regex), checked(annotation), _same)
    if base is str:
        text = Text(_most_characters(marks))
        return ValueType(annotation, text, checked(annotation) if marks else _same, _same)
    if base is TableValue:
        return _table(annotation, marks)
    if base is OutlineValue:
        return _outline(annotation, marks)
    options = _options(base)
    if options is not None:
        return _choice(annotation, options)
    adapter = adapter_for(annotation)
    contract = json_contract(adapter, type_name(annotation))
    return ValueType(annotation, contract, checked(annotation, adapter), _dump(adapter))


def type_name(annotation: Any) -> str:
    """An annotation as a person writes it, without module names."""
    base, _ = _unwrapped(unaliased(annotation))
    if isinstance(base, type) and not get_args(base):
        return base.__name__
    arguments = get_args(base)
    if get_origin(base) in (Union, types.UnionType):
        return " | ".join("None" if a is type(None) else type_name(a) for a in arguments)
    if arguments and get_origin(base) is not Literal:
        name = getattr(get_origin(base), "__name__", "value")
        return f"{name}[{', '.join(type_name(a) for a in arguments)}]"
    return str(base).removeprefix("typing.")


def unaliased(annotation: Any) -> Any:
    """The type behind `type X = ...` and `NewType`."""
    while True:
        inner = getattr(annotation, "__value__", None) or getattr(annotation, "__supertype__", None)
        if inner is None or isinstance(annotation, type):
            return annotation
        annotation = inner


def _unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type under `Annotated`, and what was annotated."""
    if get_origin(annotation) is Annotated:
        base, *marks = get_args(annotation)
        inner, inner_marks = _unwrapped(unaliased(base))
        return inner, (*inner_marks, *marks)
    return annotation, ()


def _most_characters(marks: Iterable[Any]) -> int | None:
    """The least `max_length` among what a text is annotated with: pydantic's Field, StringConstraints, MaxLen."""
    parts = [part for mark in marks for part in (mark, *getattr(mark, "metadata", ()))]
    found = [most for part in parts if isinstance(most := getattr(part, "max_length", None), int)]
    return min(found, default=None)


def _same(value: Any) -> Any:
    return value


def _dump(adapter: Any) -> Callable[[Any], Any]:
    return lambda value: plain(adapter.dump_python(value, by_alias=True))


def _options(base: Any) -> dict[str, Any] | None:
    """The answers of a closed choice and what each means, None for any other type."""
    if get_origin(base) in (Union, types.UnionType):
        parts = [_unwrapped(unaliased(part))[0] for part in get_args(base)]
        found = [_options(part) for part in parts if part is not type(None)]
        if len(found) == len(parts) or None in found or len(found) != 1:
            return None
        return {**(found[0] or {}), NONE: None}
    if base is bool:
        return {"yes": True, "no": False}
    if get_origin(base) is Literal:
        return _distinct(base, [(_label(value), value) for value in get_args(base)])
    if isinstance(base, type) and issubclass(base, Enum):
        return _distinct(base, list(zip(_enum_labels(base), base, strict=True)))
    return None


def _enum_labels(kind: type[Enum]) -> list[str]:
    values = [member.value for member in kind]
    if all(isinstance(value, str) and value for value in values):
        return values
    return [member.name for member in kind]


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return value.name
    return NONE if value is None else str(value)


def _distinct(base: Any, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    options = dict(pairs)
    if len(options) != len(pairs) or "" in options:
        raise DefinitionError(f"the options of {base} must be distinct and not empty")
    return options


def _choice(annotation: Any, options: dict[str, Any]) -> ValueType:
    labels = {_hashable(value): label for label, value in options.items()}
    return ValueType(
        annotation,
        Choice(tuple(options)),
        lambda answer: options[answer],
        lambda value: labels[_hashable(value)],
    )


def _hashable(value: Any) -> Any:
    return (type(value), value)  # 1 and True are different answers


def _table(annotation: Any, marks: tuple[Any, ...]) -> ValueType:
    row = next((mark.row for mark in marks if isinstance(mark, Rows)), None)
    given = next((mark for mark in reversed(marks) if isinstance(mark, Columns)), Columns())
    typed = columns_of(row) if row is not None else ()
    columns = given.columns or tuple(found.column for found in typed)
    if not columns:
        raise DefinitionError(
            "a table needs columns: Table[Row], or Annotated[Table, Columns('title', 'qty:int')]"
        )
    names = tuple(column.name for column in columns)
    texts = {found.column.name for found in typed if found.text}
    read_rows = None if row is None else checked(types.GenericAlias(list, (row,)))

    def to_python(rows: list[dict[str, Any]]) -> TableValue[Any]:
        if read_rows is None:
            return TableValue.of(rows, names)
        whole = [{n: "" if v is None and n in texts else v for n, v in r.items()} for r in rows]
        return TableValue.of(read_rows(plain(whole)), names)

    contract = TableContract(columns, given.min_rows, given.max_rows)
    return ValueType(annotation, contract, to_python, lambda rows: [as_record(row) for row in rows])


def _outline(annotation: Any, marks: tuple[Any, ...]) -> ValueType:
    depth = next((mark for mark in reversed(marks) if isinstance(mark, Depth)), Depth())
    contract = Outline(depth.levels, depth.min_items, depth.max_items)
    return ValueType(annotation, contract, OutlineValue.of, lambda value: value.data())


__all__ = ["Refusal", "ValueType", "type_name", "unaliased", "value_type"]

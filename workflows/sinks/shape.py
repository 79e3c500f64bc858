"""The types of a row as the contract tells them, and JSON data turned into values of these types.

What a workflow returns is journaled as JSON data. Sinks with types of their own (Parquet, tables) get dates, decimals
and nested lists back by the annotation that the workflow declares.
"""

from __future__ import annotations

import dataclasses
import datetime
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag
from itertools import chain
from pathlib import PurePath
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from uuid import UUID

from carrara.runtime.identity import text_hash
from carrara.workflows.calls import Definition
from carrara.workflows.plain import plain
from carrara.workflows.types import unaliased
from carrara.workflows.values import Table

Kind = Literal[
    "text", "integer", "number", "decimal", "boolean", "date", "datetime", "time",
    "list", "object", "json",
]  # fmt: skip

KEY, VALUE = "key", "value"
PLACES = 10
"""Digits behind the point of a decimal whose contract names none."""
_DIGITS = 38
_DEEPEST = 12


class Misfit(ValueError):
    """A row does not fit the types of its sink; names the field."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """`item` is that of a list, `fields` those of an object, `places` the digits behind the point of a decimal,
    `values` all that there are, None where any will do. What has kind "json" may be anything. A field that is `needed`
    must be there, if only as null; one that is `optional` may be missing from any row, others only from one that was
    not made by its type. `by_name` are the `fields` again, for the values of a million rows."""

    kind: Kind
    item: Shape | None = None
    fields: tuple[tuple[str, Shape], ...] = ()
    places: int | None = None
    values: tuple[Any, ...] | None = None
    needed: bool = False
    optional: bool = False
    by_name: Columns = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", dict(self.fields))

    @property
    def told(self) -> str:
        """The kind as messages name it."""
        return self.kind if self.places is None else f"{self.kind} with {self.places} places"


Columns = Mapping[str, Shape]
JSON, TEXT = Shape("json"), Shape("text")

_MARKS = ("NotRequired", "ReadOnly", "Required")
"""What stands around the type of a field of a TypedDict, from `typing` or `typing_extensions`."""

_JSON_TYPES: Mapping[Kind, tuple[type, ...]] = {
    "text": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
"""The kinds whose values JSON has itself, with the types that they have here; true and false are no numbers."""

_SIMPLE: tuple[tuple[type, Kind], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (Decimal, "decimal"),
    (datetime.datetime, "datetime"),
    (datetime.date, "date"),
    (datetime.time, "time"),
    (str, "text"),
    (UUID, "text"),
    (PurePath, "text"),
    (datetime.timedelta, "text"),
)


def row_columns(workflow: Definition[..., Any]) -> Columns:
    """The columns of the workflow's rows beside the key: its outputs, the fields of its class, else one `value`."""
    result = _result(workflow)
    return {VALUE: result} if is_whole(workflow) else dict(result.fields)


def is_whole(workflow: Definition[..., Any]) -> bool:
    """Whether a result of the workflow is one `value` of its row: it declares no fields, or one that is called as the
    key of the record. What comes at run time makes no difference to it."""
    result = _result(workflow)
    return result.kind != "object" or KEY in result.by_name


def _result(workflow: Definition[..., Any]) -> Shape:
    outputs = getattr(workflow, "outputs", None)
    if outputs is None:
        return shape_of(workflow.returns)
    return Shape("object", fields=tuple((name, shape_of(kind)) for name, kind in outputs.items()))


def shape_of(annotation: Any, depth: int = 0) -> Shape:
    """The shape of a type; "json" for what has no better one, and for types that contain themselves."""
    annotation = unaliased(annotation)
    if depth > _DEEPEST:
        return JSON
    if get_origin(annotation) is Annotated:
        base, *marks = get_args(annotation)
        if unaliased(base) is Table:
            return _table(marks)
        found = shape_of(base, depth)
        return (
            dataclasses.replace(found, places=_places(marks)) if found.kind == "decimal" else found
        )
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _mark(annotation):
        return shape_of(arguments[0], depth)
    if origin in (Union, types.UnionType):
        return _union([one for one in arguments if one is not type(None)], depth)
    if origin is Literal:
        return _of_values(arguments)
    if isinstance(origin, type):
        return _generic(origin, arguments, depth)
    return _class(annotation, depth) if isinstance(annotation, type) else JSON


def _union(options: Sequence[Any], depth: int) -> Shape:
    shapes = [shape_of(option, depth) for option in options]
    found = {dataclasses.replace(shape, values=None) for shape in shapes}
    if len(found) == 1:
        values = [shape.values for shape in shapes if shape.values is not None]
        whole = tuple(chain(*values)) if len(values) == len(shapes) else None
        return dataclasses.replace(found.pop(), values=whole)
    if found == {Shape("integer"), Shape("number")}:
        return Shape("number")
    return JSON


def _of_values(values: Collection[Any]) -> Shape:
    bare = [value.value if isinstance(value, Enum) else value for value in values]
    kinds = {type(value) for value in bare if value is not None}
    found = next((Shape(kind) for base, kind in _SIMPLE if kinds == {base}), JSON)
    return dataclasses.replace(found, values=_plain_values(bare))


def _plain_values(values: Collection[Any]) -> tuple[Any, ...] | None:
    """The values as JSON data, None where one is no text, number or boolean then."""
    try:
        found = [plain(value, exact=True) for value in values]
    except TypeError:
        return None
    is_simple = all(value is None or isinstance(value, bool | int | float | str) for value in found)
    return tuple(found) if is_simple else None


def _generic(origin: type, arguments: tuple[Any, ...], depth: int) -> Shape:
    if issubclass(origin, Table) and arguments:
        return Shape("list", shape_of(arguments[0], depth + 1))
    if issubclass(origin, Mapping) or not issubclass(origin, Collection) or not arguments:
        return JSON
    if issubclass(origin, tuple) and arguments[1:] != (...,):
        return JSON
    return Shape("list", shape_of(arguments[0], depth + 1))


def _class(kind: type, depth: int) -> Shape:
    if issubclass(kind, Enum):
        found = _of_values(list(kind))
        return dataclasses.replace(found, values=None) if issubclass(kind, Flag) else found
    for base, name in _SIMPLE:
        if issubclass(kind, base):
            return Shape(name)
    model = getattr(kind, "model_fields", None)
    if model is not None:
        config: Mapping[str, Any] = getattr(kind, "model_config", {})
        if config.get("extra") == "allow" or getattr(kind, "__pydantic_root_model__", False):
            return JSON
        hints = get_type_hints(kind, include_extras=True)
        found = _object({f.alias or name: hints[name] for name, f in model.items()}, depth)
        return _with_optional(found, {f.alias or name for name, f in model.items() if f.exclude})
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return _object({field.name: hints[field.name] for field in dataclasses.fields(kind)}, depth)
    return _typed_dict(kind, depth) if hasattr(kind, "__required_keys__") else JSON


def _typed_dict(kind: Any, depth: int) -> Shape:
    """That of a TypedDict, of `typing_extensions` too."""
    hints = get_type_hints(kind, include_extras=True)
    found = _object(hints, depth)
    needed = {n for n, hint in hints.items() if _is_needed(hint, n in kind.__required_keys__)}
    fields = ((n, dataclasses.replace(s, needed=n in needed)) for n, s in found.fields)
    found = dataclasses.replace(found, fields=tuple(fields))
    return _with_optional(found, hints.keys() - needed)


def _with_optional(shape: Shape, names: Collection[str]) -> Shape:
    fields = ((n, dataclasses.replace(s, optional=n in names)) for n, s in shape.fields)
    return dataclasses.replace(shape, fields=tuple(fields))


def complete(columns: Columns) -> Columns:
    """The columns as every row fills them that a workflow of these types has made: all fields but optional ones."""
    return {name: _complete(shape, not shape.optional) for name, shape in columns.items()}


def _complete(shape: Shape, needed: bool) -> Shape:
    fields = tuple((name, _complete(part, not part.optional)) for name, part in shape.fields)
    item = None if shape.item is None else _complete(shape.item, needed=False)
    return dataclasses.replace(shape, item=item, fields=fields, needed=needed)


def types_hash(columns: Columns) -> str:
    """8 hex digits; the same for the same types in whatever process."""
    return text_hash(repr(columns))[:8]


def _is_needed(hint: Any, usually: bool) -> bool:
    """Whether a field must be there. Python does not know it of annotations that are texts: hence their marks."""
    while (mark := _mark(hint)) or get_origin(hint) is Annotated:
        if mark in ("Required", "NotRequired"):
            return mark == "Required"
        hint = get_args(hint)[0]
    return usually


def _mark(annotation: Any) -> str:
    """Which of the marks stands around the type, "" where none does."""
    name = getattr(get_origin(annotation), "_name", None)
    return name if name in _MARKS else ""


def _object(hints: Mapping[str, Any], depth: int) -> Shape:
    if not hints:
        return JSON
    fields = ((name, shape_of(hint, depth + 1)) for name, hint in hints.items())
    return Shape("object", fields=tuple(fields))


def _table(marks: Sequence[Any]) -> Shape:
    kinds: Mapping[str, Kind] = {"string": "text"}
    columns = next((mark.columns for mark in marks if hasattr(mark, "columns")), ())
    if not columns:
        return Shape("list", JSON)
    fields = tuple((c.name, Shape(kinds.get(c.kind, c.kind))) for c in columns)
    return Shape("list", Shape("object", fields=fields))


def _places(marks: Sequence[Any]) -> int | None:
    parts = [part for mark in marks for part in (mark, *getattr(mark, "metadata", ()))]
    found = (getattr(part, "decimal_places", None) for part in parts)
    return next((places for places in found if isinstance(places, int)), None)


def fitting(value: Any, shape: Shape, where: str) -> Any:
    """JSON data that is of the shape, as it stands in a row: decimals as text, everything else as it is. No size is too
    large, and null fits everywhere.

    Raises:
        Misfit: the value is of another type; `where` names the field.
    """
    if value is None:
        return None
    if shape.values is not None:
        _one_of(value, shape.values, where)
    if shape.kind in _JSON_TYPES:
        if not _is_plain(value, shape.kind):
            raise _other(value, f"a value of type {shape.kind}", where)
        refuse_half_characters(value, where)
        return value
    match shape.kind:
        case "object":
            shapes = _fields_of(value, shape, where)
            refuse_lacking(value, shapes, where)
            return {name: fitting(v, shapes[name], f"{where}/{name}") for name, v in value.items()}
        case "list":
            item = shape.item or JSON
            parts = enumerate(_a_list(value, where))
            return [fitting(part, item, f"{where}/{place}") for place, part in parts]
        case "decimal":
            return str(_in_places(_number(value, where), shape.places, where))
        case "date" | "datetime" | "time":
            _iso(value, shape.kind, where)
            return value
        case _:
            refuse_half_characters(value, where)
            return value


def typed(value: Any, shape: Shape, where: str) -> Any:
    """JSON data as a value of the shape: dates, decimals, objects with every field. What is "json" stays as it is.

    Raises:
        Misfit: the value is of another type, or too large; `where` names the field.
    """
    if value is None:
        return None
    match shape.kind:
        case "json":
            return _plain(value, "text", where) if isinstance(value, str) else value
        case "list":
            item = shape.item or JSON
            parts = enumerate(_a_list(value, where))
            return [typed(part, item, f"{where}/{place}") for place, part in parts]
        case "object":
            return _typed_object(value, shape, where)
        case "decimal":
            return _decimal(value, PLACES if shape.places is None else shape.places, where)
        case "date" | "datetime" | "time":
            return _moment(value, shape.kind, where)
        case _:
            return _plain(value, shape.kind, where)


def refuse_lacking(found: Collection[str], columns: Columns, where: str) -> None:
    """Raises Misfit where a field is not there that must be."""
    lacking = [name for name, shape in columns.items() if shape.needed and name not in found]
    if lacking:
        raise Misfit(
            f"{where} has no field {lacking[0]!r}, which its type declares: give it, or null"
        )


def refuse_half_characters(value: Any, where: str) -> None:
    """Raises Misfit where a text in JSON data is none that UTF-8 can hold."""
    match value:
        case str() if not is_unicode(value):
            raise Misfit(f"{where} is no text that UTF-8 can hold (it has half a surrogate pair)")
        case list():
            for place, part in enumerate(value):
                refuse_half_characters(part, f"{where}/{place}")
        case dict():
            for name, part in value.items():
                refuse_half_characters(name, f"{where}/{name!r}")
                refuse_half_characters(part, f"{where}/{name}")


def _one_of(value: Any, values: Collection[Any], where: str) -> None:
    known = [one for one in values if one is not None]
    if not any(one == value and isinstance(one, bool) == isinstance(value, bool) for one in known):
        told = ", ".join(map(repr, known[:10])) + (", …" if len(known) > 10 else "")
        raise _other(value, f"one of {told}", where)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text; what JSON calls a string may have half a surrogate pair in it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _a_list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _other(value, "a list", where)
    return value


def _fields_of(value: Any, shape: Shape, where: str) -> Columns:
    """The shapes of the fields of an object; raises Misfit where it is none, or has others."""
    if not isinstance(value, dict):
        raise _other(value, "an object", where)
    shapes = shape.by_name
    if not value.keys() <= shapes.keys():
        stray = min(value.keys() - shapes.keys())
        raise Misfit(f"{where} has the field {stray!r}, which its type does not declare")
    return shapes


def _typed_object(value: Any, shape: Shape, where: str) -> dict[str, Any]:
    shapes = _fields_of(value, shape, where)
    return {name: typed(value.get(name), part, f"{where}/{name}") for name, part in shapes.items()}


def _is_plain(value: Any, kind: Kind) -> bool:
    """Whether a value is of one of the kinds that JSON has itself."""
    types = _JSON_TYPES.get(kind, ())
    return isinstance(value, types) and (kind == "boolean" or not isinstance(value, bool))


def _plain(value: Any, kind: Kind, where: str) -> Any:
    if not _is_plain(value, kind):
        raise _other(value, f"a value of type {kind}", where)
    if kind == "number":
        return _float(value, where)
    refuse_half_characters(value, where)
    if kind == "integer" and not -(2**63) <= value < 2**63:
        raise Misfit(f"{where}: {value} does not fit into 64 bits")
    return value


def _float(value: Any, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Misfit(f"{where}: a whole number of this size does not fit into a float") from None


def _number(value: Any, where: str) -> Decimal:
    """A decimal from JSON data."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _other(value, "a decimal", where)
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise _other(value, "a decimal", where) from None
    if not found.is_finite():
        raise _other(value, "a decimal", where)
    return found


def _in_places(number: Decimal, places: int | None, where: str) -> Decimal:
    if places is not None and places_of(number) > places:
        raise Misfit(
            f"{where}: {number} has more digits behind the point than the {places} of its type (decimal_places)"
        )
    return number


def _decimal(value: Any, places: int, where: str) -> Decimal:
    found = _number(value, where)
    if places_of(found) > places or found.adjusted() >= _DIGITS - places:
        raise Misfit(
            f"{where}: {found} does not fit {_DIGITS - places} digits before the point and {places} behind it; "
            "decimal_places in the type says how many"
        )
    return found


def places_of(number: Decimal) -> int:
    """The digits behind the point that are needed to write a finite number."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent >= 0:
        return 0
    digits = number.as_tuple().digits
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return 0 if not number else max(0, -exponent - zeros)


def _moment(value: Any, kind: Kind, where: str) -> Any:
    """Moments with an offset become UTC, without one they stay as they are. The offset of a time has no place in a
    column."""
    found = _iso(value, kind, where)
    if kind == "date" or found.tzinfo is None:
        return found
    if kind == "time":
        raise Misfit(
            f"{where}: a column of times has no place for the offset of {value}; give the time without it, "
            "or declare a text (str)"
        )
    try:
        return found.astimezone(datetime.UTC).replace(tzinfo=None)
    except OverflowError:
        raise Misfit(f"{where}: {value} cannot be put into UTC, as moments are stored") from None


def _iso(value: Any, kind: Kind, where: str) -> Any:
    """A date, a moment or a time as it is written."""
    try:
        return _ISO[kind](value)
    except (TypeError, ValueError):
        raise _other(value, f"a {kind} in ISO 8601", where) from None


_ISO: Mapping[Kind, Callable[[str], Any]] = {
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "time": datetime.time.fromisoformat,
}


def _other(value: Any, needed: str, where: str) -> Misfit:
    return Misfit(f"{where}: {needed} is needed, found {_told(value)}")


def _told(value: Any) -> str:
    """JSON data as messages tell it: what it is and how it begins. Only a text stands in quotes."""
    match value:
        case str():
            return repr(value[:40])
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {str(value)[:40]}"
        case list():
            return f"the list {str(value)[:40]}"
        case _:
            return f"the object {str(value)[:40]}"


__all__ = [
    "JSON", "KEY", "PLACES", "TEXT", "VALUE", "Columns", "Kind", "Misfit", "Shape", "complete", "fitting", "is_unicode",
    "is_whole", "places_of", "refuse_lacking", "row_columns", "shape_of", "typed", "types_hash",
]  # fmt: skip

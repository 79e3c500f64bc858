"""The types a pipeline can name, as plain data: what the notation means, before any Python class exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

ScalarName = Literal["str", "int", "float", "decimal", "bool", "date", "datetime", "any"]
SCALARS: Final = ("str", "int", "float", "decimal", "bool", "date", "datetime", "any")


class _Missing:
    """No default was given; None cannot say so, it is a default of its own."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. Bounds are inclusive and None where there are none; lengths are for text only."""

    name: ScalarName
    min: float | None = None
    max: float | None = None
    min_length: int | None = None
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    options: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text that the regular expression matches in full."""

    regex: str


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Type
    min_items: int | None = None
    max_items: int | None = None


@dataclass(frozen=True, slots=True)
class MapOf:
    """Text keys to values of one type."""

    item: Type


@dataclass(frozen=True, slots=True)
class Nullable:
    of: Type


@dataclass(frozen=True, slots=True)
class Named:
    """A use of a type that `types:` declares."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object, or an input of a pipeline."""

    name: str
    type: Type
    description: str = ""
    default: Any = MISSING


@dataclass(frozen=True, slots=True)
class ObjectOf:
    fields: tuple[Field, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """Something with these fields, of whatever class: what is known of a used pipeline's value. Never written."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class TableOf:
    """A Markdown table; its value is a list of rows. Columns are (name, scalar name)."""

    columns: tuple[tuple[str, ScalarName], ...]
    min_rows: int = 0
    max_rows: int | None = None


@dataclass(frozen=True, slots=True)
class OutlineOf:
    """A nested Markdown list; its value is a list of `{text, items}`."""

    depth: int = 3
    min_items: int = 1
    max_items: int | None = None


@dataclass(frozen=True, slots=True)
class SchemaOf:
    """A JSON Schema given in place, kept as JSON text so that types compare and hash."""

    text: str


Type = (
    Scalar
    | OneOf
    | Pattern
    | ListOf
    | MapOf
    | Nullable
    | Named
    | ObjectOf
    | Shape
    | TableOf
    | OutlineOf
    | SchemaOf
)
TEXT: Final = Scalar("str")
ANY: Final = Scalar("any")

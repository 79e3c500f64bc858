"""What the forms of an output cannot say: a text that stands for a value of another type is read as that value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Self

from carrara.workflows.digits import as_number, exact_number
from carrara.workflows.row_format import is_json

Kind = Literal[
    "null", "boolean", "number", "decimal", "text", "date", "datetime", "time", "list", "object",
]  # fmt: skip
KEPT = (Decimal, date, time)
"""The types that typed tables give as they are; the others have a form in JSON."""


def kind_of(value: Any) -> Kind:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case Decimal():
            return "decimal"
        case str():
            return "text"
        case datetime():
            return "datetime"
        case date():
            return "date"
        case time():
            return "time"
        case list():
            return "list"
        case _:
            return "object"


def shown_kind(value: Any) -> Kind:
    """The kind for people: a decimal is a number."""
    return _shown(kind_of(value))


def _shown(kind: Kind) -> Kind:
    return "number" if kind == "decimal" else kind


@dataclass(frozen=True, slots=True)
class Form:
    """`texts` are the kinds that stand as text in this form. `fills`: every row has every field.
    `quotes`: a text may stand in quotes where it could be read as JSON. `inside` is the form
    of what stands in a list or an object, None for the same."""

    name: str
    texts: frozenset[Kind] = frozenset()
    fills: bool = True
    quotes: bool = False
    inside: Form | None = None

    def within(self) -> Form:
        return self.inside or self

    def read(self, text: str, like: Any) -> Any:
        """What the text stands for beside a value like the other one; the text itself where it stands for none."""
        kind = kind_of(like)
        if kind not in self.texts:
            return text
        try:
            found = _READ[kind](text)
        except (ValueError, InvalidOperation, RecursionError):
            return text
        return found if _shown(kind_of(found)) == _shown(kind) else text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _null(text: str) -> None:
    if text:
        raise ValueError("not empty")


def _moment(text: str) -> datetime:
    return in_utc(datetime.fromisoformat(text))


def in_utc(moment: datetime) -> datetime:
    """A moment as typed sinks store it: in UTC, without the offset. One that no year of UTC holds stays as it is."""
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        return moment


def _json(text: str) -> Any:
    return json.loads(text, parse_float=exact_number)


_READ: dict[Kind, Callable[[str], Any]] = {
    "null": _null,
    "boolean": json.loads,
    "number": _json,
    "decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": _moment,
    "time": time.fromisoformat,
    "list": _json,
    "object": _json,
}

_JSON_LACKS: frozenset[Kind] = frozenset({"decimal", "date", "datetime", "time"})
_OPEN: frozenset[Kind] = frozenset({"boolean", "number", "list", "object"})

JSON = Form("JSON lines", _JSON_LACKS, fills=False)
CSV = Form("CSV", frozenset(_READ), inside=JSON)
ARROW = Form("typed columns", _OPEN, quotes=True)
"""Parquet and DuckDB, where what may be anything stands as JSON text."""
SQLITE = Form("SQLite", _OPEN | {"decimal"}, quotes=True, inside=JSON)
"""As there; what is in a column of JSON has its types."""
SERVER = Form("PostgreSQL", inside=JSON)


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in its form."""

    value: Any
    form: Form

    def beside(self, other: Self) -> Any:
        """The value as it is to be compared with the other one."""
        if not isinstance(self.value, str):
            return self.value
        if not isinstance(other.value, str):
            return self.form.read(self.value, other.value)
        if self.form.quotes and not other.form.quotes and is_json(other.value):
            return other.value if self.value == _quoted(other.value) else self.value
        return self.value


def equal(one: Any, other: Any) -> bool:
    """Equal in value, whatever the type of a number; true is not 1, and no date is a text. A float is the number that
    is written for it: 0.1 is the decimal 0.1."""
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case (float(), int() | Decimal()) | (int() | Decimal(), float()):
            return as_number(one) == as_number(other)
        case datetime(), datetime():
            return in_utc(one) == in_utc(other)
        case _:
            return bool(one == other)


def equal_but_for_type(one: Any, other: Any) -> bool:
    """Whether one is the text of the other."""
    first, second = Cell(one, CSV), Cell(other, CSV)
    return isinstance(one, str) != isinstance(other, str) and equal(
        first.beside(second), second.beside(first)
    )


__all__ = ["ARROW", "CSV", "JSON", "KEPT", "SERVER", "SQLITE", "Cell", "Form", "Kind", "equal",
           "equal_but_for_type", "in_utc", "kind_of", "shown_kind"]  # fmt: skip

"""Numbers with all their digits: as texts of JSON write them, where floats would lose some."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

N = TypeVar("N")

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Digits(float):
    """A float that knows the text that it was read from, for inputs that are decimals; everywhere else it is a float
    like any."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        found = super().__new__(cls, text)
        found.text = text
        return found


def decimal_of(text: str) -> Decimal | None:
    """The number that a text is, written as JSON writes numbers; None where it is none, or one with an exponent of
    more than 18 digits."""
    if _NUMBER.fullmatch(text) is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def as_number(value: object) -> Decimal | None:
    """The number that a value is, a float as it is written: 0.1 is the decimal 0.1. None for what is none, and for true
    and false."""
    match value:
        case bool():
            return None
        case float():
            return Decimal(repr(float(value)))
        case int() | Decimal():
            return Decimal(value)
        case _:
            return None


def exact_number(text: str) -> float | Decimal | str:
    """A number of JSON: a float where that has all the digits, else a decimal; its text where that has no room for the
    exponent."""
    number, exact = float(text), decimal_of(text)
    if exact is None:
        return text
    return number if isfinite(number) and Decimal(repr(number)) == exact else exact


def as_decimals(value: Any) -> Any:
    """JSON data with a decimal for each number that knows its digits, but for what is too large even for decimals."""
    return changed(value, Digits, _decimal_or_float)


def _decimal_or_float(number: Digits) -> Decimal | float:
    found = decimal_of(number.text)
    return float(number) if found is None else found


def as_floats(value: Any) -> Any:
    """JSON data with plain floats."""
    return changed(value, Digits, float)


def as_exact(value: Any) -> Any:
    """JSON data with an `exact_number` for each number that knows its digits."""
    return changed(value, Digits, lambda number: exact_number(number.text))


def as_digits(value: Any) -> Any:
    """The inverse of `as_decimals`, for data that has no other decimals."""
    return changed(value, Decimal, lambda number: Digits(str(number)))


def changed(value: Any, kind: type[N], change: Callable[[N], Any]) -> Any:
    """JSON data with another value for each one of a kind, wherever it stands but as a key."""
    match value:
        case kind():
            return change(value)
        case list():
            return [changed(part, kind, change) for part in value]
        case dict():
            return {name: changed(part, kind, change) for name, part in value.items()}
        case _:
            return value


def takes_decimals(adapter: TypeAdapter[Any]) -> bool:
    """Whether there is a decimal somewhere in the type."""
    return _holds_decimal(adapter.core_schema)


def _holds_decimal(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return schema.get("type") == "decimal" or any(map(_holds_decimal, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_holds_decimal, schema))


__all__ = [
    "Digits",
    "as_decimals",
    "as_digits",
    "as_exact",
    "as_floats",
    "as_number",
    "changed",
    "decimal_of",
    "exact_number",
    "takes_decimals",
]

"""Numbers of JSON with all their digits, for inputs that are decimals; everywhere else they are floats like any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class Digits(float):
    """A float that knows the text that it was read from."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        found = super().__new__(cls, text)
        found.text = text
        return found


def as_decimals(value: Any) -> Any:
    """JSON data with a decimal for each number that knows its digits."""
    return _changed(value, lambda number: Decimal(number.text))


def as_floats(value: Any) -> Any:
    """JSON data with plain floats."""
    return _changed(value, float)


def _changed(value: Any, change: Callable[[Digits], Any]) -> Any:
    match value:
        case Digits():
            return change(value)
        case list():
            return [_changed(part, change) for part in value]
        case dict():
            return {name: _changed(part, change) for name, part in value.items()}
        case _:
            return value


def takes_decimals(adapter: TypeAdapter[Any]) -> bool:
    """Whether there is a decimal somewhere in the type."""
    return _holds_decimal(adapter.core_schema)


def _holds_decimal(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return schema.get("type") == "decimal" or any(map(_holds_decimal, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_holds_decimal, schema))


__all__ = ["Digits", "as_decimals", "as_floats", "takes_decimals"]

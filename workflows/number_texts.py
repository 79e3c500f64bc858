"""Texts that are numbers, for conditions: CSV, JSON lines and SQLite have no other form for a decimal."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Self

from carrara.workflows.digits import as_number, changed, decimal_of


class NumberText(str):
    """A text that is compared as the `number` that it says with numbers and with others of its kind; everywhere else
    it is a text like any."""

    number: Decimal
    __hash__ = str.__hash__

    @classmethod
    def of(cls, text: str) -> Self | str:
        """The text itself where it says no number."""
        number = decimal_of(text)
        if number is None:
            return text
        found = cls(text)
        found.number = number
        return found

    def __eq__(self, other: object) -> bool:
        return self._compared(other, eq, str.__eq__)

    def __ne__(self, other: object) -> bool:
        return self._compared(other, ne, str.__ne__)

    def __lt__(self, other: Any) -> bool:
        return self._compared(other, lt, str.__lt__)

    def __le__(self, other: Any) -> bool:
        return self._compared(other, le, str.__le__)

    def __gt__(self, other: Any) -> bool:
        return self._compared(other, gt, str.__gt__)

    def __ge__(self, other: Any) -> bool:
        return self._compared(other, ge, str.__ge__)

    def _compared(
        self,
        other: Any,
        as_numbers: Callable[[Decimal, Decimal], bool],
        as_texts: Callable[[str, Any], bool],
    ) -> bool:
        number = _number(other)
        return as_texts(self, other) if number is None else as_numbers(self.number, number)


def _number(value: Any) -> Decimal | None:
    return value.number if isinstance(value, NumberText) else as_number(value)


def with_number_texts(value: Any) -> Any:
    """JSON data in which the texts that are numbers are `NumberText`s."""
    return changed(value, str, NumberText.of)


__all__ = ["NumberText", "with_number_texts"]

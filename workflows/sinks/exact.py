"""Values in columns that somebody else has made: none may come back as another one, so that what such a column would
change is refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from carrara.workflows.sinks.shape import Misfit, Shape, places_of

Form = Callable[[Any, str], Any]
"""A value, not None, as a column takes it; raises Misfit with the column's name where that would change it."""


def as_double(value: Any, name: str) -> Any:
    """An integer or a decimal for a column of floats: it must come back with all its digits."""
    found = float(value)
    if (found if isinstance(value, int) else Decimal(repr(found))) != value:
        raise Misfit(
            f"{name}: a column of floats would round {value}; make it one of decimals, or of text"
        )
    return value


def as_decimal(value: float, name: str) -> Decimal:
    """A float for a column of decimals, with the digits that it is written with."""
    return Decimal(repr(value))


def within_places(places: int, before: Form | None = None) -> Form:
    """A decimal for a column with so many digits behind the point; `before` makes it of the value."""

    def form(value: Any, name: str) -> Any:
        found = value if before is None else before(value, name)
        if places_of(found) > places:
            raise Misfit(
                f"{name}: the column would round {value}, it has {places} digits behind the point"
            )
        return found

    return form


def in_utc(value: datetime.datetime, name: str) -> datetime.datetime:
    """A moment, which is in UTC, for a column that would take it for one in the time zone of the session."""
    return value.replace(tzinfo=datetime.UTC)


def within_length(length: int) -> Form:
    """A text for a column of so many characters, which would cut off blanks without a word."""

    def form(value: str, name: str) -> str:
        if len(value) > length:
            raise Misfit(
                f"{name}: a text of {len(value)} characters, the column takes {length}: {value[:40]!r}"
            )
        return value

    return form


def as_uuid(value: str, name: str) -> str:
    """A key for a column of UUIDs, to which other ways of writing one are the same key."""
    try:
        is_same = str(UUID(value)) == value
    except ValueError:
        is_same = False
    if not is_same:
        raise Misfit(f"{name}: {value[:40]!r} is no UUID as the column would give it back")
    return value


def has_room(shape: Shape, places: int) -> bool:
    """Whether a column with so many digits behind the point holds all that the type of a value allows. Where the type
    names none, each value is looked at."""
    return places >= (shape.places or 0)


__all__ = [
    "Form", "as_decimal", "as_double", "as_uuid", "has_room", "in_utc", "within_length", "within_places",
]  # fmt: skip

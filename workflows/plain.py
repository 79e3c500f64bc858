"""Any value of a workflow as JSON data and as text: for prompts, output rows and the screen."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Set
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID

from carrara.workflows.digits import Digits, exact_number
from carrara.workflows.values import Outline, OutlineItem, Table

_AS_IT_IS = frozenset({NoneType, bool, int, str})


class NoNumber(ValueError):
    """A number that JSON does not know: NaN or infinity."""


def plain(
    value: Any, *, exact: bool = False, strict: bool = False, keep: tuple[type, ...] = ()
) -> Any:
    """`value` as JSON data: models and dataclasses as objects, tables as lists of rows, dates as ISO text.

    A number that JSON does not know (NaN, infinity) becomes None; with `strict` it is refused. A decimal becomes a
    number, with `exact` a text that has all its digits. Values of the types to `keep` stay what they are.

    Raises:
        TypeError: a part of the value has no JSON form.
        NoNumber: with `strict`, see above.
    """
    if type(value) in _AS_IT_IS or (keep and isinstance(value, keep)):
        return value
    match value:
        case Enum():
            return plain(value.value, exact=exact, strict=strict, keep=keep)
        case str():
            return value
        case int():
            return int(value)
        case Digits():
            return plain(exact_number(value.text), exact=exact, strict=strict, keep=keep)
        case float():
            return float(value) if math.isfinite(value) else _unknown(value, strict)
        case Decimal():
            if not value.is_finite():
                return _unknown(value, strict)
            return str(value) if exact else _number(value)
        case dict() | Mapping():  # asking an abstract class takes ten times as long
            return {
                _key(key): plain(part, exact=exact, strict=strict, keep=keep)
                for key, part in value.items()
            }
        case Table():
            return plain(value.records(), exact=exact, strict=strict, keep=keep)
        case Outline() | OutlineItem():
            return value.data()
        case list() | tuple() | Set():
            return [plain(part, exact=exact, strict=strict, keep=keep) for part in value]
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return _object(value, exact, strict, keep)


def faithful(value: Any) -> Any:
    """`value` as JSON data that says no less, for rows and results: decimals are text, so that no digit is lost.

    Raises:
        ValueError: a part of it has no JSON form; names the place, as in `items/2/price`, or "value" for the whole.
    """
    try:
        return plain(value, exact=True, strict=True)
    except (TypeError, NoNumber) as error:
        raise ValueError(f"{_place_of_refused(value) or 'value'}: {error}") from error


def _place_of_refused(value: Any) -> str:
    for name, part in _parts(value):
        try:
            plain(part, strict=True)
        except (TypeError, NoNumber):
            return f"{name}/{_place_of_refused(part)}".rstrip("/")
    return ""


def _parts(value: Any) -> list[tuple[Any, Any]]:
    match value:
        case Mapping():
            return list(value.items())
        case list() | tuple():
            return list(enumerate(value))
        case _ if hasattr(type(value), "model_dump"):
            return list(value.model_dump(by_alias=True).items())
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        case _:
            return []


def as_text(value: Any) -> str:
    """`value` as a prompt shows it: texts as they are, tables and outlines as Markdown, dates in ISO form,
    everything else as JSON.

    Raises:
        TypeError: the value has no such form.
    """
    match value:
        case Enum():
            return as_text(value.value)
        case str():
            return str(value)
        case Table() | Outline():
            return value.markdown()
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Decimal() | UUID() | PurePath():
            return str(value)
        case _:
            return json.dumps(plain(value), ensure_ascii=False)


def _key(key: Any) -> str:
    found = plain(key)
    return found if isinstance(found, str) else json.dumps(found)


def _unknown(value: float | Decimal, strict: bool) -> None:
    if strict:
        raise NoNumber(f"{value} is no number that JSON has; give null in its place")


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _object(value: Any, exact: bool, strict: bool, keep: tuple[type, ...]) -> Any:
    if hasattr(type(value), "model_dump"):
        return plain(value.model_dump(by_alias=True), exact=exact, strict=strict, keep=keep)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: plain(getattr(value, f.name), exact=exact, strict=strict, keep=keep)
            for f in dataclasses.fields(value)
        }
    if isinstance(value, UUID | PurePath | datetime.timedelta):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")

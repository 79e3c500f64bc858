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
from typing import Any
from uuid import UUID

from carrara.workflows.values import Outline, OutlineItem, Table


def plain(value: Any, *, exact: bool = False) -> Any:
    """`value` as JSON data: models and dataclasses as objects, tables as lists of rows, dates as ISO text.

    A number that JSON does not know (NaN, infinity) becomes None. A decimal becomes a number, with `exact` a text that
    has all its digits.

    Raises:
        TypeError: a part of the value has no JSON form.
    """
    match value:
        case None | bool() | str() if not isinstance(value, Enum):
            return value
        case Enum():
            return plain(value.value, exact=exact)
        case int():
            return int(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return _number(value) if not exact else str(value) if value.is_finite() else None
        case Mapping():
            return {_key(key): plain(part, exact=exact) for key, part in value.items()}
        case Table():
            return plain(value.records(), exact=exact)
        case Outline() | OutlineItem():
            return value.data()
        case list() | tuple() | Set():
            return [plain(part, exact=exact) for part in value]
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return _object(value, exact)


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


def _number(value: Decimal) -> int | float | None:
    if not value.is_finite():
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def _object(value: Any, exact: bool) -> Any:
    if hasattr(type(value), "model_dump"):
        return plain(value.model_dump(by_alias=True), exact=exact)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: plain(getattr(value, f.name), exact=exact) for f in dataclasses.fields(value)
        }
    if isinstance(value, UUID | PurePath | datetime.timedelta):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")

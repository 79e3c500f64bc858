"""Decimals are text in rows, so that no digit is lost; the contract of an answer asks for numbers in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from carrara.engines.json_schema import violations


def with_numbers(value: Any, schema: Mapping[str, Any]) -> Any:
    """JSON data with numbers for the texts that hold one, where the schema refuses the text itself."""
    wrong = {pointer for pointer, _ in violations(json.dumps(schema), value)}
    return _changed(value, "", wrong) if wrong else value


def _changed(value: Any, at: str, wrong: set[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _changed(part, f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}", wrong)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_changed(part, f"{at}/{index}", wrong) for index, part in enumerate(value)]
    return _number(value) if isinstance(value, str) and at in wrong else value


def _number(text: str) -> int | float | str:
    try:
        found = Decimal(text)
    except InvalidOperation:
        return text
    if not found.is_finite():
        return text
    return int(found) if found == found.to_integral_value() else float(found)


__all__ = ["with_numbers"]

"""Keys that are numbers: 2.0 is the key 2, however it is written."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from carrara.workflows.digits import as_number, decimal_of


def number_mark(key: Any) -> str | None:
    """A text that numbers have in common exactly where they are equal, for a number and for a text that is one; None
    for any other key."""
    found = decimal_of(key) if isinstance(key, str) else as_number(key)
    return _shortest(found) if found is not None and found.is_finite() else None


def is_number(key: Any) -> bool:
    return as_number(key) is not None


def _shortest(number: Decimal) -> str:
    """The number without zeros at its end; no digit is rounded away."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    written = "".join(map(str, digits)).lstrip("0")
    kept = written.rstrip("0")
    return f"{'-' * sign}{kept}e{exponent + len(written) - len(kept)}" if kept else "0"


__all__ = ["is_number", "number_mark"]

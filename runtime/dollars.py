"""Sums of money as they are shown: calls to models cost from millionths of a dollar to many dollars."""

from __future__ import annotations

import math
from decimal import Decimal


def dollars(amount: float, digits: int = 2) -> str:
    """Cents, of a sum under a dollar as many decimals as so many significant digits need: "$0.046"."""
    if amount >= 1 or amount <= 0:
        return f"${amount:,.{digits}f}"
    return f"${amount:.{max(2, digits - 1 - math.floor(math.log10(amount)))}f}"


def told_apart(one: float, other: float) -> tuple[str, str]:
    """Two sums with as many digits as tell them apart, two at least."""
    for digits in range(2, 17):
        shown = dollars(one, digits), dollars(other, digits)
        if shown[0] != shown[1]:
            break
    return shown


def as_given(amount: float) -> str:
    """A sum that somebody wrote, with the digits that it has: "$5", "$0.000001"."""
    return f"${Decimal(f'{amount:.15g}'):f}"


__all__ = ["as_given", "dollars", "told_apart"]

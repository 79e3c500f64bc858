"""Other ways to write a number or a date: what a document may show where the answer holds 1234.5 or 2026-02-03."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ].*)?$")


def number_forms(value: float) -> Iterator[str]:
    """A number, a whole one of any size: 1234.5 as "1234.5", "1,234.50", "1.234,50", "1 234,50" and so on; likeliest
    first. For a whole number those without decimals come before those with. NaN and infinity have none."""
    exact = Decimal(value) if isinstance(value, int) else Decimal(repr(float(value)))
    if not exact.is_finite():
        return
    digits, _, fraction = f"{abs(exact):f}".partition(".")
    fraction = fraction.rstrip("0")
    decimals = [fraction]
    if len(fraction) < 2:
        decimals.append(fraction.ljust(2, "0"))
    sign = "-" if value < 0 else ""
    seen: set[str] = set()
    for part in decimals:
        for thousands, point in (
            ("", "."),
            (",", "."),
            ("", ","),
            (".", ","),
            (" ", ","),
            ("'", "."),
        ):
            made = _grouped(digits, thousands) + (point + part if part else "")
            if made not in seen:
                seen.add(made)
                yield sign + made


def date_forms(text: str) -> Iterator[str]:
    """An ISO date as documents write it: 2026-02-03, 03/02/2026, 2/3/2026, 3.2.2026, 3 February 2026, Feb 3, 2026, …"""
    if not _ISO.match(text):
        return
    try:
        day = datetime.fromisoformat(text).date() if len(text) > 10 else date.fromisoformat(text)
    except ValueError:
        return
    month = _MONTHS[day.month - 1]
    years = (f"{day.year:04}", f"{day.year % 100:02}")
    yield f"{day.year:04}-{day.month:02}-{day.day:02}"
    for year in years:
        for mark in ("/", "-", ".", " "):
            yield f"{day.day:02}{mark}{day.month:02}{mark}{year}"
            yield f"{day.month:02}{mark}{day.day:02}{mark}{year}"
            yield f"{day.day}{mark}{day.month}{mark}{year}"
            yield f"{day.month}{mark}{day.day}{mark}{year}"
        for name in (month, month[:3], month[:3].upper(), month.upper()):
            yield f"{day.day} {name} {year}"
            yield f"{day.day:02} {name} {year}"
            yield f"{day.day:02}-{name}-{year}"
            yield f"{name} {day.day}, {year}"
            yield f"{name} {day.day:02}, {year}"
            yield f"{day.day}. {name} {year}"
    yield f"{day.year:04}/{day.month:02}/{day.day:02}"
    yield f"{day.year:04}.{day.month:02}.{day.day:02}"
    yield f"{day.year:04}{day.month:02}{day.day:02}"


def _grouped(digits: str, mark: str) -> str:
    if not mark or len(digits) < 4:
        return digits
    head = len(digits) % 3
    parts = [digits[:head]] if head else []
    return mark.join([*parts, *(digits[at : at + 3] for at in range(head, len(digits), 3))])


__all__ = ["date_forms", "number_forms"]

"""The limits of a batch, looked at before an engine opens: one that nothing fits into would keep everybody waiting."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_whole(limits: DataclassInstance, may_be_zero: frozenset[str] = frozenset()) -> None:
    """Refuse limits of which one is not a whole number of 1 (0 for some) or more.

    Raises:
        ValueError: names the limit, its value and its range.
    """
    for limit in fields(limits):
        value, least = getattr(limits, limit.name), 0 if limit.name in may_be_zero else 1
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or value < least:
            raise ValueError(
                f"{type(limits).__name__}: {limit.name} is {value!r}, it must be a whole number, at least {least}"
            )

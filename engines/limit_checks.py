"""The limits of a batch, looked at before an engine opens: one that nothing fits into would keep everybody waiting."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from carrara.engines.fields import COUNT, SIZE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_whole(limits: DataclassInstance, may_be_zero: frozenset[str] = frozenset()) -> None:
    """Refuse limits of which one is not a whole number of 1 (0 for some) or more.

    Raises:
        ValueError: names the limit, its value and its range.
    """
    for limit in fields(limits):
        value, allowed = getattr(limits, limit.name), COUNT if limit.name in may_be_zero else SIZE
        if value not in allowed:
            raise ValueError(
                f"{type(limits).__name__}: {limit.name} is {value!r}, it must be {allowed}"
            )

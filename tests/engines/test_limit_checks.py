"""Limits of a batch that nothing fits into are refused when they are named, not by an engine that hangs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from carrara.engines.autoregressive.batch import BatchLimits as AutoregressiveLimits
from carrara.engines.diffusion.batch import BatchLimits

KINDS: list[type[Any]] = [BatchLimits, AutoregressiveLimits]
MAY_BE_ZERO = ("least", "padding")
CASES = [(kind, limit.name) for kind in KINDS for limit in fields(kind)]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_each_limit_is_a_whole_number_above_nothing(kind: type[Any], name: str) -> None:
    least = 0 if name in MAY_BE_ZERO else 1
    assert getattr(kind(**{name: least}), name) == least
    for wrong in (least - 1, -5, 2.5, True, "2", None):
        told = f"BatchLimits: {name} is {wrong!r}, it must be a whole number of at least {least}"
        with pytest.raises(ValueError, match=told):
            kind(**{name: wrong})

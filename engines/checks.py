"""The numbers of a request, looked at before an engine asks its model: the same ones are refused by every engine."""

from __future__ import annotations

import math

from carrara.engines.errors import EngineRefused
from carrara.engines.request import Request


def check_numbers(request: Request, engine: str) -> None:
    """Refuse limits and sampling that mean nothing.

    Raises:
        EngineRefused: names the number, its value and its range.
    """
    limits, sampling = request.limits, request.sampling
    for name, value, is_good, wanted in (
        ("max_tokens", limits.max_tokens, limits.max_tokens >= 1, "at least 1"),
        (
            "max_steps",
            limits.max_steps,
            limits.max_steps is None or limits.max_steps >= 1,
            "at least 1, or None for the engine's own limit",
        ),
        (
            "temperature",
            sampling.temperature,
            sampling.temperature >= 0 and math.isfinite(sampling.temperature),
            "0 (greedy) or a finite number above",
        ),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1, "above 0 and at most 1"),
    ):
        if not is_good:
            raise EngineRefused(f"{name} is {value}, it must be {wanted}", engine=engine)

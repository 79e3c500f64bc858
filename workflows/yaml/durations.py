"""Durations as people write them: 30, 1.5, "30s", "2m", "1h30m", "500ms"."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h)"
PATTERN = rf"^({_PART})+$"


def seconds(written: object) -> float:
    """The duration in seconds, above zero and finite.

    Raises:
        ValueError: not a duration.
    """
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise ValueError(_refusal(written))
    if isinstance(written, str):
        if not re.fullmatch(f"(?:{_PART})+", written):
            raise ValueError(_refusal(written))
        total = sum(float(n) * _UNITS[unit] for n, unit in re.findall(_PART, written))
    else:
        total = float(written)
    if not (math.isfinite(total) and total > 0):
        raise ValueError(_refusal(written))
    return total


def _refusal(written: object) -> str:
    return f"{written!r} is no duration. Write seconds, or text like '30s', '2m', '1h30m', '500ms'"

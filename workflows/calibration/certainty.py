"""What a share that some rows show says of all rows like them: a bound below it. Pure.

Wilson's bound of a binomial share (1927), with the number of rows that would scatter as these do where a row counts
for several things, such as fields.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

SLACK = 0.02
"""By how much a target may be missed on other rows."""

_Z = 1.6449  # of 95 % on one side


def lower(parts: Sequence[tuple[float, float]], share: float) -> float:
    """What a share is at least on all rows, with 95 % certainty: of rows that each have so much right of so much in
    `parts`. `share` is the one to start from, which may be below theirs; 0 for no rows."""
    count = len(parts)
    whole = sum(size for _, size in parts)
    if not count or not whole:
        return 0.0
    shown = sum(right for right, _ in parts) / whole
    # The variance of a ratio of means, by its linear part.
    spread = sum((right - shown * size) ** 2 for right, size in parts) / whole**2
    rows = shown * (1 - shown) / spread if 0 < shown < 1 and spread else count
    return _wilson(share, rows)


def rows_for(share: float, low: float, least: float, rows: int) -> int:
    """About how many rows would show that `share` is at least `least`, where `rows` show that it is at least `low`."""
    return math.ceil(rows * ((share - low) / (share - least)) ** 2)


def _wilson(share: float, rows: float) -> float:
    off = _Z * math.sqrt(share * (1 - share) / rows + (_Z / (2 * rows)) ** 2)
    return max(0.0, (share + _Z**2 / (2 * rows) - off) / (1 + _Z**2 / rows))


__all__ = ["SLACK", "lower", "rows_for"]

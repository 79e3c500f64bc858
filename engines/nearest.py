"""What was probably meant by a misspelt name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name in `known` that is spelled nearly like `word`, or the beginning of one in the other; None for none.

    Upper and lower case are alike. Among equally near ones the one that begins alike for longer.
    """
    lowered = {name.lower(): name for name in known}
    wanted = word.lower()
    ratios = {name: SequenceMatcher(None, wanted, name).ratio() for name in lowered}
    starts = [n for n in lowered if min(len(n), len(wanted)) >= 3 and _begins(n, wanted)]

    def closest(cutoff: float) -> str | None:
        found = [name for name, ratio in ratios.items() if ratio >= cutoff]
        return max(found, key=lambda n: (ratios[n], _alike(n, wanted)), default=None)

    found = closest(0.8) or min(starts, key=len, default=None) or closest(0.6)
    return None if found is None else lowered[found]


def _begins(first: str, second: str) -> bool:
    return first.startswith(second) or second.startswith(first)


def _alike(first: str, second: str) -> int:
    """How many characters the two have in common at their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))

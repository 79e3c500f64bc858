"""Numbers in a policy: one out of its range is an error that says the range, in the words of a pipeline file."""

from __future__ import annotations

from typing import Any

from carrara.engines.errors import CarraraError


def check_number(
    what: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Raise CarraraError where `value` is no number, no `whole` one, or outside of its bounds; `what` names it."""
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise CarraraError(f"{what} must be {kind}, not {value!r}")
    for fits, words, bound in (
        (least is None or value >= least, "at least", least),
        (above is None or value > above, "above", above),
        (most is None or value <= most, "at most", most),
        (below is None or value < below, "below", below),
    ):
        if not fits:
            raise CarraraError(f"{what} must be {words} {bound:g}, not {value:g}")


__all__ = ["check_number"]

"""Values in a policy: one of another type or out of its range is an error that says what fits, in the words of a
pipeline file."""

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


def check_text(what: str, value: Any, *, empty: bool = False) -> None:
    """Raise CarraraError where `value` is no text, or an `empty` one that must not be."""
    if not isinstance(value, str) or not (value or empty):
        raise CarraraError(f"{what} must be a text, not {value!r}")


def check_switch(what: str, value: Any) -> None:
    """Raise CarraraError where `value` is neither True nor False."""
    if not isinstance(value, bool):
        raise CarraraError(f"{what} must be True or False, not {value!r}")


__all__ = ["check_number", "check_switch", "check_text"]

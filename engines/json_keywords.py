"""Two keywords of JSON Schema as people mean them, for the validator: `multipleOf` in decimals, and `oneOf` whose
branches differ in a format that is not checked elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

from carrara.engines.json_values import exact

_DATE = r"\d{4}-\d{2}-\d{2}"
_TIME = r"\d{2}:\d{2}(:\d{2}([.,]\d+)?)?([Zz]|[+-]\d{2}:?\d{2})?"
_PLAIN = {
    "date-time": re.compile(rf"{_DATE}[Tt ]{_TIME}"),
    "time": re.compile(_TIME),
    "duration": re.compile(r"[+-]?P[0-9WYMDTHS.,]+"),
}
"""Formats that people spell in more ways than the standard has: checked only where they tell branches apart."""


@lru_cache(maxsize=1)
def kind_of_validator() -> Any:
    """The class of validators that read the two keywords so."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    return extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"multipleOf": _multiple_of, "oneOf": _one_of}
    )


def _multiple_of(validator: Any, step: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As the numbers are written: 0.07 is a multiple of 0.01, though the floats are none."""
    from jsonschema.exceptions import ValidationError

    if not validator.is_type(instance, "number"):
        return
    if Fraction(exact(instance)) % Fraction(exact(step)):
        yield ValidationError(f"{instance!r} is not a multiple of {step}")


def _one_of(validator: Any, branches: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Where a value fits several branches, those do not count whose date-time, time or duration it is not."""
    from jsonschema import Draft202012Validator

    found = list(Draft202012Validator.VALIDATORS["oneOf"](validator, branches, instance, schema))
    if found and not found[0].context:
        strict = validator.evolve(format_checker=_strict(validator.format_checker))
        if sum(strict.evolve(schema=branch).is_valid(instance) for branch in branches) == 1:
            return
    yield from found


@lru_cache(maxsize=4)
def _strict(checker: Any) -> Any:
    """A checker of formats that knows some more."""
    from jsonschema import FormatChecker

    found = FormatChecker(())
    found.checkers = dict(checker.checkers)
    for name, pattern in _PLAIN.items():
        if name not in found.checkers:
            found.checks(name)(_matching(pattern))
    return found


def _matching(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or pattern.fullmatch(value) is not None


__all__ = ["kind_of_validator"]

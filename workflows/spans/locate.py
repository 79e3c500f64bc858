"""The span of every value of an answer in its source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from math import isfinite
from typing import Any

from carrara.workflows.spans.forms import date_forms, number_forms
from carrara.workflows.spans.source_text import SourceText, Span

_DECIMAL = re.compile(r"-?\d{1,15}\.\d+")


def locate(value: Any, text: str | SourceText) -> dict[str, Span | None]:
    """The spans of the texts and numbers in JSON data by JSON pointer; None for a value that stands nowhere.

    True, false and null have none, and neither do empty texts. The values of one list are looked for behind each other,
    as documents list them; where a value occurs several times, the one nearest behind the value before it is taken.
    """
    source = text if isinstance(text, SourceText) else SourceText(text)
    found: dict[str, Span | None] = {}
    near = 0
    for pointer, leaf in _leaves(value, ""):
        span = find_value(leaf, source, near)
        found[pointer] = span
        if span is not None:
            near = span.start if span.how == "fuzzy" else span.end
    return found


def find_value(value: str | float, source: SourceText, near: int = 0) -> Span | None:
    """The span of one text or number, also in the other ways to write a number or a date. A decimal comes as a text."""
    if isinstance(value, str):
        span = _any(date_forms(value), source, near, "date")
        if span is None and _DECIMAL.fullmatch(value):
            forms = chain((value,), number_forms(float(value)))
            span = _any(forms, source, near, "number")
        return span or source.find(value, near)
    return _any(number_forms(value), source, near, "number") if isfinite(value) else None


def _any(forms: Iterator[str], source: SourceText, near: int, how: Any) -> Span | None:
    for number, form in enumerate(forms):
        span = source.written(form, near, how if number else "exact")
        if span is not None:
            return span
    return None


def _leaves(value: Any, pointer: str) -> Iterator[tuple[str, str | float]]:
    match value:
        case None | bool() | "":
            return
        case str() | int() | float():
            yield pointer, value
        case Mapping():
            for key, part in value.items():
                name = str(key).replace("~", "~0").replace("/", "~1")
                yield from _leaves(part, f"{pointer}/{name}")
        case list() | tuple():
            for index, part in enumerate(value):
                yield from _leaves(part, f"{pointer}/{index}")


__all__ = ["find_value", "locate"]

"""The span of every value of an answer in its source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from carrara.workflows.spans.forms import date_forms, number_forms
from carrara.workflows.spans.source_text import SourceText, Span

_DECIMAL = re.compile(r"-?\d{1,15}\.\d+")


def locate(
    value: Any, text: str | SourceText, known: Mapping[str, Span] | None = None
) -> dict[str, Span | None]:
    """The spans of the texts and numbers in JSON data by JSON pointer; None for a value that stands nowhere.

    True, false and null have none, and neither do empty texts. The values of one list are looked for behind each other,
    as documents list them; where a value occurs several times, the one nearest behind the value before it is taken.
    What has a span among the `known` keeps it.
    """
    source = text if isinstance(text, SourceText) else SourceText(text)
    found: dict[str, Span | None] = {}
    near = 0
    for pointer, leaf in leaves(value):
        span = (known or {}).get(pointer) or find_value(leaf, source, near)
        found[pointer] = span
        if span is not None:
            near = span.start if span.how == "fuzzy" else span.end
    return found


def locate_in_part(value: Any, text: str, start: int, end: int) -> dict[str, Span | None]:
    """The same for what was read from characters `start` to `end`; the spans are places in the whole text."""
    found = locate(value, text[start:end])
    return {
        pointer: span and replace(span, start=span.start + start, end=span.end + start)
        for pointer, span in found.items()
    }


def find_value(
    value: str | float, source: SourceText, near: int = 0, *, rough: bool = True
) -> Span | None:
    """The span of one text or number, also in the other ways to write a number or a date. A decimal comes as a text.
    `rough`: texts may be a little different."""
    if isinstance(value, str):
        span = _any(date_forms(value), source, near, "date")
        if span is None and _DECIMAL.fullmatch(value):
            forms = chain((value,), number_forms(float(value)))
            span = _any(forms, source, near, "number")
        return span or source.find(value, near, rough=rough)
    return _any(number_forms(value), source, near, "number")


def occurrences(value: str | float, source: SourceText) -> int:
    """How often a text or number stands in the source, in the form in which it is found there first."""
    span = find_value(value, source, rough=False)
    return 0 if span is None else source.count(source.text[span.start : span.end])


def _any(forms: Iterator[str], source: SourceText, near: int, how: Any) -> Span | None:
    for number, form in enumerate(forms):
        span = source.written(form, near, how if number else "exact")
        if span is not None:
            return span
    return None


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, str | float]]:
    """The texts and numbers in JSON data that can be looked for, by JSON pointer."""
    match value:
        case None | bool() | "":
            return
        case str() | int() | float():
            yield pointer, value
        case Mapping():
            for key, part in value.items():
                name = str(key).replace("~", "~0").replace("/", "~1")
                yield from leaves(part, f"{pointer}/{name}")
        case list() | tuple():
            for index, part in enumerate(value):
                yield from leaves(part, f"{pointer}/{index}")


__all__ = ["find_value", "leaves", "locate", "locate_in_part", "occurrences"]

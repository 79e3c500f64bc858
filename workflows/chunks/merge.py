"""Putting the answers about the parts of a document together, field by field, by declared rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from typing import Any, Literal, get_args

from carrara.engines.errors import CarraraError
from carrara.workflows.chunks.overlap import joined, same
from carrara.workflows.chunks.split import Chunk
from carrara.workflows.digits import as_number

Rule = Literal["first", "last", "longest", "most", "all", "unique", "sum", "min", "max"]
RULES: tuple[Rule, ...] = get_args(Rule)
COMPARED = (Decimal, date)
"""What is merged as it is, beside JSON data: numbers with all their digits, dates and moments."""

_DIGITS = 1000
"""Of a sum of decimals."""


def merge(
    parts: Sequence[Any],
    rules: Mapping[str, Rule] | None = None,
    *,
    usual: Rule | None = None,
    chunks: Sequence[Chunk] = (),
) -> Any:
    """One value of the answers about the parts of a document, in their order.

    Objects are merged key by key; `rules` name the rule of a key (nested ones with dots, `seller.name`), `usual` that
    of the others: by default lists are put behind each other without repeated items ("unique"), everything else is
    "first". Empty values (null, "", [], {}) never win over others.

    first, last: the first or last value. longest: the longest text or list. most: the one that most parts give, the
    first of them in a tie. all: lists behind each other. unique: the same without repeated items, which are exactly
    equal. sum: of numbers, a decimal where one of them is. min, max: of numbers, of dates or of moments.

    `chunks` are the parts of the document, one for each answer: where they overlap, "all" takes an item that stands in
    the overlap once, though the answers about both parts have it (see `chunks.overlap`).

    Raises:
        CarraraError: an unknown rule, or one that does not fit a value; names the field. Or there are not as many
            chunks as answers.
    """
    if chunks and len(chunks) != len(parts):
        raise CarraraError(
            f"merge has {len(parts)} answers and {len(chunks)} chunks: give one for each"
        )
    known = dict(rules or {})
    for field, rule in (*known.items(), ("", usual)):
        if rule is not None and rule not in RULES:
            raise CarraraError(
                f"merge rule {rule!r} of {field or 'all fields'}: there are {', '.join(RULES)}"
            )
    return _Merge(known, usual, chunks).of(list(enumerate(parts)), "")


_Given = list[tuple[int, Any]]
"""Values with the numbers of their parts."""


@dataclass(frozen=True, slots=True)
class _Merge:
    rules: Mapping[str, Rule]
    usual: Rule | None
    chunks: Sequence[Chunk]

    def of(self, parts: _Given, field: str) -> Any:
        given = [(number, part) for number, part in parts if not _is_empty(part)]
        if not given:
            return parts[0][1] if parts else None
        rule = self.rules.get(field)
        values = [part for _, part in given]
        if rule is None and all(isinstance(part, Mapping) for part in values):
            keys = dict.fromkeys(key for part in values for key in part)
            return {
                key: self.of(
                    [(number, part[key]) for number, part in given if key in part],
                    f"{field}.{key}" if field else str(key),
                )
                for key in keys
            }
        if rule is None:
            are_lists = all(isinstance(part, list) for part in values)
            rule = self.usual or ("unique" if are_lists else "first")
        if rule == "all":
            _check(values, list, "lists", rule, field)
            return joined(given, self.chunks)
        return _by(rule, values, field)


def _by(rule: Rule, given: list[Any], field: str) -> Any:
    match rule:
        case "first":
            return given[0]
        case "last":
            return given[-1]
        case "most":
            counts = Counter(map(same, given))
            return max(given, key=lambda part: counts[same(part)])
        case "longest":
            _check(given, str | list | date, "texts or lists", rule, field)
            return max(given, key=_length)
        case "unique":
            _check(given, list, "lists", rule, field)
            return _unique(item for part in given for item in part)
        case "sum":
            _check(given, int | float | Decimal, "numbers", rule, field)
            return _sum(given)
        case "min" | "max":
            _check(given, int | float | Decimal | date, "numbers, dates and moments", rule, field)
            try:
                return min(given) if rule == "min" else max(given)
            except TypeError as error:  # a number and a date, times with and without an offset
                raise CarraraError(
                    f"merge rule {rule!r} of {field or 'the value'}: {error}"
                ) from error


def _unique(items: Iterable[Any]) -> list[Any]:
    """Each item where it stands first."""
    found: dict[Hashable, Any] = {}
    for item in items:
        found.setdefault(same(item), item)
    return list(found.values())


def _sum(given: list[Any]) -> Any:
    if not any(isinstance(part, Decimal) for part in given):
        return sum(given)
    with localcontext() as context:
        context.prec = _DIGITS
        return sum((Decimal(as_number(part) or 0) for part in given), Decimal(0))


def _length(part: Any) -> int:
    return len(str(part) if isinstance(part, date) else part)


def _check(given: list[Any], kind: Any, named: str, rule: Rule, field: str) -> None:
    for part in given:
        if not isinstance(part, kind) or isinstance(part, bool):
            raise CarraraError(
                f"merge rule {rule!r} of {field or 'the value'} is for {named}, not for {part!r}"
            )


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | Mapping) and not value)


__all__ = ["COMPARED", "RULES", "Rule", "merge"]

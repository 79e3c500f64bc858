"""Putting the answers about the parts of a document together, field by field, by declared rules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from carrara.engines.errors import CarraraError

Rule = Literal["first", "last", "longest", "most", "all", "unique", "sum", "min", "max"]
RULES: tuple[Rule, ...] = get_args(Rule)


def merge(
    parts: Sequence[Any], rules: Mapping[str, Rule] | None = None, *, usual: Rule | None = None
) -> Any:
    """One value of the answers about the parts of a document, in their order.

    Objects are merged key by key; `rules` name the rule of a key (nested ones with dots, `seller.name`), `usual` that
    of the others: by default lists are put behind each other without repeated items ("unique"), everything else is
    "first". Empty values (null, "", [], {}) never win over others.

    first, last: the first or last value. longest: the longest text or list. most: the one that most parts give, the
    first of them in a tie. all: lists behind each other. unique: the same without repeated items. sum, min, max: of
    numbers.

    Raises:
        CarraraError: an unknown rule, or one that does not fit a value; names the field.
    """
    known = dict(rules or {})
    for field, rule in (*known.items(), ("", usual)):
        if rule is not None and rule not in RULES:
            raise CarraraError(
                f"merge rule {rule!r} of {field or 'all fields'}: there are {', '.join(RULES)}"
            )
    return _merged(list(parts), known, usual, "")


def _merged(parts: list[Any], rules: Mapping[str, Rule], usual: Rule | None, field: str) -> Any:
    given = [part for part in parts if not _is_empty(part)]
    if not given:
        return parts[0] if parts else None
    rule = rules.get(field)
    if rule is None and all(isinstance(part, Mapping) for part in given):
        keys = dict.fromkeys(key for part in given for key in part)
        return {
            key: _merged(
                [part[key] for part in given if key in part],
                rules,
                usual,
                f"{field}.{key}" if field else str(key),
            )
            for key in keys
        }
    if rule is None:
        rule = usual or ("unique" if all(isinstance(part, list) for part in given) else "first")
    return _by(rule, given, field)


def _by(rule: Rule, given: list[Any], field: str) -> Any:
    match rule:
        case "first":
            return given[0]
        case "last":
            return given[-1]
        case "most":
            counts = Counter(map(_same, given))
            return max(given, key=lambda part: counts[_same(part)])
        case "longest":
            _check(given, str | list, "texts or lists", rule, field)
            return max(given, key=len)
        case "all" | "unique":
            _check(given, list, "lists", rule, field)
            items = [item for part in given for item in part]
            return (
                items
                if rule == "all"
                else list({_same(item): item for item in reversed(items)}.values())[::-1]
            )
        case "sum" | "min" | "max":
            _check(given, int | float, "numbers", rule, field)
            return sum(given) if rule == "sum" else min(given) if rule == "min" else max(given)


def _check(given: list[Any], kind: Any, named: str, rule: Rule, field: str) -> None:
    for part in given:
        if not isinstance(part, kind) or isinstance(part, bool):
            raise CarraraError(
                f"merge rule {rule!r} of {field or 'the value'} is for {named}, not for {part!r}"
            )


def _same(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).casefold()


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | Mapping) and not value)


__all__ = ["RULES", "Rule", "merge"]

"""Arrays and mappings of a JSON Schema: items with a gate after each, and tuples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from carrara.engines.diffusion.scaffold.forms import (
    NOTHING,
    At,
    Form,
    Gate,
    Items,
    Literal,
    Option,
    join,
)
from carrara.engines.diffusion.scaffold.json_build import Build, always
from carrara.engines.diffusion.scaffold.refused import CannotHold, NothingFits, below
from carrara.engines.diffusion.scaffold.schema_parts import Schema

_MOST_BY_ITSELF = 2048


def array_form(build: Build, schema: Schema, prefix: str) -> Form:
    fixed = list(schema.get("prefixItems", ()))
    least = int(schema.get("minItems", 0))
    most = schema.get("maxItems")
    most = None if most is None else int(most)
    rest = schema.get("items", True)
    if most is not None and least > most:
        raise NothingFits(f"minItems {least} and maxItems {most}: no array has such a length")
    if schema.get("uniqueItems") and (least > 1 or fixed):
        raise CannotHold("uniqueItems: distinct items are held for at most one required item")
    if fixed:
        return _tuple(build, fixed, rest, least, most, prefix)
    if rest is False or most == 0:
        if least:
            raise NothingFits(f"minItems {least}: no item is allowed there")
        return Literal(f"{prefix}[]")
    with below("items"):
        first, later = build.value(rest, ""), build.value(rest, " ")
    items = Items(
        first=first,
        later=later,
        least=max(least, 1),
        most=most,
        gate=_gates("]"),
        split=_list_items,
        distinct=bool(schema.get("uniqueItems")),
    )
    return _bracketed(items, least == 0, prefix, "[]")


def _tuple(
    build: Build, fixed: list[Any], rest: Any, least: int, most: int | None, prefix: str
) -> Form:
    """Items with a schema each, then more of one kind only where a minimum asks for them."""
    if least > max(len(fixed), _MOST_BY_ITSELF):
        raise CannotHold(
            f"minItems {least:,} behind prefixItems: at most {_MOST_BY_ITSELF:,} items can be asked for there"
        )
    shown = fixed if most is None else fixed[:most]
    parts: list[Form | str] = [f"{prefix}["]
    for number in range(max(len(shown), least)):
        is_fixed = number < len(fixed)
        schema, steps = (fixed[number], ("prefixItems", number)) if is_fixed else (rest, ("items",))
        try:
            with below(*steps):
                item = build.value(schema, " " if number else "")
        except NothingFits:
            if number < least:
                raise
            break  # no array is longer than that
        parts += ["," if number else "", At(number, item)]
    return join(*parts, "]")


def mapping_form(build: Build, schema: Schema, value: Any, key_schema: Any, prefix: str) -> Form:
    least = int(schema.get("minProperties", 0))
    most = schema.get("maxProperties")
    if least > 1:
        raise CannotHold("minProperties: a mapping is held with at most one required key")
    if most == 0:
        return Literal(f"{prefix}{{}}")
    key = {"allOf": [{"type": "string"}, key_schema]}

    def item(before: str) -> Form:
        with below("propertyNames"):
            name = build.value(key, before)
        with below("additionalProperties"):
            return join(At(0, name, True), ":", At(1, build.value(value, " "), True))

    items = Items(
        first=item(""),
        later=item(" "),
        least=1,
        most=None if most is None else int(most),
        gate=_gates("}"),
        split=_mapping_items,
        keyed=True,
    )
    return _bracketed(items, least == 0, prefix, "{}")


def _bracketed(items: Items, may_be_empty: bool, prefix: str, brackets: str) -> Form:
    opened = f"{prefix}{brackets[0]}"
    if not may_be_empty:
        return join(opened, items)
    some = Option(opened, items, lambda value: items.split(value) is not None)
    none = Option(f"{prefix}{brackets}", NOTHING, lambda value: value in ([], {}))
    return Gate((some, none), "list", expect=0)


def _gates(closing: str) -> Callable[[int], Gate]:
    """The gate after each item: a comma and another one, or the closing bracket."""
    more, end = Option(",", NOTHING, always), Option(closing, NOTHING, always)
    gate = Gate((more, end), "list", expect=0)
    return lambda option: gate


def _list_items(value: Any) -> list[tuple[int, Any]] | None:
    return [(0, item) for item in value] if isinstance(value, list) and value else None


def _mapping_items(value: Any) -> list[tuple[int, Any]] | None:
    return [(0, item) for item in value.items()] if isinstance(value, dict) and value else None

"""Bounds of types: the least and the most of a number, of a text's length, of a list's items, of a table's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any, Final, cast

from carrara.workflows.yaml.kinds import ListOf, Nullable, Scalar, TableOf, Type
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.shape import context
from carrara.workflows.yaml.source import Location

_OF_SCALARS: Final[Mapping[str, tuple[str, ...]]] = {
    "int": ("min", "max"),
    "float": ("min", "max"),
    "decimal": ("min", "max"),
    "str": ("min_length", "max_length"),
}
_OF_LISTS: Final = ("min_items", "max_items")
_OF_TABLES: Final = ("min_rows", "max_rows")
_ALL: Final = ("min", "max", "min_length", "max_length", *_OF_LISTS, *_OF_TABLES)


def bounded(kind: Type, raw: Mapping[str, Any], where: Location, notes: Notes) -> Type | None:
    """`kind` with the bounds in `raw`; None after a bound that the kind does not have, or that is upside down."""
    bare = kind.of if isinstance(kind, Nullable) else kind
    given = {key: raw[key] for key in _ALL if key in raw}
    allowed = _bounds_of(bare)
    stray = [key for key in given if key not in allowed]
    says = f". It has {', '.join(allowed)}" if allowed else ""
    for key in stray:
        notes.at_key(
            (*where, key), f"'{key}' does not go with this type, in {context(where)}{says}"
        )
    if stray or not in_order(given, where, notes, whole=bare == Scalar("int")):
        return None
    if not given:
        return kind
    made = replace(cast(Scalar, bare), **given)
    return Nullable(made) if isinstance(kind, Nullable) else made


def _bounds_of(kind: Type) -> tuple[str, ...]:
    match kind:
        case Scalar(name):
            return _OF_SCALARS.get(name, ())
        case ListOf():
            return _OF_LISTS
        case TableOf():
            return _OF_TABLES
        case _:
            return ()


def in_order(
    given: Mapping[str, Any], where: Location, notes: Notes, *, whole: bool = False
) -> bool:
    """Whether something lies between the bounds, and with `whole` a whole number; notes where nothing does."""
    for ending in ("", "_length", "_items", "_rows"):
        low, high = given.get("min" + ending), given.get("max" + ending)
        if low is not None and high is not None and low > high:
            notes.at_value(
                (*where, "max" + ending),
                f"'max{ending}' {high:g} is below 'min{ending}' {low:g}",
            )
            return False
        if whole and low is not None and high is not None and ceil(low) > high:
            notes.at_value(
                (*where, "max"), f"there is no whole number from 'min' {low:g} to 'max' {high:g}"
            )
            return False
    return True

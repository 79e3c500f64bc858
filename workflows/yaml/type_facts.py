"""What can be told of a type: what a name stands for, what its items are, what another file may know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from carrara.workflows.chunks.merge import Rule
from carrara.workflows.yaml.kinds import (
    ANY,
    TEXT,
    Field,
    ListOf,
    MapOf,
    Named,
    Nullable,
    ObjectOf,
    OneOf,
    OutlineOf,
    Pattern,
    Scalar,
    SchemaOf,
    Shape,
    TableOf,
    Type,
)

Types = Mapping[str, Type]
"""Declared types by name."""


def resolved(kind: Type | None, declared: Types) -> Type | None:
    """`kind` without names and '?' around it."""
    for _ in range(len(declared) + 2):
        match kind:
            case Named(name):
                kind = declared.get(name)
            case Nullable(inner):
                kind = inner
            case _:
                break
    return kind


def item_type(kind: Type | None) -> Type | None:
    """The type of the items of a list, table or outline; None where it cannot be told."""
    match kind:
        case ListOf(item):
            return item
        case TableOf(columns):
            return Shape(tuple(Field(name, Scalar(scalar)) for name, scalar in columns))
        case OutlineOf():
            return Shape((Field("text", TEXT), Field("items", OutlineOf())))
        case _:
            return None


def wanted_by(rule: Rule) -> str:
    """What a merge rule is for, in words; "" where it takes everything."""
    match rule:
        case "all" | "unique":
            return "lists"
        case "sum":
            return "numbers"
        case "min" | "max":
            return "numbers, dates and moments"
        case "longest":
            return "texts and lists"
        case _:
            return ""


def fits(rule: Rule, kind: Type) -> bool:
    """Whether a merge rule can be for values of a type that is no name and not nullable."""
    is_list = isinstance(kind, ListOf | TableOf | OutlineOf | SchemaOf)
    match wanted_by(rule):
        case "lists":
            return is_list
        case "numbers":
            return _is_one_of(kind, _NUMBERS)
        case "numbers, dates and moments":
            return _is_one_of(kind, (*_NUMBERS, "date", "datetime"))
        case "texts and lists":
            return is_list or isinstance(kind, OneOf | Pattern) or _is_text(kind)
        case _:
            return True


_NUMBERS = ("int", "float", "decimal")


def _is_one_of(kind: Type, names: tuple[str, ...]) -> bool:
    return isinstance(kind, SchemaOf) or (isinstance(kind, Scalar) and kind.name in names)


def _is_text(kind: Type) -> bool:
    return isinstance(kind, Scalar) and kind.name in ("str", "date", "datetime")


def unbounded(kind: Type, declared: Types, within: tuple[str, ...] = ()) -> Type:
    """`kind` without the most items of its lists, tables and outlines: what several of its values make together."""
    match kind:
        case Named(name) if name in declared and name not in within:
            inner = unbounded(declared[name], declared, (*within, name))
            return kind if inner == declared[name] else inner
        case Nullable(inner):
            return Nullable(unbounded(inner, declared, within))
        case ListOf(item):
            return replace(kind, item=unbounded(item, declared, within), max_items=None)
        case MapOf(item):
            return MapOf(unbounded(item, declared, within))
        case TableOf():
            return replace(kind, max_rows=None)
        case OutlineOf():
            return replace(kind, max_items=None)
        case ObjectOf(fields):
            return replace(
                kind,
                fields=tuple(replace(f, type=unbounded(f.type, declared, within)) for f in fields),
            )
        case _:
            return kind


def exported(kind: Type, declared: Types, within: tuple[str, ...] = ()) -> Type:
    """`kind` as another file may know it: without the names that this file declares."""
    match kind:
        case Named(name):
            if name in within or name not in declared:
                return ANY
            return exported(declared[name], declared, (*within, name))
        case Nullable(inner):
            return Nullable(exported(inner, declared, within))
        case ListOf(item):
            return ListOf(exported(item, declared, within))
        case MapOf(item):
            return MapOf(exported(item, declared, within))
        case ObjectOf(fields) | Shape(fields):
            return Shape(tuple(Field(f.name, exported(f.type, declared, within)) for f in fields))
        case _:
            return kind

"""Types as their notation: the inverse of `notation`."""

from __future__ import annotations

import json
from typing import Any, Final

from carrara.workflows.yaml.kinds import (
    MISSING,
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
from carrara.workflows.yaml.notation import KIND_KEYS

_BOUNDS: Final = (
    "min", "max", "min_length", "max_length", "min_items", "max_items", "min_rows", "max_rows",
)  # fmt: skip
_TABLE: Final = TableOf(())
_OUTLINE: Final = OutlineOf()


def notation(kind: Type) -> Any:
    """How the type is written: a name, a list of one, or a mapping.

    Raises:
        TypeError: a Shape, which is only known and never written.
    """
    match kind:
        case Scalar(name):
            return {"type": name, **_bounds(kind)} if _bounds(kind) else name
        case Named(name):
            return name
        case ListOf(item):
            return {"list": notation(item), **_bounds(kind)} if _bounds(kind) else [notation(item)]
        case Nullable(inner):
            found = notation(inner)
            return f"{found}?" if isinstance(found, str) else {**_detailed(found), "optional": True}
        case ObjectOf(fields, description):
            parts = {field.name: field_notation(field) for field in fields}
            if description:
                return {"fields": parts, "description": description}
            return {"fields": parts} if any(key in parts for key in KIND_KEYS) else parts
        case OneOf(options):
            return {"one_of": list(options)}
        case MapOf(item):
            return {"map": notation(item)}
        case Pattern(regex):
            return {"regex": regex}
        case TableOf(columns):
            return {"table": dict(columns), **_bounds(kind)}
        case OutlineOf(depth):
            return {"outline": {"depth": depth, **_bounds(kind)}}
        case SchemaOf(text):
            return {"schema": json.loads(text)}
        case Shape():
            raise TypeError("a shape is known of another file's value, it is never written")


def field_notation(field: Field) -> Any:
    """The type of a field or an input, with its description and default."""
    found = notation(field.type)
    if not field.description and field.default is MISSING:
        return found
    more: dict[str, Any] = {"description": field.description} if field.description else {}
    if field.default is not MISSING:
        more["default"] = field.default
    return {**_detailed(found), **more}


def _detailed(written: Any) -> dict[str, Any]:
    """The notation as a mapping that takes details."""
    if isinstance(written, dict):
        return written if any(key in written for key in KIND_KEYS) else {"fields": written}
    return {"type": written}


def _bounds(kind: Scalar | ListOf | TableOf | OutlineOf) -> dict[str, Any]:
    """The bounds that differ from those of the type written without any."""
    usual: Any = {TableOf: _TABLE, OutlineOf: _OUTLINE}.get(type(kind))
    found = {name: getattr(kind, name) for name in _BOUNDS if hasattr(kind, name)}
    return {
        name: b for name, b in found.items() if b is not None and b != getattr(usual, name, None)
    }

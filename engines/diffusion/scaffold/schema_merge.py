"""Two schemas that both must hold, as one: what `allOf`, references with siblings and unions with siblings need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.engines.json_schema import pointer

Schema = dict[str, Any]


class CannotHold(CarraraError):
    """A schema, or a branch of it, that has no scaffold. A union goes on without such a branch.

    `path` is where in the schema the reason lies, as far as it is known: keywords and names, for a JSON pointer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: tuple[str | int, ...] = ()

    def again(self) -> CannotHold:
        """The same, to be raised at a further place that refers to the schema."""
        found = CannotHold(str(self.args[0]))
        found.path = self.path
        return found

    def __str__(self) -> str:
        reason = super().__str__()
        return f"at {pointer(self.path)}: {reason}" if self.path else reason


@contextmanager
def below(*steps: str | int) -> Iterator[None]:
    """Refusals inside lie below these steps of the schema."""
    try:
        yield
    except CannotHold as error:
        error.path = (*steps, *error.path)
        raise


MOST_BRANCHES = 64
"""Of a union, and of unions that hold together: one branch of each, in all ways that fit."""

_SILENT = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_SILENT |= {"$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "discriminator"}


def says_anything(schema: Schema) -> bool:
    return any(key not in _SILENT for key in schema)


def property_schema(schema: Schema, key: str) -> Any:
    """The schema of an object's property, False if it may not have it."""
    if key in schema.get("properties", {}):
        return schema["properties"][key]
    return schema.get("additionalProperties", True)


def products(left: list[Schema], right: list[Schema]) -> list[Schema]:
    """One of each side, merged, in all ways that fit.

    Raises:
        CannotHold: none fits, or more than MOST_BRANCHES do.
    """
    found: list[Schema] = []
    reasons: list[str] = []
    for a in left:
        check_branches(found)
        for b in right:
            try:
                found.append(merged(a, b))
            except CannotHold as error:
                reasons.append(str(error))
    if not found:
        raise CannotHold("; ".join(dict.fromkeys(reasons)) or "a schema that nothing fits")
    check_branches(found)
    return found


def check_branches(found: list[Schema]) -> None:
    """Raises CannotHold where there are more than MOST_BRANCHES."""
    if len(found) > MOST_BRANCHES:
        raise CannotHold(f"a union of {len(found)} branches or more (at most {MOST_BRANCHES})")


def merged(a: Schema, b: Schema) -> Schema:
    """One plain schema that asks what both ask."""
    found: Schema = {**a}
    for key, theirs in b.items():
        found[key] = _joined(key, a[key], theirs) if key in a and a[key] != theirs else theirs
    if "x-name" in a or "x-name" in b:
        found.pop("x-name", None)
        if not any(says_anything({k: v}) for k, v in b.items() if k != "type"):
            found["x-name"] = a.get("x-name", b.get("x-name"))
    if "properties" in a or "properties" in b:
        found["properties"] = _joined_properties(a, b)
    return found


def _joined(key: str, ours: Any, theirs: Any) -> Any:
    match key:
        case "type":
            if {ours, theirs} == {"integer", "number"}:
                return "integer"
            raise CannotHold(f"a schema that asks for both {ours} and {theirs}")
        case "required":
            return [*ours, *(name for name in theirs if name not in ours)]
        case "enum":
            both = [value for value in ours if value in theirs]
            if both:
                return both
            raise CannotHold("two enums without a common value")
        case "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties":
            return max(ours, theirs)
        case "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties":
            return min(ours, theirs)
        case "uniqueItems":
            return ours or theirs
        case "multipleOf" if float(ours).is_integer() and float(theirs).is_integer():
            return math.lcm(int(ours), int(theirs))
        case "pattern":
            return [*_listed(ours), *_listed(theirs)]
        case "items" | "additionalProperties" | "propertyNames":
            return _both(ours, theirs)
        case "properties":
            return ours
        case _ if key in _SILENT or key == "x-name":
            return ours
    raise CannotHold(f"two different {key!r} that both must hold")


def _joined_properties(a: Schema, b: Schema) -> Schema:
    found = {}
    for key in [*a.get("properties", {}), *b.get("properties", {})]:
        found[key] = _both(property_schema(a, key), property_schema(b, key))
    return found


def _both(ours: Any, theirs: Any) -> Any:
    if ours is True or ours == theirs:
        return theirs
    if theirs is True:
        return ours
    if ours is False or theirs is False:
        return False
    return {"allOf": [ours, theirs]}


def _listed(pattern: Any) -> list[str]:
    return pattern if isinstance(pattern, list) else [pattern]

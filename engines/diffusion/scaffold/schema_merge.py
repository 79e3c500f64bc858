"""Two schemas that both must hold, as one: what `allOf`, references with siblings and unions with siblings need."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from carrara.engines.diffusion.scaffold import formats
from carrara.engines.diffusion.scaffold.refused import CannotHold, NothingFits
from carrara.engines.diffusion.scaffold.schema_parts import (
    Parts,
    Schema,
    item_schema,
    member_schema,
)
from carrara.engines.json_values import distinct, exact, json_equal

_MEMBERS = ("properties", "additionalProperties", "patternProperties")
_ITEMS = ("prefixItems", "items")


class Merger:
    """Merges plain schemas, each two once. `takes` says whether a value is valid under a schema."""

    def __init__(self, parts: Parts, takes: Callable[[Schema, Any], bool]) -> None:
        self._parts = parts
        self._takes = takes
        self._merged: dict[tuple[int, int], Schema] = {}

    def merged(self, a: Schema, b: Schema) -> Schema:
        """One plain schema that asks what both ask.

        Raises:
            NothingFits: no value fits both.
            CannotHold: two keywords have no common form.
        """
        if a is b or not b:
            return a
        if not a:
            return b
        key = (id(a), id(b))
        if key not in self._merged:
            self._merged[key] = self._parts.shared(self._made(a, b))
        return self._merged[key]

    def closed(self, schema: Schema, words: list[str]) -> Schema:
        """A plain schema of which all that it names is told: nothing else may be there (`unevaluated…`)."""
        found = {**schema}
        if "unevaluatedProperties" in words:
            found.setdefault("additionalProperties", False)
        if "unevaluatedItems" in words:
            found.setdefault("items", False)
        return schema if "enum" in schema else self._parts.shared(found)

    def _made(self, a: Schema, b: Schema) -> Schema:
        for one, other in ((a, b), (b, a)):
            if "enum" in one:
                return {"enum": self._listed(one["enum"], other)}
        found: Schema = {}
        for key in [*a, *(key for key in b if key not in a)]:
            if key in _MEMBERS or key in _ITEMS:
                continue
            if key in a and key in b and not json_equal(a[key], b[key]):
                found[key] = self._joined(key, a[key], b[key])
            else:
                found[key] = a[key] if key in a else b[key]
        return found | self._members(a, b) | self._items(a, b)

    def _listed(self, values: list[Any], other: Schema) -> list[Any]:
        fitting = [value for value in distinct(values) if self._takes(other, value)]
        if not fitting:
            raise NothingFits("enum: none of its values fits")
        return fitting

    def _joined(self, key: str, ours: Any, theirs: Any) -> Any:
        match key:
            case "type":
                if {ours, theirs} == {"integer", "number"}:
                    return "integer"
                raise NothingFits(f"a schema that asks for both {ours} and {theirs}")
            case "required":
                return [*ours, *(name for name in theirs if name not in ours)]
            case "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties":
                return max(ours, theirs, key=exact)
            case "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties":
                return min(ours, theirs, key=exact)
            case "uniqueItems":
                return ours or theirs
            case "multipleOf":
                return _common_step(ours, theirs)
            case "pattern":
                return distinct([*_several(ours), *_several(theirs)])
            case "propertyNames":
                return self._parts.whole(ours, theirs)
            case "format" if formats.language(ours) is None:
                return theirs
            case "format" if formats.language(theirs) is None:
                return ours
        raise CannotHold(f"two different {key!r} that both must hold")

    def _members(self, a: Schema, b: Schema) -> Schema:
        """The keywords about the properties of both: what one does not name, its `additionalProperties` is about."""
        found: Schema = {}
        if "properties" in a or "properties" in b:
            names = dict.fromkeys([*a.get("properties", {}), *b.get("properties", {})])
            found["properties"] = {
                name: self._parts.whole(member_schema(a, name), member_schema(b, name))
                for name in names
            }
        if "additionalProperties" in a or "additionalProperties" in b:
            sides = (a.get("additionalProperties", True), b.get("additionalProperties", True))
            found["additionalProperties"] = self._parts.whole(*sides)
        ours, theirs = a.get("patternProperties", {}), b.get("patternProperties", {})
        if ours or theirs:
            others = (a.get("additionalProperties", True), b.get("additionalProperties", True))
            found["patternProperties"] = {
                name: self._parts.whole(ours.get(name, others[0]), theirs.get(name, others[1]))
                for name in dict.fromkeys([*ours, *theirs])
            }
        return found

    def _items(self, a: Schema, b: Schema) -> Schema:
        """The keywords about the items of both: behind the `prefixItems` of one, its `items` is about the others'."""
        found: Schema = {}
        count = max(len(a.get("prefixItems", ())), len(b.get("prefixItems", ())))
        fixed = [
            self._parts.whole(item_schema(a, number), item_schema(b, number))
            for number in range(count)
        ]
        if "items" in a or "items" in b:
            found["items"] = self._parts.whole(a.get("items", True), b.get("items", True))
        if False in fixed:  # no array is longer than that
            fixed, found["items"] = fixed[: fixed.index(False)], False
        if fixed:
            found["prefixItems"] = fixed
        return found


def _common_step(ours: Any, theirs: Any) -> Any:
    """The least common multiple of two steps."""
    one, other = Fraction(exact(ours)), Fraction(exact(theirs))
    for step, whole, part in ((ours, one, other), (theirs, other, one)):
        if whole % part == 0:
            return step
    if one % 1 == other % 1 == 0:
        return math.lcm(int(one), int(other))
    raise CannotHold(f"multipleOf: steps of both {ours} and {theirs} cannot be held")


def _several(pattern: Any) -> list[str]:
    return pattern if isinstance(pattern, list) else [pattern]


__all__ = ["Merger"]

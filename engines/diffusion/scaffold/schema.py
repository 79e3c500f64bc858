"""JSON Schemas made plain for compiling: references followed, `allOf` and siblings merged, unions spread out.

The result of `Schemas.plain` is a schema object without `$ref`, `allOf`, `anyOf` and `oneOf` at its top, and with
one `type`. What cannot be held on a canvas is refused here with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from carrara.engines.diffusion.scaffold.schema_merge import (
    CannotHold,
    Schema,
    below,
    check_branches,
    products,
    property_schema,
    says_anything,
)
from carrara.engines.json_schema import validator

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

_REFUSED = (
    "not",
    "if",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "contains",
    "$dynamicRef",
    "$recursiveRef",
)
_KEYWORDS_OF = {
    "object": (
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "minProperties",
    ),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


class Schemas:
    """The schemas inside one root schema."""

    def __init__(self, schema_text: str) -> None:
        self.root: Any = json.loads(schema_text)
        self._validator = validator(schema_text)
        self._spread_out: dict[int, tuple[Schema | bool, list[Schema]]] = {}
        self._beside: dict[str, int] = {}

    def takes(self, schema: Schema | bool, value: Any) -> bool:
        """Whether a value is valid under a part of the root schema, or one merged from its parts."""
        if schema is True or (isinstance(schema, dict) and not says_anything(schema)):
            return True
        try:
            return bool(self._validator.evolve(schema=_standard(schema)).is_valid(value))
        except RecursionError:
            return False

    def target(self, ref: str) -> Any:
        """What a `$ref` points at, inside the root.

        Raises:
            CannotHold: it points elsewhere or at nothing.
        """
        found = self.root
        if not ref.startswith("#"):
            raise CannotHold(f"$ref {ref!r} points outside the schema")
        if ref[1:2] not in ("", "/"):
            raise CannotHold(f"$ref {ref!r} names an anchor; name the place, as in '#/$defs/…'")
        for part in unquote(ref[1:]).split("/")[1:]:
            step = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step) if isinstance(found, list) else step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise CannotHold(f"$ref {ref!r} points at nothing") from None
        return found

    def branches(self, schema: Schema | bool) -> list[Schema]:
        """The plain schemas of which a value has to fit one; exactly one where `oneOf` asks for that.

        The same part of the root schema has the same ones each time.

        Raises:
            CannotHold: with the reason, where no branch is left.
        """
        if id(schema) not in self._spread_out:
            self._spread_out[id(schema)] = (schema, self._branches(schema, frozenset()))
        return self._spread_out[id(schema)][1]

    def _branches(self, schema: Schema | bool, seen: frozenset[str]) -> list[Schema]:
        """`seen` are references already followed here: a union that contains itself adds nothing new."""
        if schema is False:
            raise CannotHold("a schema that nothing fits")
        if schema is True or not schema:
            return self._typed({})
        assert isinstance(schema, dict)
        _refuse(schema)
        parts = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        if ref := schema.get("$ref"):
            if ref in seen:
                return []
            found = self._merged_branches([self.target(ref), parts], seen | {ref})
            return [_named(one, f"{ref}|{n}{self._mark(parts)}") for n, one in enumerate(found)]
        if schema.get("allOf"):
            return self._merged_branches([*schema["allOf"], parts], seen)
        for word in ("anyOf", "oneOf"):
            if word in parts:
                return self._spread(parts, word, seen)
        return self._typed(parts)

    def _mark(self, parts: Schema) -> str:
        """What tells a reference with these siblings from one with others, "" where they say nothing."""
        if not says_anything(parts):
            return ""
        text = json.dumps(parts, sort_keys=True)
        return f"+{self._beside.setdefault(text, len(self._beside))}"

    def _merged_branches(self, parts: Iterable[Any], seen: frozenset[str]) -> list[Schema]:
        """The branches of several schemas that hold together: one of each, merged."""
        found: list[Schema] | None = None
        for part in parts:
            if part is True or (isinstance(part, dict) and not says_anything(part)):
                continue
            branches = self._branches(part, seen) if seen else self.branches(part)
            found = branches if found is None else products(found, branches)
        return self._typed({}) if found is None else found

    def _spread(self, schema: Schema, word: str, seen: frozenset[str]) -> list[Schema]:
        rest = {key: value for key, value in schema.items() if key != word}
        found: list[Schema] = []
        groups: list[list[Schema]] = []
        reasons: list[str] = []
        for option in schema[word]:
            try:
                branches = self._merged_branches([option, rest], seen)
                groups.append(branches)
                found += branches
            except CannotHold as error:
                if word == "oneOf":
                    raise
                reasons.append(str(error))
        if not found and reasons:
            raise CannotHold("; ".join(dict.fromkeys(reasons)))
        check_branches(found)
        if word == "oneOf":
            self._check_exclusive(groups)
        return found

    def _typed(self, schema: Schema) -> list[Schema]:
        """One schema for each of its types."""
        if "const" in schema or "enum" in schema:
            return [schema]
        types = schema.get("type")
        if types is None:
            guesses = (t for t, words in _KEYWORDS_OF.items() if any(w in schema for w in words))
            types = next(guesses, None) or ["string", "number", "boolean", "null"]
        if isinstance(types, str):
            types = [types]
        if "number" in types and "integer" in types:
            types = [one for one in types if one != "integer"]
        return [{**schema, "type": one} for one in types]

    def _check_exclusive(self, groups: list[list[Schema]]) -> None:
        for number, group in enumerate(groups):
            for other in groups[number + 1 :]:
                for a in group:
                    for b in other:
                        if not self.disjoint(a, b):
                            raise CannotHold(
                                "a oneOf whose branches could both fit one value; use anyOf, "
                                "or a property with another const in each branch"
                            )

    def disjoint(self, a: Schema, b: Schema) -> bool:
        """Whether no value fits both; False where that is not plain to see."""
        for one, other in ((a, b), (b, a)):
            values = constants(one)
            if values is not None:
                return not any(self.takes(one, v) and self.takes(other, v) for v in values)
        if a.get("type") != b.get("type"):
            return {a.get("type"), b.get("type")} != {"integer", "number"}
        if a.get("type") != "object":
            return False
        return any(self._disjoint_at(key, a, b) for key in {*_required(a), *_required(b)})

    def _disjoint_at(self, key: str, a: Schema, b: Schema) -> bool:
        """Whether property `key`, required in one of two objects, keeps them apart."""
        left, right = property_schema(a, key), property_schema(b, key)
        if left is False or right is False:
            return True
        if key not in _required(a) or key not in _required(b):
            return False
        try:
            pairs = [(x, y) for x in self.branches(left) for y in self.branches(right)]
        except (CannotHold, RecursionError):
            return False
        return all("x-name" not in x and self.disjoint(x, y) for x, y in pairs)


def constants(schema: Schema) -> list[Any] | None:
    """The values that a schema lists, None if it lists none."""
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return list(schema["enum"])
    match schema.get("type"):
        case "null":
            return [None]
        case "boolean":
            return [True, False]
    return None


def _named(schema: Schema, name: str) -> Schema:
    """Remember where a container came from: one that contains itself is compiled once, by its name."""
    if schema.get("type") not in ("object", "array"):
        return schema
    return {**schema, "x-name": schema.get("x-name", name)}


def _required(schema: Schema) -> list[str]:
    return list(schema.get("required", ()))


def _refuse(schema: Schema) -> None:
    for word in _REFUSED:
        says_nothing = word.startswith("depend") and not schema.get(word)
        if word in schema and not says_nothing:
            raise CannotHold(f"the keyword {word!r} cannot be held by a scaffold")
    for word in ("unevaluatedProperties", "unevaluatedItems"):
        if schema.get(word, True) not in (True, False):
            raise CannotHold(f"the keyword {word!r} with a schema cannot be held by a scaffold")


def _standard(schema: Schema | bool) -> Any:
    """A merged schema as JSON Schema again: several patterns become an allOf."""
    if not isinstance(schema, dict):
        return schema
    found = {key: value for key, value in schema.items() if key != "x-name"}
    if isinstance(found.get("pattern"), list):
        found["allOf"] = [{"pattern": pattern} for pattern in found.pop("pattern")]
    for word in ("anyOf", "oneOf"):
        if word in found:
            found[word] = [_standard(part) for part in found[word]]
    if "properties" in found:
        found["properties"] = {k: _standard(v) for k, v in found["properties"].items()}
    return found


def bound(value: Any) -> Decimal:
    """A numeric keyword, exact in decimal."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values in order, equal ones once."""
    found: dict[Any, Any] = {}
    others: list[Any] = []
    for value in values:
        if isinstance(value, list | dict):
            if not any(json_equal(value, other) for other in others):
                others.append(value)
                found[len(others), list] = value
        else:
            found.setdefault((value, bool if isinstance(value, bool) else None), value)
    return list(found.values())


def json_equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, and true is not 1."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(json_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(json_equal, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


__all__ = [
    "CannotHold",
    "Schema",
    "Schemas",
    "below",
    "bound",
    "constants",
    "distinct",
    "json_equal",
    "property_schema",
]

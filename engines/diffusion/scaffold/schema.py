"""JSON Schemas made plain for compiling: references followed, `allOf` and siblings merged, unions spread out.

A plain schema is an object without `$ref`, `allOf`, `anyOf` and `oneOf` at its top and without annotations, with one
`type` or the values that it lists (`enum`). What cannot be held on a canvas is refused here with its reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from carrara.engines.diffusion.scaffold.refused import (
    CannotHold,
    NothingFits,
    Place,
    below,
    together,
)
from carrara.engines.diffusion.scaffold.schema_apart import Apart
from carrara.engines.diffusion.scaffold.schema_merge import Merger
from carrara.engines.diffusion.scaffold.schema_parts import Parts, Schema, asks_anything
from carrara.engines.json_schema import validator

MOST_BRANCHES = 64
"""Of a union, and of unions that hold together: one branch of each, in all ways that fit."""

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
        "maxProperties",
        "propertyNames",
    ),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_ELSEWHERE = ("$ref", "allOf", "anyOf", "oneOf", "unevaluatedProperties", "unevaluatedItems")


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the plain schemas that a schema is made of, and where in it that stands: `anyOf/1`."""

    schema: Schema
    place: Place = ()


class Schemas:
    """The schemas inside one root schema."""

    def __init__(self, schema_text: str) -> None:
        self.parts = Parts(json.loads(schema_text))
        self.root: Any = self.parts.root
        self._validator = validator(schema_text)
        self._merger = Merger(self.parts, self.takes)
        self._apart = Apart(self.options, self.takes)
        self._plain: dict[int, list[Branch] | CannotHold] = {}
        self._spread: dict[int, list[Branch]] = {}
        self._open: dict[int, int] = {}
        self._back_to = _NOWHERE
        self._labels: dict[int, str] = {}

    def takes(self, schema: Schema | bool, value: Any) -> bool:
        """Whether a value is valid under a part of the root schema, or one merged from its parts."""
        if not asks_anything(schema):
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

    def label(self, schema: Schema) -> str:
        """The references that a plain schema was reached by, "" if it was written in place."""
        return self._labels.get(id(schema), "")

    def branches(self, schema: Any) -> list[Branch]:
        """The plain schemas of which a value has to fit one; exactly one where `oneOf` asks for that.

        Equal schemas have the same ones each time.

        Raises:
            CannotHold: with the reason, where no branch is left.
        """
        schema = self.parts.whole(self.parts.shared(schema))
        if id(schema) not in self._spread:
            found = [typed for branch in self._branches(schema) for typed in self._typed(branch)]
            if not found:
                where = schema.get("$ref", "the schema")
                raise NothingFits(f"{where} contains itself without an end")
            self._spread[id(schema)] = _each_once(found)
        return self._spread[id(schema)]

    def options(self, schema: Any) -> list[Schema] | None:
        """The plain schemas of a schema, None where they are not known: it leads to one that is being spread out, or
        cannot be held."""
        outside, self._back_to = self._back_to, _NOWHERE
        try:
            found = self._branches(self.parts.whole(self.parts.shared(schema)))
            is_whole = self._back_to == _NOWHERE
        except CannotHold:
            return None
        finally:
            self._back_to = outside
        return [one.schema for b in found for one in self._typed(b)] if is_whole else None

    def _branches(self, schema: Any) -> list[Branch]:
        """The branches of a whole schema, not all of them typed yet; none for one that is being spread out already: a
        union that contains itself adds nothing new."""
        key = id(schema)
        if key in self._open:
            self._back_to = min(self._back_to, self._open[key])
            return []
        if key not in self._plain:
            found: list[Branch] | CannotHold
            depth = self._open[key] = len(self._open)
            outside, self._back_to = self._back_to, _NOWHERE
            try:
                found = self._spread_out(schema)
            except CannotHold as error:
                found = error
            del self._open[key]
            if self._back_to < depth:  # what is open above has more branches than were seen here
                self._back_to = min(outside, self._back_to)
                return _raised(found)
            self._back_to = outside
            self._plain[key] = found
        return _raised(self._plain[key])

    def _spread_out(self, schema: Any) -> list[Branch]:
        if schema is False:
            raise NothingFits("a schema that nothing fits")
        if schema is True:
            return [Branch(self.parts.shared({}))]
        _refuse(schema)
        found = [Branch(self.parts.shared({}))]
        if ref := schema.get("$ref"):
            found = self._branches(self.parts.whole(self.target(ref)))
        for number, part in enumerate(schema.get("allOf", ())):
            with below(*(() if self.parts.is_made(schema) else ("allOf", number))):
                found = self._products(found, self._branches(self.parts.whole(part)))
        rest = {key: value for key, value in schema.items() if key not in _ELSEWHERE}
        found = self._products(found, [Branch(one) for one in self._own(rest)])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                found = self._union(schema, word, found)
        closing = [word for word in _ELSEWHERE[-2:] if schema.get(word) is False]
        if closing:
            found = self._closed(schema, closing, found)
        if ref:
            for branch in found:
                self._labels.setdefault(id(branch.schema), ref)
        return found

    def _own(self, schema: Schema) -> list[Schema]:
        """What a schema says by itself: one for each of its types, or the values that it lists."""
        if "const" in schema or "enum" in schema:
            word = "const" if "const" in schema else "enum"
            values = [schema["const"]] if word == "const" else schema["enum"]
            if not values:
                raise NothingFits("enum: it lists no value")
            more = self.parts.shared({key: one for key, one in schema.items() if key != word})
            return [self._merger.merged(self.parts.shared({"enum": values}), more)]
        types = schema.get("type")
        if not isinstance(types, list):
            return [self.parts.shared(schema)]
        if "number" in types:
            types = [one for one in types if one != "integer"]
        return [self.parts.shared({**schema, "type": one}) for one in types]

    def _products(self, left: list[Branch], right: list[Branch]) -> list[Branch]:
        """One of each side, merged, in all ways that fit.

        Raises:
            CannotHold: none fits, or more than MOST_BRANCHES do.
        """
        found: list[Branch] = []
        errors: list[CannotHold] = []
        for a in left:
            _check_number(found)
            for b in right:
                try:
                    found.append(Branch(self._merged(a.schema, b.schema), a.place or b.place))
                except CannotHold as error:
                    errors.append(error)
        if not found and errors:
            raise together(errors)
        _check_number(found)
        return _each_once(found)

    def _merged(self, a: Schema, b: Schema) -> Schema:
        found = self._merger.merged(a, b)
        if label := " and ".join(filter(None, map(self.label, (a, b)))):
            self._labels.setdefault(id(found), label)
        return found

    def _union(self, schema: Schema, word: str, beside: list[Branch]) -> list[Branch]:
        """The branches of a union, each merged with what stands beside it."""
        groups: list[list[Branch]] = []
        errors: list[CannotHold] = []
        for number, option in enumerate(schema[word]):
            try:
                with below(word, number):
                    branches = self._branches(self.parts.whole(option))
                    merged = self._products(branches, beside)
            except CannotHold as error:
                if word == "oneOf" and not isinstance(error, NothingFits):
                    raise
                errors.append(error)
            else:
                groups.append([Branch(b.schema, (word, number, *b.place)) for b in merged])
        found = [branch for group in groups for branch in group]
        if not found and errors:
            raise together(errors)
        if word == "oneOf":
            self._check_exclusive(groups)
        _check_number(found)
        return _each_once(found)

    def _check_exclusive(self, groups: list[list[Branch]]) -> None:
        for number, group in enumerate(groups):
            for other in groups[number + 1 :]:
                for a in group:
                    for b in other:
                        if not self._are_apart(a, b):
                            one, two = group[0].place[1], other[0].place[1]
                            raise CannotHold(
                                f"a oneOf whose branches {one} and {two} could both fit one value; use anyOf, "
                                "or a property with another const in each branch"
                            )

    def _are_apart(self, a: Branch, b: Branch) -> bool:
        """Whether what is written for one never fits the other."""
        return all(
            self._apart.disjoint(typed.schema, other.schema)
            for one, other in ((a, b), (b, a))
            for typed in self._typed(one)
        )

    def _typed(self, branch: Branch) -> list[Branch]:
        """A branch for each type that its values may be given where it names none."""
        schema = branch.schema
        if "enum" in schema or "type" in schema:
            return [branch]
        guesses = (t for t, words in _KEYWORDS_OF.items() if any(word in schema for word in words))
        guess = next(guesses, None)
        types = ["string", "number", "boolean", "null"] if guess is None else [guess]
        found = [Branch(self.parts.shared({**schema, "type": t}), branch.place) for t in types]
        if label := self.label(schema):
            for one in found:
                self._labels.setdefault(id(one.schema), label)
        return found

    def _closed(self, schema: Schema, words: list[str], found: list[Branch]) -> list[Branch]:
        """The branches, in which nothing stands that no keyword was about."""
        closed = []
        for branch in found:
            if "enum" in branch.schema:
                values = [value for value in branch.schema["enum"] if self.takes(schema, value)]
                if values:
                    closed.append(Branch(self.parts.shared({"enum": values}), branch.place))
            else:
                made = self._merger.closed(branch.schema, words)
                if label := self.label(branch.schema):
                    self._labels.setdefault(id(made), label)
                closed.append(Branch(made, branch.place))
        if found and not closed:
            raise NothingFits("enum: none of its values fits")
        return closed


_NOWHERE = 1 << 30


def _raised(found: list[Branch] | CannotHold) -> list[Branch]:
    if isinstance(found, CannotHold):
        raise found.again()
    return found


def _each_once(branches: list[Branch]) -> list[Branch]:
    return list({id(branch.schema): branch for branch in reversed(branches)}.values())[::-1]


def _check_number(branches: list[Branch]) -> None:
    if len(branches) > MOST_BRANCHES:
        raise CannotHold(f"a union of {len(branches)} branches or more (at most {MOST_BRANCHES})")


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
    if not isinstance(schema, dict) or not isinstance(schema.get("pattern"), list):
        return schema
    found = {key: value for key, value in schema.items() if key != "pattern"}
    return {**found, "allOf": [{"pattern": pattern} for pattern in schema["pattern"]]}


__all__ = ["Branch", "Schemas"]

"""JSON Schema to a form. The spelling is json.dumps's with default separators: `{"a": "x", "b": null}`.

Every form takes the white space before it as a prefix, because tokens are cut before a space. Properties are written
in the schema's order; a property that is not required and cannot be null has a gate, every other one is always there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.diffusion.scaffold import numbers
from carrara.engines.diffusion.scaffold.dfa import automaton
from carrara.engines.diffusion.scaffold.forms import (
    MISSING,
    NEVER_ENDS,
    NOTHING,
    At,
    Form,
    Gate,
    GateKind,
    Items,
    Literal,
    Option,
    Program,
    Ref,
    Slot,
    join,
    rule_heights,
    split_lead,
)
from carrara.engines.diffusion.scaffold.language import Alt, Language, Node, literal, seq
from carrara.engines.diffusion.scaffold.schema import (
    CannotHold,
    Schema,
    Schemas,
    bound,
    constants,
    json_equal,
    property_schema,
)
from carrara.engines.diffusion.scaffold.strings import StringSpace, string_space
from carrara.engines.errors import CarraraError

Takes = Callable[[Any], bool]


def json_program(schema_text: str) -> Program:
    """The program of a JSON Schema.

    Raises:
        CarraraError: with the reason why no scaffold holds it.
    """
    builder = _Builder(Schemas(schema_text))
    root = builder.value(builder.schemas.root, "")
    while builder.waiting:
        name, make = builder.waiting.popitem()
        builder.rules[name] = NOTHING  # known from here on, also while it is being compiled
        builder.rules[name] = make()
    heights = rule_heights(builder.rules)
    if NEVER_ENDS in heights.values():
        endless = next(name for name, needed in heights.items() if needed == NEVER_ENDS)
        raise CannotHold(f"{endless.split('|')[0]} contains itself without an end")
    return Program(root, builder.rules, heights)


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@dataclass(slots=True)
class _Property:
    name: str
    schema: Any
    always: bool

    @property
    def key(self) -> str:
        return f"{dumps(self.name)}:"


@dataclass(frozen=True, slots=True)
class _Scalar:
    """The language of one scalar branch. `space` is set for a string, `has_words` where strings are listed."""

    kind: str
    node: Node
    space: StringSpace | None
    has_words: bool = False


@dataclass(slots=True)
class _Builder:
    schemas: Schemas
    rules: dict[str, Form] = field(default_factory=dict)
    waiting: dict[str, Callable[[], Form]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def value(self, schema: Any, prefix: str) -> Form:
        """The form of any value of a schema, written after `prefix`."""
        branches = self.schemas.branches(schema)
        values = self._finite(branches)
        if values is not None:
            return _choice(values, prefix)
        if len(branches) == 1:
            return self._one(branches[0], prefix)
        return self._union(branches, prefix)

    def _one(self, schema: Schema, prefix: str) -> Form:
        match schema["type"] if "type" in schema else None:
            case "object":
                return self._named(schema, prefix, self._object)
            case "array":
                return self._named(schema, prefix, self._array)
        return self._scalars([schema], prefix)

    def _named(
        self, schema: Schema, prefix: str, make: Callable[[Schema, str], Form], variant: str = ""
    ) -> Form:
        """Compile in place, or refer to what is being compiled by that name already."""
        if "x-name" not in schema:
            return make(schema, prefix)
        name = f"{schema['x-name']}|{prefix}{variant}"
        if name in self.open:
            if name not in self.rules and name not in self.waiting:
                self.waiting[name] = lambda: self._rule(name, schema, prefix, make)
            return Ref(name)
        return self._rule(name, schema, prefix, make)

    def _rule(
        self, name: str, schema: Schema, prefix: str, make: Callable[[Schema, str], Form]
    ) -> Form:
        self.open.add(name)
        try:
            return make(schema, prefix)
        finally:
            self.open.discard(name)

    # Scalars

    def _finite(self, branches: list[Schema]) -> list[Any] | None:
        """All values of the branches if they are listed, None if some branch is open."""
        found: list[Any] = []
        for branch in branches:
            values = constants(branch)
            if values is None:
                return None
            fitting = [value for value in values if self.schemas.takes(branch, value)]
            found += [v for v in fitting if not any(json_equal(v, other) for other in found)]
        if not found:
            raise CannotHold("an enum without a value that fits")
        return found

    def _scalars(self, branches: list[Schema], prefix: str) -> Form:
        """One slot for all scalar branches: which of them it is shows in its first token.

        The lengths of one string only can be counted, and no other string beside it: further ones give way.
        """
        found = self._parts(branches)
        strings = [part for part in found if part.space is not None]
        counted = [part for part in strings if part.space and part.space.is_counted]
        if counted:
            found = [p for p in found if p is counted[0] or not (p.space or p.has_words)]
            strings = counted[:1]
        takes = _any_takes(self.schemas, branches)
        space = strings[0].space if strings else None
        if len(found) == 1 and space is not None:
            return join(Literal(f'{prefix}"'), _string_slot(space, takes))
        least, most = (space.least, space.most) if counted and space else (0, None)
        language = Language(seq(prefix, Alt(tuple(part.node for part in found))), least, most)
        kinds = " or ".join(dict.fromkeys(part.kind for part in found))
        return Slot(language, kinds, _writer(prefix, takes))

    def _parts(self, branches: list[Schema]) -> list[_Scalar]:
        found, reasons = [], []
        for branch in branches:
            try:
                found.append(self._scalar(branch))
            except CannotHold as error:
                reasons.append(str(error))
        if not found:
            raise CannotHold("; ".join(dict.fromkeys(reasons)))
        return found

    def _scalar(self, schema: Schema) -> _Scalar:
        """Kind and language of a scalar, a string with its quotes."""
        values = self._finite([schema])
        if values is not None:
            words = any(isinstance(value, str) for value in values)
            return _Scalar("null" if values == [None] else "choice", _words(values), None, words)
        kind = schema["type"]
        try:
            if kind == "string":
                space = string_space(schema)
                return _Scalar(space.kind, seq('"', space.inside, '"'), space)
            return _Scalar(kind, _number(schema, kind == "integer"), None)
        except CannotHold:
            raise
        except CarraraError as error:
            raise CannotHold(str(error)) from error

    # Arrays and mappings

    def _array(self, schema: Schema, prefix: str) -> Form:
        fixed = list(schema.get("prefixItems", ()))
        least = int(schema.get("minItems", 0))
        most = schema.get("maxItems")
        most = None if most is None else int(most)
        rest = schema.get("items", True)
        if most is not None and least > most:
            raise CannotHold(f"no array has at least {least} and at most {most} items")
        if schema.get("uniqueItems") and (least > 1 or fixed):
            raise CannotHold("distinct items are held for at most one required item")
        if fixed:
            return self._tuple(fixed, rest, least, most, prefix)
        if rest is False or most == 0:
            if least:
                raise CannotHold(f"no item is allowed where at least {least} are asked for")
            return Literal(f"{prefix}[]")
        items = Items(
            first=self.value(rest, ""),
            later=self.value(rest, " "),
            least=max(least, 1),
            most=most,
            gate=_gates("]"),
            split=_list_items,
            distinct=bool(schema.get("uniqueItems")),
        )
        return _bracketed(items, least == 0, prefix, "[]")

    def _tuple(
        self, fixed: list[Any], rest: Any, least: int, most: int | None, prefix: str
    ) -> Form:
        """Items with a schema each, then more of one kind only where a minimum asks for them."""
        shown = fixed if most is None else fixed[:most]
        parts: list[Form | str] = [f"{prefix}["]
        for number in range(max(len(shown), least)):
            schema = fixed[number] if number < len(fixed) else rest
            if number:
                parts.append(",")
            parts.append(At(number, self.value(schema, " " if number else "")))
        return join(*parts, "]")

    def _mapping(self, schema: Schema, value: Any, key_schema: Any, prefix: str) -> Form:
        least = int(schema.get("minProperties", 0))
        most = schema.get("maxProperties")
        if least > 1:
            raise CannotHold("a mapping is held with at most one required key")
        if most == 0:
            return Literal(f"{prefix}{{}}")
        key = {"allOf": [{"type": "string"}, key_schema]}

        def item(before: str) -> Form:
            return join(At(0, self.value(key, before), True), ":", At(1, self.value(value, " "), True))

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

    # Objects

    def _object(self, schema: Schema, prefix: str, first: Iterable[str] = ()) -> Form:
        patterns = schema.get("patternProperties", {})
        if not schema.get("properties") and not schema.get("required"):
            extra = schema.get("additionalProperties", True)
            keys = schema.get("propertyNames", True)
            if len(patterns) == 1 and extra in (True, False):
                [(pattern, extra)] = patterns.items()
                keys = {"allOf": [{"pattern": pattern}, keys]}
            elif patterns:
                raise CannotHold("patternProperties beside others cannot be held")
            if extra is False:
                return Literal(f"{prefix}{{}}")
            return self._mapping(schema, extra, keys, prefix)
        properties = self._properties(schema, list(first))
        return self._members(properties, prefix)

    def _properties(self, schema: Schema, first: list[str]) -> list[_Property]:
        """The properties to write, in order. Optional ones give way to limits on their number."""
        names = [*schema.get("properties", {}), *schema.get("required", ())]
        names = list(dict.fromkeys([*(n for n in first if n in names), *names]))
        required = set(schema.get("required", ()))
        self._check_names(schema, names)
        found = [p for name in names if (p := self._property(schema, name, name in required))]
        least, most = int(schema.get("minProperties", 0)), schema.get("maxProperties")
        for candidate in found:
            if sum(p.always for p in found) < least:
                candidate.always = True
        if sum(p.always for p in found) < least:
            raise CannotHold(f"no object has the {least} properties that are asked for")
        if most is not None and len(found) > most:
            found = [p for p in found if p.name in required]
            if len(found) > most:
                raise CannotHold(f"{len(found)} properties are required, at most {most} allowed")
        return found

    def _property(self, schema: Schema, name: str, required: bool) -> _Property | None:
        """A property, None for an optional one that nothing fits or no scaffold holds."""
        inner = property_schema(schema, name)
        try:
            branches = self.schemas.branches(inner)
            values = [constants(branch) for branch in branches]
        except CannotHold:
            if required:
                raise
            return None
        nullable = any(v is not None and None in v for v in values)
        return _Property(name, inner, required or nullable)

    def _check_names(self, schema: Schema, names: list[str]) -> None:
        for pattern in schema.get("patternProperties", {}):
            if any(self.schemas.takes({"pattern": pattern}, name) for name in names):
                raise CannotHold("patternProperties that meet a named property cannot be held")
        for name in names:
            if not self.schemas.takes(schema.get("propertyNames", True), name):
                raise CannotHold(f"property {name!r} does not fit propertyNames")

    def _members(self, properties: list[_Property], prefix: str) -> Form:
        """The members of an object. Around the properties that are always there, a gate brings its
        comma along; where none is, the comma depends on the gates before."""
        firm = next((i for i, p in enumerate(properties) if p.always), None)
        if firm is None:
            return join(f"{prefix}{{", self._optional(properties, first=True), "}")
        parts: list[Form | str] = [f"{prefix}{{"]
        for number, one in enumerate(properties):
            if number < firm:
                parts.append(self._gated(one, "", ", "))
            elif one.always:
                before = ", " if number > firm else ""
                parts += [before + one.key, At(one.name, self.value(one.schema, " "))]
            else:
                parts.append(self._gated(one, ", ", ""))
        return join(*parts, "}")

    def _gated(self, one: _Property, before: str, after: Form | str, rest: Form = NOTHING) -> Form:
        """A property that may be left out; `rest` follows where it is."""
        try:
            inner = self.value(one.schema, " ")
        except CannotHold:
            return rest
        if rest is NOTHING:  # the gate stands for the property, in field pointers too
            present = Option(before + one.key, join(inner, after), lambda v: v is not MISSING)
            return At(one.name, Gate((present, Option("", rest, _always)), "property", expect=0))
        present = Option(before + one.key, join(At(one.name, inner), after), _has(one.name))
        return Gate((present, Option("", rest, _always)), "property", expect=0)

    def _optional(self, properties: list[_Property], first: bool) -> Form:
        """Properties of which none has to be there: after the first one shown, each has a comma."""
        if not properties:
            return NOTHING
        one, rest = properties[0], properties[1:]
        shown = self._optional(rest, False) if first else NOTHING
        if first:
            return self._gated(one, "", shown, rest=self._optional(rest, True))
        return join(self._gated(one, ", ", ""), self._optional(rest, False))

    # Unions with objects and arrays

    def _union(self, branches: list[Schema], prefix: str) -> Form:
        scalars = [b for b in branches if not _is_container(b)]
        if len(scalars) == len(branches):
            return self._scalars(scalars, prefix)
        leads = self._first_keys([b for b in branches if b not in scalars and b["type"] == "object"])
        options: list[Option] = []
        reasons = []
        for branch in branches:
            if not _is_container(branch):
                continue
            try:
                options += self._container(branch, prefix, leads)
            except CannotHold as error:
                reasons.append(str(error))
        if not options and not scalars:
            raise CannotHold("; ".join(dict.fromkeys(reasons)))
        expect = 0 if options else None
        try:
            options += self._scalar_options(scalars, prefix)
        except CannotHold:
            if not options:
                raise
        kind: GateKind = "null" if _is_null(scalars) and len(branches) == 2 else "union"
        return Gate(tuple(options), kind, expect)

    def _first_keys(self, objects: list[Schema]) -> list[tuple[Schema, list[str]]]:
        """Which properties to write first, so that the alternatives differ as early as they can."""
        found = []
        for one in objects:
            required = list(one.get("required", ()))
            tags = [n for n in required if _is_tag(property_schema(one, n))]
            others = {n for o in objects if o is not one for n in o.get("properties", {})}
            own = [n for n in required if n not in others]
            found.append((one, tags or own[:1]))
        return found

    def _container(
        self, branch: Schema, prefix: str, leads: list[tuple[Schema, list[str]]]
    ) -> list[Option]:
        """The options of an object or array; an empty one is an option of its own."""
        takes = _takes(self.schemas, branch)
        first = next((keys for one, keys in leads if one is branch), [])
        if branch["type"] == "object":
            variant = "".join(f"|{key}" for key in first)
            form = self._named(branch, prefix, lambda s, p: self._object(s, p, first), variant)
        else:
            form = self._named(branch, prefix, self._array)
        if isinstance(form, Ref):
            opening = prefix + ("{" if branch["type"] == "object" else "[")
            return [Option("", form, takes, signs=self._signs(branch, opening, first))]
        if isinstance(form, Gate):
            return [
                Option(o.lead, o.body, _both_take(takes, o.takes), o.signs) for o in form.options
            ]
        lead, body = split_lead(form)
        return [Option(lead, body, takes)]

    def _signs(self, branch: Schema, opening: str, first: list[str]) -> tuple[str, ...]:
        """How an object or array that is compiled elsewhere begins."""
        if branch["type"] == "array" or not branch.get("properties"):
            return (opening,)
        names = [*first, *(n for n in branch["properties"] if n in branch.get("required", ()))]
        return (opening + f"{dumps(names[0])}:",) if names else (opening,)

    def _scalar_options(self, scalars: list[Schema], prefix: str) -> list[Option]:
        """Scalars beside containers: each listed value, a string, a number have options of their own."""
        found: list[Option] = []
        listed = [s for s in scalars if constants(s) is not None]
        for value in self._finite(listed) or [] if listed else []:
            found.append(Option(prefix + dumps(value), NOTHING, _equals(value)))
        for kind, signs in (("string", ('"',)), ("number", (*"0123456789", "-"))):
            group = [s for s in scalars if constants(s) is None and _kind(s) == kind]
            if not group:
                continue
            form = self._scalars(group, prefix)
            lead, body = split_lead(form)
            takes = _any_takes(self.schemas, group)
            found.append(Option(lead, body, takes, () if lead else tuple(prefix + s for s in signs)))
        return found


def _choice(values: list[Any], prefix: str) -> Form:
    if len(values) == 1:
        return Literal(prefix + dumps(values[0]))
    return Gate(
        tuple(Option(prefix + dumps(value), NOTHING, _equals(value)) for value in values), "choice"
    )


def _string_slot(space: StringSpace, takes: Takes) -> Slot:
    """A string whose opening quote is pinned; the closing one ends the slot."""

    def write(value: Any) -> str | None:
        return dumps(value)[1:] if isinstance(value, str) and takes(value) else None

    return Slot(Language(seq(space.inside, '"'), space.least, space.most), space.kind, write)


def _writer(prefix: str, takes: Takes) -> Callable[[Any], str | None]:
    def write(value: Any) -> str | None:
        return prefix + dumps(value) if value is not MISSING and takes(value) else None

    return write


def _number(schema: Schema, whole: bool) -> Node:
    least = [(bound(schema[k]), k) for k in ("minimum", "exclusiveMinimum") if k in schema]
    most = [(bound(schema[k]), k) for k in ("maximum", "exclusiveMaximum") if k in schema]
    low = max(least, key=lambda b: (b[0], b[1] == "exclusiveMinimum"), default=(None, ""))
    high = min(most, key=lambda b: (b[0], b[1] == "maximum"), default=(None, ""))
    bounds = numbers.Bounds(
        low[0], high[0], low[1] == "exclusiveMinimum", high[1] == "exclusiveMaximum"
    )
    factor = schema.get("multipleOf", 1)
    if not float(factor).is_integer():
        raise CannotHold(f"multipleOf {factor}: fractions of a step cannot be held exactly")
    node = numbers.integers(bounds, int(factor))
    if not whole and "multipleOf" not in schema:
        node = numbers.decimals(bounds)
    if automaton(node).is_empty:
        raise CannotHold(f"no number is within {low[1]} {low[0]} and {high[1]} {high[0]}")
    return node


def _words(values: list[Any]) -> Node:
    return Alt(tuple(literal(dumps(value)) for value in values))


def _bracketed(items: Items, may_be_empty: bool, prefix: str, brackets: str) -> Form:
    opened = f"{prefix}{brackets[0]}"
    if not may_be_empty:
        return join(opened, items)
    some = Option(opened, items, lambda value: items.split(value) is not None)
    none = Option(f"{prefix}{brackets}", NOTHING, lambda value: value in ([], {}))
    return Gate((some, none), "list", expect=0)


def _gates(closing: str) -> Callable[[int], Gate]:
    """The gate after each item: a comma and another one, or the closing bracket."""
    more, end = Option(",", NOTHING, _always), Option(closing, NOTHING, _always)
    gate = Gate((more, end), "list", expect=0)
    return lambda option: gate


def _list_items(value: Any) -> list[tuple[int, Any]] | None:
    return [(0, item) for item in value] if isinstance(value, list) and value else None


def _mapping_items(value: Any) -> list[tuple[int, Any]] | None:
    return [(0, item) for item in value.items()] if isinstance(value, dict) and value else None


def _always(value: Any) -> bool:
    return True


def _takes(schemas: Schemas, schema: Schema) -> Takes:
    return lambda value: value is not MISSING and schemas.takes(schema, value)


def _any_takes(schemas: Schemas, branches: list[Schema]) -> Takes:
    return lambda value: value is not MISSING and any(schemas.takes(b, value) for b in branches)


def _both_take(a: Takes, b: Takes) -> Takes:
    return lambda value: a(value) and b(value)


def _equals(expected: Any) -> Takes:
    return lambda value: value is not MISSING and json_equal(value, expected)


def _has(name: str) -> Takes:
    return lambda value: isinstance(value, dict) and name in value


def _is_container(schema: Schema) -> bool:
    return constants(schema) is None and schema["type"] in ("object", "array")


def _is_tag(schema: Any) -> bool:
    return isinstance(schema, dict) and ("const" in schema or len(schema.get("enum", ())) == 1)


def _is_null(scalars: list[Schema]) -> bool:
    return len(scalars) == 1 and constants(scalars[0]) == [None]


def _kind(schema: Schema) -> str:
    return "number" if schema["type"] == "integer" else str(schema["type"])


__all__ = ["dumps", "json_program"]

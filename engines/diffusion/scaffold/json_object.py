"""Objects of a JSON Schema. Properties are written in the schema's order.

A property that is not required and cannot be null has a gate; every other one is always there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from carrara.engines.diffusion.scaffold.forms import (
    MISSING,
    NOTHING,
    At,
    Form,
    Gate,
    Literal,
    Option,
    join,
)
from carrara.engines.diffusion.scaffold.json_build import Build, always, dumps, has_key
from carrara.engines.diffusion.scaffold.json_containers import mapping_form
from carrara.engines.diffusion.scaffold.lengths import named
from carrara.engines.diffusion.scaffold.schema import (
    CannotHold,
    Schema,
    below,
    constants,
    property_schema,
)


@dataclass(slots=True)
class _Property:
    name: str
    schema: Any
    always: bool

    @property
    def key(self) -> str:
        return f"{dumps(self.name)}:"


def object_form(build: Build, schema: Schema, prefix: str, first: Iterable[str] = ()) -> Form:
    patterns = schema.get("patternProperties", {})
    if not schema.get("properties") and not schema.get("required"):
        extra = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
        keys = schema.get("propertyNames", True)
        if len(patterns) == 1 and extra in (True, False):
            [(pattern, extra)] = patterns.items()
            keys = {"allOf": [{"pattern": pattern}, keys]}
        elif patterns:
            raise CannotHold("patternProperties beside others cannot be held")
        if extra is False:
            return Literal(f"{prefix}{{}}")
        return mapping_form(build, schema, extra, keys, prefix)
    properties = _properties(build, schema, list(first))
    return _members(build, properties, prefix)


def _properties(build: Build, schema: Schema, first: list[str]) -> list[_Property]:
    """The properties to write, in order. Optional ones give way to limits on their number."""
    names = [*schema.get("properties", {}), *schema.get("required", ())]
    names = list(dict.fromkeys([*(n for n in first if n in names), *names]))
    required = set(schema.get("required", ()))
    _check_names(build, schema, names)
    found = [p for name in names if (p := _property(build, schema, name, name in required))]
    least, most = int(schema.get("minProperties", 0)), schema.get("maxProperties")
    if most is not None and len(found) > most:
        optional = [p for p in found if p.name not in required]
        if len(found) - len(optional) > most:
            raise CannotHold(
                f"{len(required)} properties are required, maxProperties allows {most}"
            )
        kept = optional[: int(most) - len(found) + len(optional)]
        found = [p for p in found if p.name in required or p in kept]
    for candidate in found:
        if sum(p.always for p in found) < least:
            candidate.always = True
    if sum(p.always for p in found) < least:
        raise CannotHold(f"minProperties: no object has the {least} that are asked for")
    return found


def _property(build: Build, schema: Schema, name: str, required: bool) -> _Property | None:
    """A property, None for an optional one that nothing fits or no scaffold holds."""
    inner = property_schema(schema, name)
    try:
        with below("properties", name):
            branches = build.schemas.branches(inner)
        values = [constants(branch) for branch in branches]
    except CannotHold:
        if required:
            raise
        return None
    nullable = any(v is not None and None in v for v in values)
    return _Property(name, inner, required or nullable)


def _check_names(build: Build, schema: Schema, names: list[str]) -> None:
    for pattern in schema.get("patternProperties", {}):
        if any(build.schemas.takes({"pattern": pattern}, name) for name in names):
            raise CannotHold("patternProperties that meet a named property cannot be held")
    for name in names:
        if not build.schemas.takes(schema.get("propertyNames", True), name):
            raise CannotHold(f"property {name!r} does not fit propertyNames")


def _members(build: Build, properties: list[_Property], prefix: str) -> Form:
    """The members of an object. Around the properties that are always there, a gate brings its
    comma along; where none is, the comma depends on the gates before."""
    firm = next((i for i, p in enumerate(properties) if p.always), None)
    if firm is None:
        return join(f"{prefix}{{", _optional(build, properties, first=True), "}")
    parts: list[Form | str] = [f"{prefix}{{"]
    for number, one in enumerate(properties):
        if number < firm:
            parts.append(_gated(build, one, "", ", "))
        elif one.always:
            before = ", " if number > firm else ""
            parts += [before + one.key, At(one.name, _value(build, one))]
        else:
            parts.append(_gated(build, one, ", ", ""))
    return join(*parts, "}")


def _value(build: Build, one: _Property) -> Form:
    with below("properties", one.name):
        return named(build.value(one.schema, " "), one.name)


def _gated(
    build: Build, one: _Property, before: str, after: Form | str, rest: Form = NOTHING
) -> Form:
    """A property that may be left out; `rest` follows where it is."""
    try:
        inner = _value(build, one)
    except CannotHold:
        return rest
    if rest is NOTHING:  # the gate stands for the property, in field pointers too
        present = Option(before + one.key, join(inner, after), lambda v: v is not MISSING)
        return At(one.name, Gate((present, Option("", rest, always)), "property", expect=0))
    present = Option(before + one.key, join(At(one.name, inner), after), has_key(one.name))
    return Gate((present, Option("", rest, always)), "property", expect=0)


def _optional(build: Build, properties: list[_Property], first: bool) -> Form:
    """Properties of which none has to be there: after the first one shown, each has a comma."""
    if not properties:
        return NOTHING
    one, rest = properties[0], properties[1:]
    shown = _optional(build, rest, False) if first else NOTHING
    if first:
        return _gated(build, one, "", shown, rest=_optional(build, rest, True))
    return join(_gated(build, one, ", ", ""), _optional(build, rest, False))

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
from carrara.engines.diffusion.scaffold.refused import CannotHold, NothingFits, below
from carrara.engines.diffusion.scaffold.schema_parts import Schema, constants, member_schema


@dataclass(slots=True)
class _Property:
    name: str
    form: Form
    always: bool

    @property
    def key(self) -> str:
        return f"{dumps(self.name)}:"


def object_form(build: Build, schema: Schema, prefix: str, first: Iterable[str] = ()) -> Form:
    if schema.get("properties") or schema.get("required"):
        return _members(build, _properties(build, schema, list(first)), prefix)
    patterns, keys = schema.get("patternProperties", {}), schema.get("propertyNames", True)
    extra = schema.get("additionalProperties", True)
    if len(patterns) == 1 and extra in (True, False):
        [(pattern, extra)] = patterns.items()
        keys = {"allOf": [{"pattern": pattern}, keys]}
    elif patterns:
        raise CannotHold("patternProperties beside others cannot be held")
    if extra is False:
        if schema.get("minProperties"):
            raise NothingFits("minProperties: no property is allowed there")
        return Literal(f"{prefix}{{}}")
    return mapping_form(build, schema, extra, keys, prefix)


def _properties(build: Build, schema: Schema, first: list[str]) -> list[_Property]:
    """The properties to write, in order. Optional ones give way to limits on their number."""
    names = [*schema.get("properties", {}), *schema.get("required", ())]
    names = list(dict.fromkeys([*(n for n in first if n in names), *names]))
    required = set(schema.get("required", ()))
    found = [p for name in names if (p := _property(build, schema, name, name in required))]
    least, most = int(schema.get("minProperties", 0)), schema.get("maxProperties")
    if most is not None and len(found) > most:
        optional = [p for p in found if p.name not in required]
        if len(found) - len(optional) > most:
            raise NothingFits(
                f"{len(required)} properties are required, maxProperties allows {most}"
            )
        kept = optional[: int(most) - len(found) + len(optional)]
        found = [p for p in found if p.name in required or p in kept]
    for candidate in found:
        if sum(p.always for p in found) < least:
            candidate.always = True
    if sum(p.always for p in found) < least:
        raise CannotHold(f"minProperties: no object of named properties has the {least} asked for")
    return found


def _property(build: Build, schema: Schema, name: str, required: bool) -> _Property | None:
    """A property, None for an optional one that nothing fits.

    Its value is compiled here: what cannot be held is told, whether or not the property has to be there.
    """
    inner = member_schema(schema, name)
    try:
        with below("properties", name):
            if inner is False:
                raise NothingFits("no property of this name is allowed, and one is asked for")
            _check_name(build, schema, name)
            branches = build.schemas.branches(inner)
            form = named(build.value(inner, " "), name)
    except NothingFits:
        if required:
            raise
        return None
    values = [constants(branch.schema) for branch in branches]
    nullable = any(v is not None and None in v for v in values)
    return _Property(name, form, required or nullable)


def _check_name(build: Build, schema: Schema, name: str) -> None:
    """
    Raises:
        NothingFits: `propertyNames` forbids the name.
        CannotHold: `patternProperties` has something to say about it, too.
    """
    if not build.schemas.takes(schema.get("propertyNames", True), name):
        raise NothingFits(f"its name does not fit propertyNames {_short(schema['propertyNames'])}")
    for pattern in schema.get("patternProperties", {}):
        if build.schemas.takes({"pattern": pattern}, name):
            raise CannotHold(
                f"it meets the pattern {pattern!r} of patternProperties, too; say in properties all that it must be"
            )


def _members(build: Build, properties: list[_Property], prefix: str) -> Form:
    """The members of an object. Around the properties that are always there, a gate brings its comma along; where none
    is, a first gate chooses the one that comes first, and those behind it bring theirs."""
    firm = next((i for i, p in enumerate(properties) if p.always), None)
    if firm is None:
        return _optional(properties, prefix)
    parts: list[Form | str] = [f"{prefix}{{"]
    for number, one in enumerate(properties):
        if number < firm:
            parts.append(_gated(one, "", ", "))
        elif one.always:
            before = ", " if number > firm else ""
            parts += [before + one.key, At(one.name, one.form)]
        else:
            parts.append(_gated(one, ", ", ""))
    return join(*parts, "}")


def _gated(one: _Property, before: str, after: str) -> Form:
    """A property that may be left out. The gate stands for it, in field pointers too."""
    present = Option(before + one.key, join(one.form, after), lambda value: value is not MISSING)
    return At(one.name, Gate((present, Option("", NOTHING, always)), "property", expect=0))


def _optional(properties: list[_Property], prefix: str) -> Form:
    """Properties of which none has to be there."""
    if not properties:
        return Literal(f"{prefix}{{}}")
    later = [_gated(one, ", ", "") for one in properties]
    options = [
        Option(one.key, join(At(one.name, one.form), *later[number:], "}"), has_key(one.name))
        for number, one in enumerate(properties, 1)
    ]
    gate = Gate((*options, Option("}", NOTHING, always)), "property", expect=0)
    return join(f"{prefix}{{", gate)


def _short(schema: Any) -> str:
    text = dumps(schema)
    return text if len(text) < 80 else f"{text[:60]} ... {text[-15:]}"

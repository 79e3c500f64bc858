"""Unions of a JSON Schema that have objects or arrays among their branches: a gate chooses first."""

from __future__ import annotations

from typing import Any

from carrara.engines.diffusion.scaffold.forms import (
    NOTHING,
    Form,
    Gate,
    GateKind,
    Option,
    Ref,
    split_lead,
)
from carrara.engines.diffusion.scaffold.json_build import (
    Build,
    dumps,
    equal_to,
    is_container,
    taken_by,
    taken_by_any,
    taken_by_both,
)
from carrara.engines.diffusion.scaffold.json_containers import array_form
from carrara.engines.diffusion.scaffold.json_object import object_form
from carrara.engines.diffusion.scaffold.json_scalars import listed, scalar_slot
from carrara.engines.diffusion.scaffold.refused import CannotHold, below, together
from carrara.engines.diffusion.scaffold.schema import Branch
from carrara.engines.diffusion.scaffold.schema_parts import Schema, constants, member_schema


def union_form(build: Build, branches: list[Branch], prefix: str) -> Form:
    containers = [branch for branch in branches if is_container(branch.schema)]
    scalars = [branch for branch in branches if not is_container(branch.schema)]
    if not containers:
        return scalar_slot(build, scalars, prefix)
    leads = _first_keys([b.schema for b in containers if b.schema["type"] == "object"])
    options: list[Option] = []
    errors: list[CannotHold] = []
    for branch in containers:
        try:
            with below(*branch.place):
                options += _container(build, branch.schema, prefix, leads)
        except CannotHold as error:
            errors.append(error)
    expect = 0 if options else None
    try:
        options += scalar_options(build, scalars, prefix)
    except CannotHold as error:
        errors.append(error)
    if not options:
        raise together(errors)
    kind: GateKind = "null" if _is_null(scalars) and len(branches) == 2 else "union"
    return Gate(tuple(options), kind, expect)


def _first_keys(objects: list[Schema]) -> list[tuple[Schema, list[str]]]:
    """Which properties to write first, so that the alternatives differ as early as they can."""
    found = []
    for one in objects:
        required = list(one.get("required", ()))
        tags = [n for n in required if _is_tag(member_schema(one, n))]
        others = {n for o in objects if o is not one for n in o.get("properties", {})}
        own = [n for n in required if n not in others]
        found.append((one, tags or own[:1]))
    return found


def _container(
    build: Build, branch: Schema, prefix: str, leads: list[tuple[Schema, list[str]]]
) -> list[Option]:
    """The options of an object or array; an empty one is an option of its own."""
    takes = taken_by(build.schemas, branch)
    first = next((keys for one, keys in leads if one is branch), [])
    if branch["type"] == "object":
        variant = "".join(f"|{key}" for key in first)
        form = build.named(branch, prefix, lambda s, p: object_form(build, s, p, first), variant)
    else:
        form = build.named(branch, prefix, lambda s, p: array_form(build, s, p))
    if isinstance(form, Ref):
        opening = prefix + ("{" if branch["type"] == "object" else "[")
        return [Option("", form, takes, signs=_signs(build, branch, opening, first))]
    if isinstance(form, Gate):
        return [
            Option(o.lead, o.body, taken_by_both(takes, o.takes), o.signs) for o in form.options
        ]
    lead, body = split_lead(form)
    return [Option(lead, body, takes)]


def _signs(build: Build, branch: Schema, opening: str, first: list[str]) -> tuple[str, ...]:
    """How an object or array that is compiled elsewhere begins."""
    if branch["type"] == "array" or not branch.get("properties"):
        return (opening,)
    names = [*first, *(n for n in branch["properties"] if n in branch.get("required", ()))]
    if not names:
        return (opening,)
    sign = f"{opening}{dumps(names[0])}:"
    value = member_schema(branch, names[0])
    if _is_tag(value):
        sign += f" {dumps(value['const'] if 'const' in value else value['enum'][0])}"
    return (sign,)


def scalar_options(build: Build, scalars: list[Branch], prefix: str) -> list[Option]:
    """Scalars beside containers: each listed value, a string, a number have options of their own.

    Raises:
        CannotHold: none of them can be held.
    """
    errors: list[CannotHold] = []
    finite = [s for s in scalars if constants(s.schema) is not None]
    values = listed(finite) or []
    found = [Option(prefix + dumps(value), NOTHING, equal_to(value)) for value in values]
    for kind, signs in (("string", ('"',)), ("number", (*"0123456789", "-"))):
        group = [s for s in scalars if constants(s.schema) is None and _kind(s.schema) == kind]
        if not group:
            continue
        try:
            form = scalar_slot(build, group, prefix)
        except CannotHold as error:
            errors.append(error)
            continue
        lead, body = split_lead(form)
        takes = taken_by_any(build.schemas, [one.schema for one in group])
        found.append(Option(lead, body, takes, () if lead else tuple(prefix + s for s in signs)))
    if errors and not found:
        raise together(errors)
    return found


def _is_tag(schema: Any) -> bool:
    return isinstance(schema, dict) and ("const" in schema or len(schema.get("enum", ())) == 1)


def _is_null(scalars: list[Branch]) -> bool:
    return len(scalars) == 1 and constants(scalars[0].schema) == [None]


def _kind(schema: Schema) -> str:
    return "number" if schema["type"] == "integer" else str(schema["type"])

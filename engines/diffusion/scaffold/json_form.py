"""JSON Schema to a form. The spelling is json.dumps's with default separators: `{"a": "x", "b": null}`.

Every form takes the white space before it as a prefix, because tokens are cut before a space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.diffusion.scaffold.forms import (
    NEVER_ENDS,
    Form,
    Program,
    Ref,
    rule_heights,
)
from carrara.engines.diffusion.scaffold.json_build import Make, is_container
from carrara.engines.diffusion.scaffold.json_containers import array_form
from carrara.engines.diffusion.scaffold.json_object import object_form
from carrara.engines.diffusion.scaffold.json_scalars import choice, listed, scalar_slot
from carrara.engines.diffusion.scaffold.json_union import union_form
from carrara.engines.diffusion.scaffold.refused import CannotHold, NothingFits, below
from carrara.engines.diffusion.scaffold.schema import Schemas
from carrara.engines.diffusion.scaffold.schema_cycles import cycles
from carrara.engines.diffusion.scaffold.schema_parts import Schema, inner_schemas


def json_program(schema_text: str, prefix: str = "") -> Program:
    """The program of a JSON Schema, written after `prefix`.

    Raises:
        CarraraError: with the reason why no scaffold holds it.
    """
    schemas = Schemas(schema_text)
    cycle_of = _cycles(schemas)
    refused: dict[str, CannotHold] = {}
    while True:
        builder = _Builder(schemas, cycle_of, refused)
        root = builder.value(schemas.root, prefix)
        rules, failed = builder.rules()
        heights = rule_heights(rules) if not failed else {}
        failed |= {name: _endless(name) for name, high in heights.items() if high == NEVER_ENDS}
        if not failed:
            return Program(root, rules, heights)
        refused |= failed  # and again, now that nothing takes one of them for a branch or a member


def _endless(name: str) -> CannotHold:
    return NothingFits(f"{name.partition('|')[0]} contains itself without an end")


def _cycles(schemas: Schemas) -> dict[int, int]:
    """The plain objects and arrays that contain themselves, by identity, with a number for each cycle."""
    met: dict[int, Schema] = {}

    def containers(schema: Any) -> list[int]:
        try:
            found = [b.schema for b in schemas.branches(schema) if is_container(b.schema)]
        except CannotHold:  # whoever compiles it is told
            return []
        met.update((id(one), one) for one in found)
        return [id(one) for one in found]

    def leads_to(one: int) -> list[int]:
        return [other for inner in inner_schemas(met[one]) for other in containers(inner)]

    return cycles(containers(schemas.root), leads_to)


@dataclass(slots=True)
class _Builder:
    """Compiles each schema that contains itself once, by its name. Schemas of one cycle refer to each other by name;
    where a value enters a cycle, its form stands in place.

    `cycle_of` are the plain schemas that contain themselves, `refused` the names that are known to have no form.
    `cycle` is the one that is being compiled, `open` the names, `referred` those that need a rule.
    `made` keeps the form of each schema by its identity: the items of a list have two forms, a first one and those
    behind a space, so lists in lists would be compiled twice as often with each level. `numbers` tells apart what was
    reached by the same reference.
    """

    schemas: Schemas
    cycle_of: Mapping[int, int]
    refused: Mapping[str, CannotHold]
    cycle: int | None = None
    open: set[str] = field(default_factory=set)
    referred: dict[str, Callable[[], Form]] = field(default_factory=dict)
    bodies: dict[str, Form] = field(default_factory=dict)
    made: dict[tuple[int, str, int | None], Form | CannotHold] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)

    def rules(self) -> tuple[dict[str, Form], dict[str, CannotHold]]:
        """The forms of all names that are referred to, and why others have none."""
        found: dict[str, Form] = {}
        failed: dict[str, CannotHold] = {}
        while waiting := [n for n in self.referred if n not in found and n not in failed]:
            for name in waiting:
                try:
                    found[name] = self.referred[name]()
                except CannotHold as error:
                    failed[name] = error
        return found, failed

    def value(self, schema: Any, prefix: str) -> Form:
        """The form of any value of a schema, written after `prefix`."""
        schema = self.schemas.parts.whole(self.schemas.parts.shared(schema))
        key = (id(schema), prefix, self.cycle)
        if key not in self.made:
            try:
                self.made[key] = self._value(schema, prefix)
            except CannotHold as error:
                self.made[key] = error.again()
                raise
        found = self.made[key]
        if isinstance(found, CannotHold):
            raise found.again()
        return found

    def _value(self, schema: Any, prefix: str) -> Form:
        branches = self.schemas.branches(schema)
        values = listed(branches)
        if values is not None:
            return choice(values, prefix)
        if len(branches) > 1:
            return union_form(self, branches, prefix)
        [only] = branches
        if not is_container(only.schema):
            return scalar_slot(self, branches, prefix)
        make = object_form if only.schema["type"] == "object" else array_form
        with below(*only.place):
            return self.named(only.schema, prefix, lambda s, p: make(self, s, p))

    def named(self, schema: Schema, prefix: str, make: Make, variant: str = "") -> Form:
        """Compile in place, or refer by name from inside the cycle of schemas that this is one of."""
        label, cycle = self.schemas.label(schema), self.cycle_of.get(id(schema))
        if cycle is None or not label:
            return make(schema, prefix)
        number = self.numbers.setdefault(id(schema), len(self.numbers))
        name = f"{label}|{number}|{prefix}{variant}"
        if name in self.refused:
            raise self.refused[name].again()

        def body() -> Form:
            return self._body(name, cycle, lambda: make(schema, prefix))

        if cycle == self.cycle or name in self.open:
            self.referred.setdefault(name, body)
            return Ref(name)
        return body()

    def _body(self, name: str, cycle: int, make: Callable[[], Form]) -> Form:
        if name not in self.bodies:
            outside, self.cycle = self.cycle, cycle
            self.open.add(name)
            try:
                self.bodies[name] = make()
            finally:
                self.cycle = outside
                self.open.discard(name)
        return self.bodies[name]

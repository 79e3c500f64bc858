"""JSON Schema to a form. The spelling is json.dumps's with default separators: `{"a": "x", "b": null}`.

Every form takes the white space before it as a prefix, because tokens are cut before a space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from carrara.engines.diffusion.scaffold.forms import (
    NEVER_ENDS,
    NOTHING,
    Form,
    Program,
    Ref,
    rule_heights,
)
from carrara.engines.diffusion.scaffold.json_build import Make
from carrara.engines.diffusion.scaffold.json_containers import array_form
from carrara.engines.diffusion.scaffold.json_object import object_form
from carrara.engines.diffusion.scaffold.json_scalars import choice, listed, scalar_slot
from carrara.engines.diffusion.scaffold.json_union import union_form
from carrara.engines.diffusion.scaffold.schema import CannotHold, Schema, Schemas


def json_program(schema_text: str, prefix: str = "") -> Program:
    """The program of a JSON Schema, written after `prefix`.

    Raises:
        CarraraError: with the reason why no scaffold holds it.
    """
    builder = _Builder(Schemas(schema_text))
    root = builder.value(builder.schemas.root, prefix)
    while builder.waiting:
        name, make = builder.waiting.popitem()
        builder.rules[name] = NOTHING  # known from here on, also while it is being compiled
        builder.rules[name] = make()
    heights = rule_heights(builder.rules)
    if NEVER_ENDS in heights.values():
        endless = next(name for name, needed in heights.items() if needed == NEVER_ENDS)
        raise CannotHold(f"{endless.split('|')[0]} contains itself without an end")
    return Program(root, builder.rules, heights)


@dataclass(slots=True)
class _Builder:
    """`open` are the named schemas being compiled, `waiting` those referred to from inside themselves.

    `made` keeps the form of each schema by its identity: the items of a list have two forms, a first one and those
    behind a space, so lists in lists would be compiled twice as often with each level.
    """

    schemas: Schemas
    rules: dict[str, Form] = field(default_factory=dict)
    waiting: dict[str, Callable[[], Form]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    made: dict[tuple[int, str, frozenset[str]], tuple[Any, Form]] = field(default_factory=dict)

    def value(self, schema: Any, prefix: str) -> Form:
        """The form of any value of a schema, written after `prefix`."""
        key = (id(schema), prefix, frozenset(self.open))
        if key not in self.made:
            self.made[key] = (schema, self._value(schema, prefix))
        return self.made[key][1]

    def _value(self, schema: Any, prefix: str) -> Form:
        branches = self.schemas.branches(schema)
        if not branches:
            raise CannotHold(f"{schema.get('$ref', 'the schema')} contains itself without an end")
        values = listed(self, branches)
        if values is not None:
            return choice(values, prefix)
        if len(branches) > 1:
            return union_form(self, branches, prefix)
        [only] = branches
        match only["type"]:
            case "object":
                return self.named(only, prefix, lambda s, p: object_form(self, s, p))
            case "array":
                return self.named(only, prefix, lambda s, p: array_form(self, s, p))
        return scalar_slot(self, branches, prefix)

    def named(self, schema: Schema, prefix: str, make: Make, variant: str = "") -> Form:
        """Compile in place, or refer to what is being compiled by that name already."""
        if "x-name" not in schema:
            return make(schema, prefix)
        name = f"{schema['x-name']}|{prefix}{variant}"
        if name in self.open:
            if name not in self.rules and name not in self.waiting:
                self.waiting[name] = lambda: self._rule(name, schema, prefix, make)
            return Ref(name)
        return self._rule(name, schema, prefix, make)

    def _rule(self, name: str, schema: Schema, prefix: str, make: Make) -> Form:
        self.open.add(name)
        try:
            return make(schema, prefix)
        finally:
            self.open.discard(name)

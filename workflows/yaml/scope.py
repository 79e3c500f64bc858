"""Reading templates, expressions and values of a step: which names may stand there, and what they refer to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jinja2 import Environment

from carrara.workflows.yaml.definition import (
    Constant,
    Entries,
    Expression,
    Many,
    Name,
    Template,
    Value,
)
from carrara.workflows.yaml.kinds import TEXT, Type
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.references import inner_expression, of_expression, of_template
from carrara.workflows.yaml.shape import context
from carrara.workflows.yaml.source import Location
from carrara.workflows.yaml.type_facts import Types
from carrara.workflows.yaml.walk import NAMESPACES, Found, Known, Reference

_ONLY_WITH = {
    "item": "'item' is only there with 'for_each'",
    "previous": "'previous' is only there with 'repeat'",
}


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a place in a pipeline may use, with their types (None: cannot be told)."""

    inputs: Mapping[str, Type | None]
    steps: Mapping[str, Type | None]
    extra: Mapping[str, Type | None] = field(default_factory=dict)

    def space(self, space: str) -> Mapping[str, Type | None]:
        match space:
            case "inputs":
                return self.inputs
            case "steps":
                return self.steps
            case _:
                return {**self.inputs, **self.steps, **self.extra}

    def home(self, reference: Reference) -> str:
        """Where the name comes from: "inputs", "steps", or "" for one of this place only."""
        if reference.space or reference.name in self.extra:
            return reference.space
        return "steps" if reference.name in self.steps else "inputs"

    def type_of(self, space: str, name: str) -> Type | None:
        return self.space(space).get(name)


@dataclass(slots=True)
class ValueReader:
    """Reads the values of one step, or of the outputs, and keeps every reference that it met, each with the space
    that its name comes from."""

    notes: Notes
    environment: Environment
    declared: Types
    references: list[Reference] = field(default_factory=list)
    type: Type | None = None
    """The type of the expression that was read last, None where it cannot be told."""

    def value(self, raw: Any, where: Location, names: Names) -> Value:
        """Any value: text may hold templates, `{{ x }}` alone keeps its type."""
        self.type = None
        match raw:
            case str() if any(sign in raw for sign in ("{{", "{%", "{#")):
                inner = inner_expression(raw, self.environment)
                if inner is not None:
                    return self.expression(inner, where, names)
                return self.template(raw, where, names)
            case list():
                items = [self.value(v, (*where, i), names) for i, v in enumerate(raw)]
                self.type = None
                return Many(tuple(items))
            case dict():
                entries = {k: self.value(v, (*where, k), names) for k, v in raw.items()}
                self.type = None
                return Entries(entries)
            case _:
                return Constant(raw)

    def template(self, raw: str, where: Location, names: Names) -> Template:
        found = of_template(raw, self.environment, Known(names.type_of, self.declared))
        self.type = TEXT
        return Template(raw, self.take(found, where, names))

    def expression(
        self, text: str, where: Location, names: Names, *, asked: bool = False
    ) -> Expression:
        known = Known(names.type_of, self.declared)
        found = of_expression(text, self.environment, known, asked=asked)
        taken = self.take(found, where, names)
        self.type = found.type
        return Expression(text, taken)

    def condition(self, raw: str | bool, where: Location, names: Names) -> Value:
        """A condition, with or without braces around it."""
        if isinstance(raw, bool):
            return Constant(raw)
        return self.expression(self.bare(raw), where, names, asked=True)

    def items(self, raw: str | list[Any], where: Location, names: Names) -> Value:
        """A list, or an expression that gives one, with or without braces around it."""
        if isinstance(raw, list):
            return self.value(raw, where, names)
        return self.expression(self.bare(raw), where, names)

    def steps_met(self) -> set[str]:
        """The names of the steps referred to so far."""
        return {met.name for met in self.references if met.space == "steps"}

    def unasked_steps(self) -> frozenset[str]:
        """Those of them of which nothing asks whether there is a value."""
        asked = {met.name for met in self.references if met.asked and met.space == "steps"}
        return frozenset(self.steps_met() - asked)

    def bare(self, raw: str) -> str:
        inner = inner_expression(raw, self.environment)
        return raw.strip() if inner is None else inner

    def take(self, found: Found, where: Location, names: Names) -> frozenset[Name]:
        """Note what is wrong, keep what is right; returns the names that exist."""
        for problem in found.problems:
            message = f"{problem.message}, in {context(where)}{problem.hint}"
            self.notes.inside(where, message, line=problem.line, word=problem.word)
        met: Counter[tuple[int, str]] = Counter()
        good: set[Name] = set()
        for reference in found.references:
            spot = (reference.line, reference.name)
            if self.exists(reference, names):
                good.add((reference.space, reference.name))
                self.references.append(replace(reference, space=names.home(reference)))
            elif not reference.space and reference.name in self.environment.globals:
                continue
            else:
                self.notes.inside(
                    where,
                    self.unknown(reference, where, names),
                    line=reference.line,
                    word=reference.name,
                    nth=met[spot],
                )
            met[spot] += 1
        return frozenset(good)

    def exists(self, reference: Reference, names: Names) -> bool:
        return reference.name in names.space(reference.space)

    def unknown(self, reference: Reference, where: Location, names: Names) -> str:
        name, place = reference.name, context(where)
        if not reference.space and name in _ONLY_WITH:
            return f"{_ONLY_WITH[name]}, in {place}"
        if where[:1] == ("steps",) and name == where[1]:
            advice = "With 'repeat', 'previous' is the value of the turn before"
            return f"step '{name}' refers to itself. {advice}"
        known = names.space(reference.space)
        what = f"unknown {reference.space[:-1] or 'name'} '{name}' in {place}"
        other = [s for s in NAMESPACES if s != reference.space and name in names.space(s)]
        if reference.space and other:
            return f"{what}. '{name}' is one of the {other[0]}"
        return f"{what}{did_you_mean(name, known)}"

"""A pipeline that was read and found right, as frozen data. Nothing here knows files, positions or the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carrara.runtime.limits import EngineLimits
from carrara.runtime.routing.policy import Policy
from carrara.runtime.step import StepKind
from carrara.workflows.chunks.merge import Rule as MergeRule
from carrara.workflows.scoring.score import Scoring
from carrara.workflows.yaml.kinds import MISSING, TEXT, Field, Shape, Type
from carrara.workflows.yaml.targets import Parameters
from carrara.workflows.yaml.type_facts import exported

Name = tuple[str, str]
"""A name as it is written: its space ("", "inputs" or "steps") and the name."""


@dataclass(frozen=True, slots=True)
class Constant:
    value: Any


@dataclass(frozen=True, slots=True)
class Expression:
    """`{{ … }}` alone: gives the value itself. `names` are the outside names it refers to."""

    text: str
    names: frozenset[Name] = frozenset()


@dataclass(frozen=True, slots=True)
class Template:
    """Text with `{{ … }}` in it: gives text."""

    text: str
    names: frozenset[Name] = frozenset()


@dataclass(frozen=True, slots=True)
class Many:
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    items: Mapping[str, Value]


Value = Constant | Expression | Template | Many | Entries


def is_constant(value: Value) -> bool:
    """Whether `value` is written out: no expression or template in it, at any depth."""
    match value:
        case Many(items):
            return all(map(is_constant, items))
        case Entries(entries):
            return all(map(is_constant, entries.values()))
        case _:
            return isinstance(value, Constant)


def names_in(value: Value | None) -> frozenset[Name]:
    """The outside names in `value`, at any depth."""
    match value:
        case Expression() | Template():
            return value.names
        case Many(items):
            return frozenset[Name]().union(*(names_in(item) for item in items))
        case Entries(entries):
            return frozenset[Name]().union(*(names_in(item) for item in entries.values()))
        case _:
            return frozenset()


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a model."""

    prompt: Template
    system: Template | None = None
    returns: Type = TEXT
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of `carrara.workflows.answering.Answering`, those that are given."""
    examples: tuple[tuple[Mapping[str, Any], Any], ...] = ()
    validators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """Call a Python function, named by its import path. `returns` None: what the function declares. `kind` is what
    its decorators make of it."""

    target: str
    arguments: Mapping[str, Value] = field(default_factory=dict)
    returns: Type | None = None
    kind: StepKind = "python"


@dataclass(frozen=True, slots=True)
class Use:
    """Run another pipeline."""

    pipeline: PipelineDef
    arguments: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repeat:
    max: int
    until: Value | None = None


@dataclass(frozen=True, slots=True)
class Each:
    """Run for each of `items`, at most `limit` at once (None: no bound of its own)."""

    items: Value
    name: str = "item"
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class StepDef:
    """One step.

    `when` is asked for each item if `when_per_item`, else once. `needs` are the names of steps that this step cannot
    do without: if one of them was skipped, so is this step. `merge` makes one value of those of all items, by rules of
    fields; "*" stands for the rest, which has the usual ones if left out. `after` are all steps it refers to: its
    edges. None among the options leaves them to the function's own, or to the defaults.
    """

    name: str
    does: Ask | Call | Use
    description: str = ""
    each: Each | None = None
    merge: Mapping[str, MergeRule] | None = None
    when: Value | None = None
    when_per_item: bool = False
    repeat: Repeat | None = None
    engine: str | None = None
    tags: frozenset[str] = frozenset()
    retries: int | None = None
    timeout_s: float | None = None
    concurrency: int | None = None
    cache: bool | None = None
    inline: bool | None = None
    isolated: bool | None = None
    needs: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PipelineDef:
    """A pipeline. `steps` stand in an order in which each comes after all it refers to; `engines` are limits,
    `servers` engines of its own by their presets; `output_lines` tell where the outputs are written, from 1."""

    name: str
    path: Path
    steps: tuple[StepDef, ...]
    outputs: Mapping[str, Value]
    inputs: tuple[Field, ...] = ()
    types: Mapping[str, Field] = field(default_factory=dict)
    engines: Mapping[str, EngineLimits] = field(default_factory=dict)
    servers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policy: Policy | None = None
    description: str = ""
    output_types: Mapping[str, Type] = field(default_factory=dict)
    score: Scoring | None = None
    output_lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def value_type(self) -> Type:
        """What a file that uses this pipeline knows of its value."""
        declared = {name: found.type for name, found in self.types.items()}
        fields = (Field(name, exported(kind, declared)) for name, kind in self.output_types.items())
        return Shape(tuple(fields))

    @property
    def parameters(self) -> Parameters:
        """What a step that uses this pipeline may give, and must."""
        names = tuple(field.name for field in self.inputs)
        required = tuple(field.name for field in self.inputs if field.default is MISSING)
        return Parameters(names, required)

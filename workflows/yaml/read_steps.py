"""Reading one step: what it does, what it refers to, and which keys go together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Each,
    PipelineDef,
    Repeat,
    StepDef,
    Use,
    Value,
)
from carrara.workflows.yaml.document import StepDoc
from carrara.workflows.yaml.kinds import TEXT, ListOf, Type
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.notation import TypeReader
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.references import Reference, Types, resolved
from carrara.workflows.yaml.scope import Names, ValueReader
from carrara.workflows.yaml.source import Location
from carrara.workflows.yaml.targets import Parameters, TargetError, look_up

KINDS: Final = ("llm", "python", "use")
_OTHERS: Final = ("description", "for_each", "as", "limit", "when", "repeat")
_RUNS: Final = ("retries", "timeout", "concurrency", "cache")
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "llm": (
        "llm", "system", "returns", "engine", "max_tokens", "temperature", "top_p", "seed", "tags",
        "repair", "validators", *_RUNS, *_OTHERS,
    ),
    "python": ("python", "with", "returns", *_RUNS, *_OTHERS),
    "use": ("use", "with", *_OTHERS),
}  # fmt: skip
NEEDS: Final = {"as": "for_each", "limit": "for_each"}
"""Keys that mean something only beside another."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a step is read in. `open_pipeline` reads a used pipeline, None after a mistake."""

    notes: Notes
    environment: Environment
    folder: Path
    types: Types
    type_names: Collection[str]
    inputs: Mapping[str, Type | None]
    engines: Collection[str]
    open_pipeline: Callable[[str, Location], PipelineDef | None]


class StepReader:
    """Reads one step in two passes: first what it gives, then, when all steps are known, what it refers to."""

    def __init__(self, name: str, doc: StepDoc, raw: Mapping[str, Any], around: Surroundings):
        self.name, self.doc, self.raw, self.around = name, doc, raw, around
        self.where: Location = ("steps", name)
        self.notes = around.notes
        self.values = ValueReader(around.notes, around.environment, around.types)
        self.kind = self.read_kind()
        self.returns = self.read_returns()
        self.pipeline = self.read_used()
        self.note_engine()

    # ------------------------------------------------------------------ first pass

    def read_kind(self) -> str | None:
        given = [kind for kind in KINDS if kind in self.raw]
        if not given:
            self.notes.at_key(
                self.where, f"step '{self.name}' does nothing: it needs one of llm, python, use"
            )
            return None
        for other in given[1:]:
            self.notes.at_key(
                (*self.where, other),
                f"'{given[0]}' and '{other}' exclude each other in step '{self.name}'",
            )
        for key in self.raw:
            if key not in KEYS[given[0]] and key not in given and self.knows(key):
                self.notes.at_key(
                    (*self.where, key),
                    f"'{key}' does not go with '{given[0]}' in step '{self.name}'",
                )
            elif key in NEEDS and NEEDS[key] not in self.raw:
                self.notes.at_key(
                    (*self.where, key), f"'{key}' needs '{NEEDS[key]}' in step '{self.name}'"
                )
        return given[0]

    def knows(self, key: str) -> bool:
        return any(key in keys for keys in KEYS.values())

    def read_returns(self) -> Type | None:
        if self.doc.returns is None:
            return TEXT if self.kind == "llm" else None
        where: Location = (*self.where, "returns")
        return TypeReader(self.notes, self.around.type_names).read(self.doc.returns, where)

    def read_used(self) -> PipelineDef | None:
        if self.kind != "use" or self.doc.use is None:
            return None
        return self.around.open_pipeline(self.doc.use, (*self.where, "use"))

    def note_engine(self) -> None:
        engine = self.doc.engine
        if engine is not None and engine not in self.around.engines:
            hint = did_you_mean(engine, self.around.engines)
            self.notes.at_value(
                (*self.where, "engine"), f"unknown engine '{engine}' in step '{self.name}'.{hint}"
            )

    @property
    def one_type(self) -> Type | None:
        """The type of one turn for one item, None where it cannot be told."""
        if self.pipeline is not None:
            return self.pipeline.value_type
        return self.returns

    @property
    def type(self) -> Type | None:
        """The type that other steps see."""
        one = self.one_type
        if self.doc.for_each is None:
            return one
        return None if one is None else ListOf(one)

    # ------------------------------------------------------------------ second pass

    def read(self, steps: Mapping[str, Type | None]) -> StepDef | None:
        """The step, given the types of all others. None if it does nothing that can be told."""
        names = Names(self.around.inputs, {n: t for n, t in steps.items() if n != self.name})
        each = self.read_each(names)
        inside = Names(names.inputs, names.steps, self.local_names(each))
        does = self.read_action(inside)
        repeat = self.read_repeat(inside)
        when, per_item = self.read_when(inside, each)
        if does is None:
            return None
        used = self.values.references
        return StepDef(
            name=self.name,
            does=does,
            description=self.doc.description or "",
            each=each,
            when=when,
            when_per_item=per_item,
            repeat=repeat,
            engine=self.doc.engine,
            tags=frozenset(self.doc.tags or ()),
            retries=self.doc.retries or 0,
            timeout_s=self.doc.timeout,
            concurrency=self.doc.concurrency,
            cache=self.doc.cache is not False,
            needs=self.unasked(used, names.steps),
            after=self.edges(used, names),
        )

    def read_each(self, names: Names) -> Each | None:
        if self.doc.for_each is None:
            return None
        where: Location = (*self.where, "for_each")
        items = self.values.items(self.doc.for_each, where, names)
        found = resolved(self.values.type, self.around.types)
        if found is not None and not isinstance(found, ListOf):
            self.notes.at_value(where, f"'for_each' of step '{self.name}' is given no list")
        name = self.doc.item_name
        if name in names.space("") or name in ("inputs", "steps", "previous", self.name):
            self.notes.at_value(
                (*self.where, "as"), f"'{name}' is already a name here, call the item otherwise"
            )
        self.item_type = found.item if isinstance(found, ListOf) else None
        return Each(items, name, self.doc.limit)

    item_type: Type | None = None

    def local_names(self, each: Each | None) -> dict[str, Type | None]:
        names: dict[str, Type | None] = {}
        if each is not None:
            names[each.name] = self.item_type
        if self.doc.repeat is not None:
            names["previous"] = self.one_type
        return names

    def read_action(self, names: Names) -> Ask | Call | Use | None:
        doc, where = self.doc, self.where
        match self.kind:
            case "llm" if doc.llm is not None:
                return self.read_ask(doc, doc.llm, names)
            case "python" if doc.python is not None:
                parameters = self.look_up(doc.python, (*where, "python"))
                if parameters is not None:
                    self.note_arguments(parameters, "the function")
                return Call(doc.python, self.read_arguments(names), self.returns)
            case "use" if self.pipeline is not None:
                self.note_arguments(self.pipeline.parameters, f"pipeline '{self.pipeline.name}'")
                return Use(self.pipeline, self.read_arguments(names))
        self.read_arguments(names)
        return None

    def read_ask(self, doc: StepDoc, prompt: str, names: Names) -> Ask:
        if not prompt.strip():
            self.notes.at_value((*self.where, "llm"), f"the prompt of step '{self.name}' is empty")
        system = doc.system
        for i, validator in enumerate(doc.validators or ()):
            self.look_up(validator, (*self.where, "validators", i))
        return Ask(
            prompt=self.values.template(prompt, (*self.where, "llm"), names),
            system=None
            if system is None
            else self.values.template(system, (*self.where, "system"), names),
            returns=self.returns or TEXT,
            max_tokens=doc.max_tokens,
            temperature=doc.temperature,
            top_p=doc.top_p,
            seed=doc.seed,
            repair=doc.repair,
            validators=tuple(doc.validators or ()),
        )

    def read_arguments(self, names: Names) -> dict[str, Value]:
        return {
            name: self.values.value(raw, (*self.where, "with", name), names)
            for name, raw in (self.doc.arguments or {}).items()
        }

    def look_up(self, target: str, where: Location) -> Parameters | None:
        try:
            return look_up(target, self.around.folder).parameters
        except TargetError as error:
            self.notes.at_value(where, str(error))
            return None

    def note_arguments(self, parameters: Parameters, of: str) -> None:
        """Note arguments that the function or pipeline does not know, and those it lacks."""
        given = self.doc.arguments or {}
        for name in given:
            if name not in parameters.names and not parameters.open_ended:
                hint = did_you_mean(name, parameters.names)
                self.notes.at_key((*self.where, "with", name), f"{of} takes no '{name}'.{hint}")
        for name in parameters.required:
            if name not in given:
                key = "python" if self.kind == "python" else "use"
                self.notes.at_key(
                    (*self.where, "with" if given else key),
                    f"{of} needs '{name}': give it under 'with' in step '{self.name}'",
                )

    def read_repeat(self, names: Names) -> Repeat | None:
        if self.doc.repeat is None:
            return None
        until = self.doc.repeat.until
        if until is None:
            return Repeat(self.doc.repeat.max)
        own = {**names.extra, self.name: self.one_type}
        scope = Names(names.inputs, {**names.steps, self.name: self.one_type}, own)
        where = (*self.where, "repeat", "until")
        return Repeat(self.doc.repeat.max, self.values.condition(until, where, scope))

    def read_when(self, names: Names, each: Each | None) -> tuple[Value | None, bool]:
        if self.doc.when is None:
            return None, False
        extra = {k: t for k, t in names.extra.items() if k != "previous"}
        scope = Names(names.inputs, names.steps, extra)
        condition = self.values.condition(self.doc.when, (*self.where, "when"), scope)
        per_item = each is not None and ("", each.name) in names_of(condition)
        return condition, per_item

    def edges(self, used: list[Reference], names: Names) -> tuple[str, ...]:
        """The steps it refers to, in the order of the file."""
        met = {r.name for r in used if r.space == "steps" or (not r.space and self.is_step(r, names))}
        return tuple(name for name in names.steps if name in met)

    def is_step(self, reference: Reference, names: Names) -> bool:
        return reference.name in names.steps and reference.name not in names.extra

    def unasked(self, used: list[Reference], steps: Mapping[str, Type | None]) -> frozenset[str]:
        """Steps whose value is used, and never asked about."""
        asked = {r.name for r in used if r.asked}
        return frozenset(
            r.name for r in used if r.space != "inputs" and r.name in steps and r.name not in asked
        )

"""Reading one step: which keys go together, what it gives, and what it refers to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Each,
    Name,
    PipelineDef,
    Repeat,
    StepDef,
    Use,
    Value,
    names_in,
)
from carrara.workflows.yaml.document import StepDoc
from carrara.workflows.yaml.kinds import ANY, TEXT, ListOf, Type
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.notation import TypeReader
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.references import Types, item_type, resolved
from carrara.workflows.yaml.scope import Names, ValueReader
from carrara.workflows.yaml.source import Location
from carrara.workflows.yaml.targets import Parameters, Target, TargetError, look_up

KINDS: Final = ("llm", "python", "use")
_OTHERS: Final = ("description", "for_each", "as", "limit", "when", "repeat")
_RUNS: Final = ("retries", "timeout", "concurrency", "cache")
SETTINGS: Final = (
    "max_tokens", "max_steps", "temperature", "top_p", "seed", "stop", "repair",
)  # fmt: skip
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "llm": (
        "llm", "system", "returns", "examples", "engine", "tags", *SETTINGS, "validators",
        *_RUNS, *_OTHERS,
    ),
    "python": ("python", "with", "returns", *_RUNS, *_OTHERS),
    "use": ("use", "with", *_OTHERS),
}  # fmt: skip
NEEDS: Final = {"as": "for_each", "limit": "for_each"}
"""Keys that mean something only beside another."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the steps of a file are read in. `open_pipeline` gives a used pipeline, None after a mistake."""

    notes: Notes
    environment: Environment
    folder: Path
    types: Types
    type_reader: TypeReader
    inputs: Mapping[str, Type | None]
    engines: Collection[str]
    open_pipeline: Callable[[str, Location], PipelineDef | None]


class StepReader:
    """Reads a step in two passes: what it gives, and, once that is known of all steps, what it refers to."""

    def __init__(
        self, name: str, doc: StepDoc, raw: Mapping[str, Any], around: Surroundings
    ) -> None:
        self.name, self.doc, self.around, self.notes = name, doc, around, around.notes
        self.where: Location = ("steps", name)
        self.kind = _kind(raw, self.where, self.notes)
        self.pipeline = self._pipeline()
        self.one_type = self._one_type()
        self.values = ValueReader(self.notes, around.environment, around.types)

    def _pipeline(self) -> PipelineDef | None:
        if self.kind != "use" or self.doc.use is None:
            return None
        return self.around.open_pipeline(self.doc.use, (*self.where, "use"))

    def _one_type(self) -> Type | None:
        """The type of one turn for one item, None where it cannot be told."""
        if self.doc.returns is not None:
            return self.around.type_reader.read(self.doc.returns, (*self.where, "returns"))
        if self.pipeline is not None:
            return self.pipeline.value_type
        return TEXT if self.kind == "llm" else None

    @property
    def type(self) -> Type | None:
        """The type that other steps see: of the list for a fan-out."""
        if self.doc.for_each is None or self.one_type is None:
            return self.one_type if self.doc.for_each is None else None
        return ListOf(self.one_type)

    def read(self, steps: Mapping[str, Type | None]) -> StepDef | None:
        """The step, given the types of all of them; None if what it does cannot be told."""
        doc = self.doc
        others = {name: kind for name, kind in steps.items() if name != self.name}
        names = Names(self.around.inputs, others)
        each = self._each(names)
        inside = replace(names, extra=self._local_names(each))
        does = self._action(inside)
        repeat = self._repeat(inside)
        when = self._when(inside)
        self._note_engine()
        if does is None:
            return None
        return StepDef(
            name=self.name,
            does=does,
            description=doc.description or "",
            each=each,
            when=when,
            when_per_item=each is not None and ("", each.name) in names_in(when),
            repeat=repeat,
            engine=doc.engine,
            tags=frozenset(doc.tags or ()),
            retries=doc.retries,
            timeout_s=doc.timeout,
            concurrency=doc.concurrency,
            cache=doc.cache,
            needs=self.values.unasked_steps() & others.keys(),
            after=frozenset(self.values.steps_met() & others.keys()),
        )

    def _each(self, names: Names) -> Each | None:
        if self.doc.for_each is None:
            return None
        where: Location = (*self.where, "for_each")
        items = self.values.items(self.doc.for_each, where, names)
        found = resolved(self.values.type, self.around.types)
        if found not in (None, ANY) and item_type(found) is None:
            self.notes.at_value(where, f"'for_each' of step '{self.name}' is given no list")
        name = self.doc.item_name
        if name in names.space("") or name in ("inputs", "steps", "previous", self.name):
            self.notes.at_value((*self.where, "as"), f"'{name}' is a name already, choose another")
        return Each(items, name, self.doc.limit)

    def _local_names(self, each: Each | None) -> dict[str, Type | None]:
        """The item of for_each, and `previous` of repeat."""
        names: dict[str, Type | None] = {}
        if each is not None:
            names[each.name] = item_type(resolved(self.values.type, self.around.types))
        if self.doc.repeat is not None:
            names["previous"] = self.one_type
        return names

    def _repeat(self, names: Names) -> Repeat | None:
        written = self.doc.repeat
        if written is None:
            return None
        if written.until is None:
            return Repeat(written.max)
        scope = replace(
            names,
            steps={**names.steps, self.name: self.one_type},
            extra={**names.extra, self.name: self.one_type},
        )
        until = self.values.condition(written.until, (*self.where, "repeat", "until"), scope)
        return Repeat(written.max, until)

    def _when(self, names: Names) -> Value | None:
        if self.doc.when is None:
            return None
        before = {name: kind for name, kind in names.extra.items() if name != "previous"}
        return self.values.condition(
            self.doc.when, (*self.where, "when"), replace(names, extra=before)
        )

    def _note_engine(self) -> None:
        engine = self.doc.engine
        known = ("auto", *self.around.engines)
        if engine is not None and engine not in known:
            hint = did_you_mean(engine, known)
            self.notes.at_value(
                (*self.where, "engine"), f"unknown engine '{engine}' in step '{self.name}'{hint}"
            )

    # What the step does.

    def _action(self, names: Names) -> Ask | Call | Use | None:
        match self.kind:
            case "llm" if self.doc.llm is not None:
                return self._ask(self.doc.llm, names)
            case "python" if self.doc.python is not None:
                target = self._look_up(self.doc.python, (*self.where, "python"))
                if target.parameters is not None:
                    self._note_arguments(target.parameters, f"'{self.doc.python}'")
                return Call(self.doc.python, self._arguments(names), self.one_type, target.kind)
            case "use" if self.pipeline is not None:
                self._note_arguments(self.pipeline.parameters, f"'{self.doc.use}'")
                self._note_constants(self.pipeline)
                return Use(self.pipeline, self._arguments(names))
        self._arguments(names)
        return None

    def _ask(self, prompt: str, names: Names) -> Ask:
        doc, where = self.doc, self.where
        if not prompt.strip():
            self.notes.at_value((*where, "llm"), f"the prompt of step '{self.name}' is empty")
        template = self.values.template(prompt, (*where, "llm"), names)
        system = None
        if doc.system is not None:
            system = self.values.template(doc.system, (*where, "system"), names)
        self._note_validators(names_in(template) | names_in(system))
        given = {key: getattr(doc, key) for key in SETTINGS if getattr(doc, key) is not None}
        return Ask(
            prompt=template,
            system=system,
            returns=self.one_type or TEXT,
            settings={**given, "stop": tuple(doc.stop)} if doc.stop else given,
            examples=tuple((example.inputs, example.answer) for example in doc.examples or ()),
            validators=tuple(doc.validators or ()),
        )

    def _note_validators(self, used: frozenset[Name]) -> None:
        """Note validators that are not there, or that want an input which the prompt does not have."""
        known = {space or name for space, name in used}
        for i, validator in enumerate(self.doc.validators or ()):
            where = (*self.where, "validators", i)
            parameters = self._look_up(validator, where).parameters
            for name in parameters.required[1:] if parameters is not None else ():
                if name not in known:
                    hint = did_you_mean(name, known)
                    self.notes.at_value(
                        where, f"'{validator}' asks for '{name}', which is not in the prompt{hint}"
                    )

    def _arguments(self, names: Names) -> dict[str, Value]:
        return {
            name: self.values.value(raw, (*self.where, "with", name), names)
            for name, raw in (self.doc.arguments or {}).items()
        }

    def _look_up(self, target: str, where: Location) -> Target:
        try:
            return look_up(target, self.around.folder)
        except TargetError as error:
            self.notes.at_value(where, str(error))
            return Target()

    def _note_arguments(self, parameters: Parameters, of: str) -> None:
        """Note arguments that the function or pipeline does not know, and those it lacks."""
        given = self.doc.arguments or {}
        for name in given:
            if name not in parameters.names and not parameters.open_ended:
                hint = did_you_mean(name, parameters.names)
                self.notes.at_key((*self.where, "with", name), f"{of} takes no '{name}'{hint}")
        for name in parameters.required:
            if name not in given:
                spot = (*self.where, "with" if given else str(self.kind))
                self.notes.at_key(
                    spot, f"{of} needs '{name}': give it under 'with' in step '{self.name}'"
                )

    def _note_constants(self, pipeline: PipelineDef) -> None:
        """Note arguments written out that the used pipeline's inputs refuse."""
        from carrara.workflows.yaml.models import first_refusal, models_of

        fields = {field.name: field for field in pipeline.inputs}
        for name, raw in (self.doc.arguments or {}).items():
            if name not in fields or (isinstance(raw, str | list | dict) and "{" in str(raw)):
                continue
            refusal = first_refusal(models_of(pipeline).of(fields[name].type, name), raw)
            if refusal is not None:
                self.notes.at_value(
                    (*self.where, "with", name), f"input '{name}' of '{self.doc.use}': {refusal}"
                )


def _kind(raw: Mapping[str, Any], where: Location, notes: Notes) -> str | None:
    """What the step does: llm, python or use. Notes keys that do not go together."""
    given = [kind for kind in KINDS if kind in raw]
    if not given:
        notes.at_key(where, f"step '{where[1]}' does nothing: it needs one of llm, python, use")
        return None
    for other in given[1:]:
        notes.at_key(
            (*where, other), f"'{given[0]}' and '{other}' exclude each other in step '{where[1]}'"
        )
    known = {key for keys in KEYS.values() for key in keys}
    for key in raw:
        if key in known and key not in (*KEYS[given[0]], *given):
            notes.at_key(
                (*where, key), f"'{key}' does not go with '{given[0]}' in step '{where[1]}'"
            )
        elif key in NEEDS and NEEDS[key] not in raw:
            notes.at_key((*where, key), f"'{key}' needs '{NEEDS[key]}' in step '{where[1]}'")
    return given[0]

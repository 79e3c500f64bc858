"""Reading one step: which keys go together, what it gives, and what it refers to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment

from carrara.workflows.chunks.merge import Rule
from carrara.workflows.yaml.definition import (
    Each,
    PipelineDef,
    Repeat,
    StepDef,
    Value,
    names_in,
)
from carrara.workflows.yaml.document import SplitDoc, StepDoc
from carrara.workflows.yaml.document_base import USUAL, USUAL_RULE
from carrara.workflows.yaml.kinds import (
    ANY,
    TEXT,
    Field,
    ListOf,
    ObjectOf,
    Scalar,
    Shape,
    Type,
)
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.notation import TypeReader
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.read_actions import ActionReader
from carrara.workflows.yaml.scope import Names, ValueReader
from carrara.workflows.yaml.source import Location
from carrara.workflows.yaml.step_keys import read_kind
from carrara.workflows.yaml.type_facts import Types, fits, item_type, resolved, wanted_by

PART = Shape(
    (
        Field("text", TEXT),
        Field("start", Scalar("int")),
        Field("end", Scalar("int")),
        Field("headings", ListOf(TEXT)),
    )
)
"""A part of a text, as the filter `parts` gives it."""


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
        self.kind = read_kind(raw, self.where, self.notes)
        self.pipeline = self._pipeline()
        self.one_type = self._one_type()
        self.values = ValueReader(self.notes, around.environment, around.types)
        self.item_type: Type | None = None

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
        is_one = (
            self.doc.for_each is None and self.doc.split is None
        ) or self.doc.merge is not None
        if is_one or self.one_type is None:
            return self.one_type if is_one else None
        return ListOf(self.one_type)

    def read(self, steps: Mapping[str, Type | None]) -> StepDef | None:
        """The step, given the types of all of them; None if what it does cannot be told."""
        doc = self.doc
        others = {name: kind for name, kind in steps.items() if name != self.name}
        names = Names(self.around.inputs, others)
        each = self._each(names)
        inside = replace(names, extra=self._local_names(each))
        merge = self._merge()
        action = ActionReader(
            self.name, doc, self.values, self.around.folder, self.pipeline, self.one_type
        )
        does = action.read(self.kind, inside)
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
            merge=merge,
            when=when,
            when_per_item=each is not None and ("", each.name) in names_in(when),
            repeat=repeat,
            engine=doc.engine,
            tags=frozenset(doc.tags or ()),
            retries=doc.retries,
            timeout_s=doc.timeout,
            concurrency=doc.concurrency,
            cache=doc.cache,
            inline=doc.inline,
            isolated=doc.isolated,
            needs=self.values.unasked_steps() & others.keys(),
            after=frozenset(self.values.steps_met() & others.keys()),
        )

    def _each(self, names: Names) -> Each | None:
        if self.doc.split is not None:
            return self._named(self._parts(self.doc.split, names), "part", names)
        if self.doc.for_each is None:
            return None
        where: Location = (*self.where, "for_each")
        items = self.values.items(self.doc.for_each, where, names)
        found = resolved(self.values.type, self.around.types)
        if found not in (None, ANY) and item_type(found) is None:
            self.notes.at_value(where, f"'for_each' of step '{self.name}' is given no list")
        self.item_type = item_type(found)
        return self._named(items, "item", names)

    def _parts(self, split: SplitDoc, names: Names) -> Value:
        """The parts of the text, as the filter `parts` gives them."""
        where: Location = (*self.where, "split")
        if split.overlap > split.tokens // 2:
            self.notes.at_value(
                (*where, "overlap"),
                f"'overlap' of step '{self.name}' must be at most half of 'tokens', which is {split.tokens}",
            )
        text = self.values.bare(split.text)
        more = f", {split.overlap}" if split.overlap else ""
        self.item_type = PART
        return self.values.expression(
            f"({text}) | parts({split.tokens}{more})", (*where, "text"), names
        )

    def _named(self, items: Value, usual: str, names: Names) -> Each:
        name = self.doc.item_name or usual
        if name in names.space("") or name in ("inputs", "steps", "previous", self.name):
            self.notes.at_value((*self.where, "as"), f"'{name}' is a name already, choose another")
        return Each(items, name, self.doc.limit)

    def _local_names(self, each: Each | None) -> dict[str, Type | None]:
        """The item of for_each, and `previous` of repeat."""
        names: dict[str, Type | None] = {}
        if each is not None:
            names[each.name] = self.item_type
        if self.doc.repeat is not None:
            names["previous"] = self.one_type
        return names

    def _merge(self) -> Mapping[str, Rule] | None:
        """The rules; those for fields that there are not, or that do not fit their types, are noted."""
        if self.doc.merge is None:
            return None
        rules = {field: rule for field, rule in self.doc.merge.items() if rule != USUAL_RULE}
        for field, rule in rules.items():
            wrong = "" if field == USUAL else self._misfit(field, rule)
            if wrong:
                where: Location = (*self.where, "merge", field)
                self.notes.at_key(where, f"'merge' of step '{self.name}' {wrong}")
        return rules

    def _misfit(self, field: str, rule: Rule) -> str:
        """What is wrong with a rule for a field, "" for nothing that can be told."""
        kind, before = self.one_type, ""
        for name in field.split("."):
            kind = resolved(kind, self.around.types)
            if kind in (None, ANY) or not isinstance(kind, ObjectOf | Shape | Scalar | ListOf):
                return ""
            fields = kind.fields if isinstance(kind, ObjectOf | Shape) else ()
            inner = {one.name: one.type for one in fields}
            if name not in inner:
                hint = did_you_mean(field, [before + one for one in inner])
                return f"has a rule for '{field}', which its value has not{hint}"
            kind, before = inner[name], f"{before}{name}."
        wanted = wanted_by(rule)
        kind = resolved(kind, self.around.types)
        if kind in (None, ANY) or not wanted or fits(rule, kind):
            return ""
        return f"has the rule '{rule}' for '{field}', which is for {wanted}"

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
            hint = did_you_mean(engine, known) or ". `carrara engines` lists them"
            self.notes.at_value(
                (*self.where, "engine"), f"unknown engine '{engine}' in step '{self.name}'{hint}"
            )

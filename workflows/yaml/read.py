"""From a file to a checked definition: everything that can be known without running anything.

The order is: text, shape, types and inputs, steps (what each gives, then what each refers to), outputs, circles.
Each stage notes its mistakes and the next goes on with what is right, so that one reading reports them all.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from carrara.engines.errors import LoadingError
from carrara.engines.registry import KINDS
from carrara.engines.remote.configured import defined
from carrara.engines.remote.preset import presets
from carrara.runtime.limits import EngineLimits
from carrara.runtime.routing.policy import Policy
from carrara.workflows.asked import asked_in
from carrara.workflows.errors import DefinitionError
from carrara.workflows.scoring.score import Scoring
from carrara.workflows.yaml.actions import llm_step
from carrara.workflows.yaml.compose import read
from carrara.workflows.yaml.definition import Ask, Expression, PipelineDef, StepDef, Value
from carrara.workflows.yaml.document import PipelineDoc
from carrara.workflows.yaml.document_base import NAME
from carrara.workflows.yaml.kinds import ANY, MISSING, Field, Nullable, Type
from carrara.workflows.yaml.mistakes import Mistakes, did_you_mean
from carrara.workflows.yaml.models import first_refusal, models_of
from carrara.workflows.yaml.notation import TypeReader
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.order import in_order
from carrara.workflows.yaml.policy import note_misnamed, read_policy
from carrara.workflows.yaml.read_steps import StepReader, Surroundings
from carrara.workflows.yaml.read_types import read_types
from carrara.workflows.yaml.scope import Names, ValueReader
from carrara.workflows.yaml.shape import context, noun, read_shape
from carrara.workflows.yaml.sketching import sketch_of
from carrara.workflows.yaml.source import Location, Source

RESERVED: Final = frozenset(keyword.kwlist) | {
    "true", "false", "none", "inputs", "steps", "previous",
    "loop", "self", "caller", "varargs", "kwargs",
}  # fmt: skip


_SERVER_KEYS = ("preset", "model", "base_url", "key_env", "key_header", "context_tokens", "price")


class PipelineReader:
    """Reads a pipeline and those it uses, each file once."""

    def __init__(
        self, mistakes: Mistakes, environment: Environment, engines: Collection[str]
    ) -> None:
        self.mistakes, self.environment, self.engines = mistakes, environment, engines
        self.done: dict[Path, PipelineDef | None] = {}
        self.open: list[Path] = []

    def file(self, path: Path, shown: str) -> PipelineDef | None:
        """The pipeline in a file that messages call `shown`; None if too little of it can be read."""
        place = path.resolve()
        if place not in self.done:
            source = read(path, shown, self.mistakes)
            self.done[place] = None if source is None else self.source(source, path)
        return self.done[place]

    def source(self, source: Source, path: Path) -> PipelineDef | None:
        """The pipeline in a text that was read; its relative paths start from the folder of `path`."""
        self.open.append(path.resolve())
        try:
            return _File(self, Notes(source, self.mistakes), path).pipeline()
        finally:
            self.open.pop()

    def used(self, written: str, where: Location, notes: Notes, path: Path) -> PipelineDef | None:
        """The pipeline that a `use` in the file at `path` names."""
        target = path.parent / written
        if not target.is_file():
            others = [p.name for p in target.parent.glob("*.y*ml") if p.name != path.name]
            near = did_you_mean(target.name, others)
            notes.at_value(where, f"there is no file '{written}' beside the pipeline{near}")
            return None
        place = target.resolve()
        if place in self.open:
            circle = [*self.open[self.open.index(place) :], place]
            names = " -> ".join(step.name for step in circle)
            notes.at_value(where, f"pipelines use each other in a circle: {names}")
            return None
        return self.file(target, str(Path(notes.source.name).parent / written))


class _File:
    """One file: from its raw data to a definition."""

    def __init__(self, reader: PipelineReader, notes: Notes, path: Path) -> None:
        self.reader, self.notes, self.path = reader, notes, path
        self.raw: Any = notes.source.value
        self.known_engines: tuple[str, ...] = tuple(reader.engines)

    def pipeline(self) -> PipelineDef | None:
        if not isinstance(self.raw, dict):
            self.notes.at_value((), f"a pipeline is a mapping with 'steps', not {noun(self.raw)}")
            return None
        doc = read_shape(PipelineDoc, self.raw, (), self.notes)
        if doc is None:
            return None
        if "steps" not in self.raw:
            self.notes.at_value((), "the pipeline needs the key 'steps'")
        servers = self.servers(doc)
        self.note_names()
        reader = TypeReader(self.notes, self.all_of("types", {}))
        types = read_types(doc.types or {}, reader)
        declared = {name: field.type for name, field in types.items()}
        inputs = self.inputs(doc, reader)
        names = Names(self.all_of("inputs", {field.name: field.type for field in inputs}), {})
        readers = self.step_readers(doc, declared, names, reader)
        seen = self.all_of("steps", {reader.name: reader.type for reader in readers})
        found = [reader.read(seen) for reader in readers]
        steps = in_order([step for step in found if step is not None], self.notes)
        outputs, output_types = self.outputs(doc, steps, Names(names.inputs, seen), declared)
        made = PipelineDef(
            name=doc.name or self.path.stem,
            path=self.path,
            steps=steps,
            outputs=outputs,
            inputs=inputs,
            types=types,
            engines=self.engines(doc),
            servers=servers,
            policy=self.policy(doc),
            description=doc.description or "",
            output_types=output_types,
            score=self.score(doc),
            output_lines={
                name: self.notes.source.at_key(("outputs", name)).line for name in doc.outputs or ()
            },
        )
        self.note_defaults(made, reader)
        self.note_unanswerable(made)
        self.note_policy(made)
        return made

    def is_right(self) -> bool:
        """Whether nothing is noted of this file so far."""
        return all(found.file != self.notes.source.name for found in self.notes.mistakes.found)

    def note_policy(self, made: PipelineDef) -> None:
        """Note steps and fields that only the policy names. Only in a file that is right so far."""
        if made.policy is not None and self.is_right():
            asked = asked_in(sketch_of(made).nodes, whole=True)
            note_misnamed(made.policy, asked, self.notes)

    def note_unanswerable(self, made: PipelineDef) -> None:
        """Note what no model can answer, and wrong examples. Only in a file that is right so far."""
        if not self.is_right():
            return
        for step in made.steps:
            if isinstance(step.does, Ask):
                try:
                    llm_step(step, step.does, models_of(made))
                except (DefinitionError, ValueError) as error:
                    where = (
                        "steps",
                        step.name,
                        "examples" if "xample" in str(error) else "returns",
                    )
                    text = getattr(error, "text", str(error)).removeprefix(f"{step.name}: ")
                    self.notes.at_key(where, f"step '{step.name}': {text}")

    def note_defaults(self, made: PipelineDef, reader: TypeReader) -> None:
        """Note defaults that are not of their own type."""
        if not reader.defaults or made.types.keys() != self.all_of("types", {}).keys():
            return
        models = models_of(made)
        for kind, default, where in reader.defaults:
            refusal = first_refusal(models.of(kind, "default"), default)
            if refusal is not None:
                self.notes.at_value(where, f"the default in {context(where)}: {refusal}")

    def all_of(self, part: str, found: Mapping[str, Type | None]) -> dict[str, Type | None]:
        """Every name under `part`, those of which nothing could be read too."""
        raw = self.raw.get(part)
        return {**dict.fromkeys(raw if isinstance(raw, dict) else ()), **found}

    def note_names(self) -> None:
        taken: dict[str, str] = {}
        for part in ("inputs", "steps", "outputs"):
            for name in self.all_of(part, {}):
                where = (part, name)
                if not re.match(NAME, name):
                    self.notes.at_key(
                        where,
                        f"'{name}' cannot be a name: use letters, digits and _, no digit first",
                    )
                elif part == "outputs":
                    continue
                elif name in RESERVED or name in self.reader.environment.globals:
                    self.notes.at_key(where, f"'{name}' is a reserved word, choose another name")
                elif name in taken:
                    self.notes.at_key(where, f"'{name}' is already the name of an input")
                taken[name] = part

    def inputs(self, doc: PipelineDoc, reader: TypeReader) -> tuple[Field, ...]:
        found = []
        for name, notation in (doc.inputs or {}).items():
            field = reader.field(name, notation, ("inputs", name))
            if field is None:
                continue
            if field.default is MISSING and isinstance(field.type, Nullable):
                field = Field(name, field.type, field.description, None)
            found.append(field)
        return tuple(found)

    def step_readers(
        self, doc: PipelineDoc, declared: Mapping[str, Type], names: Names, reader: TypeReader
    ) -> list[StepReader]:
        around = Surroundings(
            notes=self.notes,
            environment=self.reader.environment,
            folder=self.path.parent,
            types=declared,
            type_reader=reader,
            inputs=names.inputs,
            engines=self.known_engines,
            open_pipeline=lambda written, where: self.reader.used(
                written, where, self.notes, self.path
            ),
        )
        raw = self.raw.get("steps") or {}
        return [
            StepReader(name, step, raw[name], around) for name, step in (doc.steps or {}).items()
        ]

    def outputs(
        self,
        doc: PipelineDoc,
        steps: tuple[StepDef, ...],
        names: Names,
        declared: Mapping[str, Type],
    ) -> tuple[dict[str, Value], dict[str, Type]]:
        """The outputs and their types; without any, the steps that no other step refers to."""
        if doc.outputs is None:
            used = {name for step in steps for name in step.after}
            ends = [name for name in names.steps if name not in used]
            found: dict[str, Value] = {n: Expression(n, frozenset([("", n)])) for n in ends}
            return found, {name: names.steps[name] or ANY for name in ends}
        reader = ValueReader(self.notes, self.reader.environment, declared)
        found, types = {}, {}
        for name, raw in doc.outputs.items():
            found[name] = reader.value(raw, ("outputs", name), names)
            types[name] = reader.type or ANY
        return found, types

    def score(self, doc: PipelineDoc) -> Scoring | None:
        if doc.score is None:
            return None
        if doc.score.unordered is not None and doc.score.rule != "fields":
            text = f"'unordered' goes with the rule 'fields', not with '{doc.score.rule}'"
            self.notes.at_key(("score", "unordered"), text)
        return Scoring(doc.score.rule, frozenset(doc.score.unordered or ()))

    def policy(self, doc: PipelineDoc) -> Policy | None:
        return (
            None if doc.policy is None else read_policy(doc.policy, self.known_engines, self.notes)
        )

    def servers(self, doc: PipelineDoc) -> dict[str, dict[str, Any]]:
        """The engines that the file defines; from here on their names are known."""
        given = {
            name: engine.model_dump(
                include=set(_SERVER_KEYS), exclude_none=True, exclude_unset=True
            )
            for name, engine in (doc.engines or {}).items()
        }
        found = {name: keys for name, keys in given.items() if keys}
        self.known_engines = (*self.known_engines, *(n for n in found if n not in KINDS))
        for name, keys in found.items():
            self.note_server(name, keys)
        return found

    def note_server(self, name: str, keys: dict[str, Any]) -> None:
        where: Location = ("engines", name)
        if "preset" not in keys and name not in presets():
            stray = next(iter(keys))
            self.notes.at_key((*where, stray), f"'{stray}' goes with 'preset'")
        elif name in KINDS:
            text = f"'{name}' is an engine in this process: give the server another name"
            self.notes.at_key(where, text)
        else:
            try:
                defined(name, keys, f"engine '{name}'", self.path.parent)
            except LoadingError as error:
                self.notes.at_key(where, str(error))
        if str(keys.get("preset", "")).endswith(".toml"):
            keys["preset"] = str((self.path.parent / keys["preset"]).resolve())

    def engines(self, doc: PipelineDoc) -> dict[str, EngineLimits]:
        found = {}
        for name, limits in (doc.engines or {}).items():
            if name not in self.known_engines:
                hint = did_you_mean(name, self.known_engines)
                hint = hint or ". A server of your own needs 'preset'"
                text = f"unknown engine '{name}'{hint}"
                self.notes.at_key(("engines", name), text)
            found[name] = EngineLimits(
                limits.concurrency, limits.requests_per_s, limits.tokens_per_min
            )
        return found

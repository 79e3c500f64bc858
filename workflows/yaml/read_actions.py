"""Reading what a step does: ask a model, call a function, run another pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from carrara.workflows.answering import rule_of
from carrara.workflows.errors import DefinitionError
from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Name,
    PipelineDef,
    Use,
    Value,
    is_constant,
    names_in,
)
from carrara.workflows.yaml.document import StepDoc
from carrara.workflows.yaml.kinds import TEXT, Type
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.models import first_refusal, models_of
from carrara.workflows.yaml.scope import Names, ValueReader
from carrara.workflows.yaml.source import Location
from carrara.workflows.yaml.step_keys import SETTINGS
from carrara.workflows.yaml.targets import Parameters, Target, TargetError, look_up


class ActionReader:
    """Reads the action of one step, whose templates go through `values`.

    `pipeline` is the one that the step uses, `returns` the type that it declares; None for neither.
    """

    def __init__(
        self,
        name: str,
        doc: StepDoc,
        values: ValueReader,
        folder: Path,
        pipeline: PipelineDef | None,
        returns: Type | None,
    ) -> None:
        self.name, self.doc, self.values, self.folder = name, doc, values, folder
        self.pipeline, self.returns, self.notes = pipeline, returns, values.notes
        self.where: Location = ("steps", name)

    def read(self, kind: str | None, names: Names) -> Ask | Call | Use | None:
        """The action of this kind; None if it cannot be told, after its arguments were read all the same."""
        doc = self.doc
        match kind:
            case "llm" if doc.llm is not None:
                return self._ask(doc.llm, names)
            case "python" if doc.python is not None:
                target = self._look_up(doc.python, (*self.where, "python"))
                if target.parameters is not None:
                    self._note_arguments(target.parameters, "python", doc.python)
                return Call(doc.python, self._arguments(names), self.returns, target.kind)
            case "use" if self.pipeline is not None:
                self._note_arguments(self.pipeline.parameters, "use", str(doc.use))
                arguments = self._arguments(names)
                self._note_constants(self.pipeline, arguments)
                return Use(self.pipeline, arguments)
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
        if doc.rule is not None:
            try:
                given["rule"] = rule_of(doc.rule)
            except DefinitionError as error:
                self.notes.at_value((*where, "rule"), f"step '{self.name}': {error.text}")
                del given["rule"]
        return Ask(
            prompt=template,
            system=system,
            returns=self.returns or TEXT,
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
            return look_up(target, self.folder)
        except TargetError as error:
            self.notes.at_value(where, str(error))
            return Target()

    def _note_arguments(self, parameters: Parameters, key: str, of: str) -> None:
        """Note arguments that the function or pipeline does not know, and those it lacks."""
        given = self.doc.arguments or {}
        for name in given:
            if name not in parameters.names and not parameters.open_ended:
                hint = did_you_mean(name, parameters.names)
                self.notes.at_key((*self.where, "with", name), f"'{of}' takes no '{name}'{hint}")
        for name in parameters.required:
            if name not in given:
                self.notes.at_key(
                    (*self.where, "with" if given else key),
                    f"'{of}' needs '{name}': give it under 'with' in step '{self.name}'",
                )

    def _note_constants(self, pipeline: PipelineDef, arguments: Mapping[str, Value]) -> None:
        """Note arguments written out that the used pipeline's inputs refuse."""
        models, raw = models_of(pipeline), self.doc.arguments or {}
        for field in pipeline.inputs:
            if field.name not in arguments or not is_constant(arguments[field.name]):
                continue
            refusal = first_refusal(models.of(field.type, field.name), raw[field.name])
            if refusal is not None:
                self.notes.at_value(
                    (*self.where, "with", field.name),
                    f"input '{field.name}' of '{self.doc.use}': {refusal}",
                )

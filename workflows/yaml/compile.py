"""From a definition to a workflow: the same objects, and the same calls, as decorated functions make.

A step that only refers to values becomes one call with handles. A step with a condition or with turns, or one whose
list or arguments must first be worked out, becomes a small workflow of its own: it waits for what it refers to,
decides, and makes the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

from carrara.runtime.handle import Handle
from carrara.runtime.step import StepSpec
from carrara.workflows.calls import Definition
from carrara.workflows.errors import InputError, RenderError
from carrara.workflows.parameters import Parameters
from carrara.workflows.source import shown_path
from carrara.workflows.steps import Llm, Workflow
from carrara.workflows.yaml.actions import by_name, item_of, llm_step, python_step, typed
from carrara.workflows.yaml.control import (
    Action,
    by_arguments,
    by_names,
    gated,
    merged,
    over_items,
    turns,
    within,
)
from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Entries,
    Expression,
    PipelineDef,
    StepDef,
    Use,
    Value,
    names_in,
)
from carrara.workflows.yaml.expressions import evaluate, is_direct, pick
from carrara.workflows.yaml.kinds import MISSING
from carrara.workflows.yaml.models import models_of
from carrara.workflows.yaml.sketching import sketch_of
from carrara.workflows.yaml.targets import fetch
from carrara.workflows.yaml.type_facts import unbounded


class PipelineWorkflow(Workflow[..., dict[str, Any]]):
    """A pipeline as a workflow: its inputs are the parameters, its value is a dict of the outputs.

    What its steps and validators name is imported when it is first run, or by `prepare`.
    """

    def __init__(self, pipeline: PipelineDef) -> None:
        models = models_of(pipeline)
        types = {field.name: models.of(field.type, field.name) for field in pipeline.inputs}
        self.pipeline = pipeline
        self.defaults = {f.name: f.default for f in pipeline.inputs if f.default is not MISSING}
        self.checks = {name: typed(annotation) for name, annotation in types.items()}
        super().__init__(
            pipeline.name,
            self._run,
            Parameters.named(*types, types=types, defaults=self.defaults, returns=dict[str, Any]),
            fingerprint="",
            source=str(pipeline.path.resolve()),
            static_plan=partial(sketch_of, pipeline),
        )
        self.policy, self.limits = pipeline.policy, pipeline.engines
        self.servers = pipeline.servers
        self.scoring = pipeline.score

    @cached_property
    def spec(self) -> StepSpec:
        self.prepare()
        return StepSpec(self.name, self._run, "workflow", returns=self.returns)

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The annotation of each output, Any where it cannot be told."""
        models = models_of(self.pipeline)
        return {name: models.of(kind, name) for name, kind in self.pipeline.output_types.items()}

    @property
    def given_on(self) -> Mapping[str, str]:
        """The outputs that are just the value of a step that asks a model once: that step's name by the output's."""
        once = {
            step.name
            for step in self.pipeline.steps
            if isinstance(step.does, Ask) and step.each is None and step.repeat is None
        }
        named = {
            output: [name for space, name in value.names if space != "inputs"]
            for output, value in self.pipeline.outputs.items()
            if isinstance(value, Expression) and is_direct(value)
        }
        return {output: names[0] for output, names in named.items() if names and {*names} <= once}

    def prepare(self) -> None:
        """Import what the steps name, here and in the pipelines that are used.

        Raises:
            DefinitionError: a function that is not there, or an import that fails.
        """
        _ = self._actions

    @cached_property
    def steps(self) -> Mapping[str, Definition[..., Any]]:
        """What the steps do, by name, as decorators would make them. Imports what they name."""
        return {step.name: core_of(step, self.pipeline) for step in self.pipeline.steps}

    @cached_property
    def _actions(self) -> Mapping[str, Action]:
        return {
            step.name: action_of(step, self.steps[step.name], self.pipeline)
            for step in self.pipeline.steps
        }

    async def _run(self, *first: Any, **rest: Any) -> dict[str, Any]:
        inputs = self._inputs(by_name(tuple(self.checks), first, rest))
        handles: dict[str, Any] = {}
        scope: dict[str, Any] = {**inputs, "inputs": inputs, "steps": handles}
        for name, action in self._actions.items():
            scope[name] = handles[name] = action.submit(scope)
        outputs = self.pipeline.outputs
        return {name: await self._output(name, value, scope) for name, value in outputs.items()}

    async def _output(self, name: str, value: Value, scope: Mapping[str, Any]) -> Any:
        """An output, once the steps that it refers to have ended.

        Raises:
            RenderError: it cannot be worked out; with its place.
        """
        needed = pick(scope, names_in(value))
        settled = {found: await _settled(part) for found, part in needed.items()}
        try:
            return evaluate(value, settled)
        except RenderError as error:
            line = self.pipeline.output_lines.get(name)
            place = shown_path(str(self.pipeline.path)) + (f":{line}" if line else "")
            raise RenderError(
                f"{place}: output '{name}' of pipeline '{self.name}': {error}"
            ) from error

    def _inputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs as the types that the pipeline declares.

        Raises:
            InputError: a value of another type.
        """
        found = {}
        for name, value in {**self.defaults, **given}.items():
            try:
                found[name] = self.checks[name](value)
            except ValueError as error:
                where = f"input '{name}' of pipeline '{self.name}'"
                raise InputError(f"{where}: {error}", name=name) from error
        return found


def core_of(step: StepDef, pipeline: PipelineDef) -> Definition[..., Any]:
    """What the step does, as the step or workflow that a decorator would make."""
    models, folder = models_of(pipeline), pipeline.path.parent
    match step.does:
        case Ask() as ask:
            return llm_step(step, ask, models, [fetch(target, folder) for target in ask.validators])
        case Call() as call:
            return python_step(step, call, models, pipeline.path)
        case Use(inner):
            made = PipelineWorkflow(inner)
            made.prepare()
            return made


def action_of(step: StepDef, core: Definition[..., Any], pipeline: PipelineDef) -> Action:
    """How the step is submitted, with all that stands around what it does."""
    action = _bare(step, core)
    if step.repeat is not None or step.when_per_item:
        action = turns(step, action)
    if step.each is not None:
        action = over_items(step, step.each, action)
    if step.merge is not None:
        action = merged(action, step, _whole(step, pipeline))
    return gated(step, action)


def _whole(step: StepDef, pipeline: PipelineDef) -> Callable[[Any], Any]:
    """What gives plain data the type of the step's value, as far as that is declared."""
    returns = None if isinstance(step.does, Use) else step.does.returns
    if returns is None:
        return lambda value: value
    declared = {name: field.type for name, field in pipeline.types.items()}
    check = typed(models_of(pipeline).of(unbounded(returns, declared), step.name))
    return lambda value: None if value is None else check(value)


def _bare(step: StepDef, core: Definition[..., Any]) -> Action:
    match step.does:
        case Ask(prompt, system):
            return by_names(core, names_in(prompt) | names_in(system), item_of(step))
        case Call(arguments=arguments) | Use(arguments=arguments):
            if isinstance(core, Workflow):
                return within(step, core, arguments)
            if isinstance(core, Llm):
                return by_arguments(core, arguments)
            return by_names(core, names_in(Entries(arguments)), item_of(step))


async def _settled(part: Any) -> Any:
    """A value whose handles have ended; spaces hold theirs one level down."""
    if isinstance(part, dict) and any(isinstance(inner, Handle) for inner in part.values()):
        return {name: await _settled(inner) for name, inner in part.items()}
    return await part if isinstance(part, Handle) else part

"""From a definition to a workflow: the same objects, and the same calls, as decorated functions make.

A step that only refers to values becomes one call with handles. A step with a condition or with turns, or one whose
list or arguments must first be worked out, becomes a small workflow of its own: it waits for what it refers to,
decides, and makes the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from carrara.runtime.handle import Handle
from carrara.workflows.calls import Definition
from carrara.workflows.errors import InputError
from carrara.workflows.parameters import Parameters
from carrara.workflows.steps import Llm, Workflow
from carrara.workflows.yaml.actions import by_name, item_of, llm_step, python_step, typed
from carrara.workflows.yaml.control import (
    Action,
    by_arguments,
    by_names,
    gated,
    over_items,
    turns,
    within,
)
from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Entries,
    PipelineDef,
    StepDef,
    Use,
    Value,
    names_in,
)
from carrara.workflows.yaml.expressions import evaluate, pick
from carrara.workflows.yaml.kinds import MISSING
from carrara.workflows.yaml.models import models_of
from carrara.workflows.yaml.sketching import sketch_of
from carrara.workflows.yaml.targets import fetch


def workflow_of(pipeline: PipelineDef) -> Workflow[..., dict[str, Any]]:
    """The pipeline as a workflow: its inputs are the parameters, its value is a dict of the outputs.

    Imports what its steps and validators name.

    Raises:
        DefinitionError: a function that is not there, or an import that fails.
    """
    models = models_of(pipeline)
    cores = {step.name: core_of(step, pipeline) for step in pipeline.steps}
    actions = {step.name: action_of(step, cores[step.name]) for step in pipeline.steps}
    types = {field.name: models.of(field.type, field.name) for field in pipeline.inputs}
    checks = {name: typed(annotation) for name, annotation in types.items()}
    defaults = {f.name: f.default for f in pipeline.inputs if f.default is not MISSING}

    async def run(*first: Any, **rest: Any) -> dict[str, Any]:
        given = by_name(tuple(types), first, rest)
        inputs = _checked(pipeline.name, {**defaults, **given}, checks)
        handles: dict[str, Any] = {}
        scope: dict[str, Any] = {**inputs, "inputs": inputs, "steps": handles}
        for name, action in actions.items():
            scope[name] = handles[name] = action.submit(scope)
        return {name: await _output(value, scope) for name, value in pipeline.outputs.items()}

    return Workflow(
        pipeline.name,
        run,
        Parameters.named(*types, types=types, defaults=defaults, returns=dict[str, Any]),
        fingerprint="",
        source=str(pipeline.path.resolve()),
        static_plan=partial(sketch_of, pipeline, cores),
    )


def core_of(step: StepDef, pipeline: PipelineDef) -> Definition[..., Any]:
    """What the step does, as the step or workflow that a decorator would make."""
    models, folder = models_of(pipeline), pipeline.path.parent
    match step.does:
        case Ask() as ask:
            return llm_step(step, ask, models, [fetch(target, folder) for target in ask.validators])
        case Call() as call:
            return python_step(step, call, models, folder)
        case use:
            return workflow_of(use.pipeline)


def action_of(step: StepDef, core: Definition[..., Any]) -> Action:
    """How the step is submitted, with all that stands around what it does."""
    action = _bare(step, core)
    if step.repeat is not None or step.when_per_item:
        action = turns(step, action)
    if step.each is not None:
        action = over_items(step, step.each, action)
    return gated(step, action)


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


def _checked(pipeline: str, given: Mapping[str, Any], checks: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs as the types that the pipeline declares.

    Raises:
        InputError: a value of another type.
    """
    found = {}
    for name, check in checks.items():
        try:
            found[name] = check(given[name])
        except ValueError as error:
            raise InputError(
                f"input '{name}' of pipeline '{pipeline}': {error}", name=name
            ) from error
    return found


async def _output(value: Value, scope: Mapping[str, Any]) -> Any:
    """An output, once the steps that it refers to have ended."""
    needed = pick(scope, names_in(value))
    return evaluate(value, {name: await _settled(part) for name, part in needed.items()})


async def _settled(part: Any) -> Any:
    """A value whose handles have ended; spaces hold theirs one level down."""
    if isinstance(part, dict) and any(isinstance(inner, Handle) for inner in part.values()):
        return {name: await _settled(inner) for name, inner in part.items()}
    return await part if isinstance(part, Handle) else part

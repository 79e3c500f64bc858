"""What a step does, as a step of the runtime: the same objects that the decorators in `define` make.

Nothing here runs anything; only `Call` and validators import what they name.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from carrara.runtime.fingerprint import source_fingerprint
from carrara.runtime.identity import text_hash
from carrara.runtime.step import StepOptions
from carrara.workflows.answering import Answering
from carrara.workflows.calls import Definition
from carrara.workflows.errors import DefinitionError, Refusal
from carrara.workflows.isolation.check import check_isolated
from carrara.workflows.parameters import MISSING, Parameters
from carrara.workflows.prompt import Prompt
from carrara.workflows.steps import Llm, Step, Workflow
from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Constant,
    Entries,
    Expression,
    Many,
    Name,
    StepDef,
    Template,
    Value,
    names_in,
)
from carrara.workflows.yaml.expressions import evaluate
from carrara.workflows.yaml.models import Models, first_reason
from carrara.workflows.yaml.targets import fetch


def llm_step(
    step: StepDef, ask: Ask, models: Models, validators: Iterable[Callable[..., Any]] = ()
) -> Llm[..., Any]:
    """The step that a model answers.

    Raises:
        DefinitionError: a type that no model can answer with, a wrong example, a validator of other inputs.
    """
    returns = models.of(ask.returns, step.name)
    names = names_in(ask.prompt) | names_in(ask.system)
    examples = tuple(
        (inputs, _example(number, returns, answer))
        for number, (inputs, answer) in enumerate(ask.examples, start=1)
    )
    return Llm(
        step.name,
        Prompt(
            ask.prompt.text.rstrip(),
            "" if ask.system is None else ask.system.text.rstrip(),
            examples=examples,
        ),
        Parameters.named(*parameter_names(names, item_of(step)), returns=returns),
        answering=replace(Answering(**ask.settings), validators=tuple(validators)),
        options=options_of(step),
    )


def python_step(step: StepDef, call: Call, models: Models, pipeline: Path) -> Definition[..., Any]:
    """The function as a step that works out its arguments itself, from the names that they refer to.

    A decorated LLM step or workflow is taken as it is, to be given its arguments.

    Raises:
        DefinitionError: there is no such function, importing it failed, or it is nothing to call.
    """
    found = fetch(call.target, pipeline.parent)
    if isinstance(found, Llm | Workflow):
        return _renamed(step, found)
    function: Callable[..., Any] = found.function if isinstance(found, Step) else found
    if not callable(function):
        raise DefinitionError(f"step '{step.name}': '{call.target}' is nothing that can be called")
    options = options_of(step, found.options if isinstance(found, Step) else StepOptions())
    names = frozenset[Name]().union(*map(names_in, call.arguments.values()))
    returns = (
        _declared(found, function) if call.returns is None else models.of(call.returns, step.name)
    )
    check = _same if call.returns is None else typed(returns)
    fingerprint = (
        found.spec.fingerprint if isinstance(found, Step) else source_fingerprint(function)
    )
    if options.isolated:
        from carrara.workflows.isolation.processes import isolated

        check_isolated(function, inline=options.inline)
        file = str(pipeline.resolve()) if pipeline.is_file() else ""
        function, options = isolated(function, options, file)
    parts = [
        fingerprint,
        {name: to_data(value) for name, value in call.arguments.items()},
        "" if call.returns is None else repr(call.returns),
    ]
    parameters = parameter_names(names, item_of(step))
    return Step(
        step.name,
        _with_arguments(function, call.arguments, parameters, check),
        Parameters.named(*parameters, returns=returns),
        options=options,
        fingerprint=text_hash(json.dumps(parts)),
    )


def parameter_names(names: Iterable[Name], item: Iterable[Name] = ()) -> tuple[str, ...]:
    """The parameters for these names: the item first, so that a map gives it, the rest by name.

    All names of a space are one parameter, a mapping that is called like the space.
    """
    first = tuple(name for _, name in item)
    rest = {space or name for space, name in names}
    return (*first, *sorted(rest - set(first)))


def by_name(
    names: tuple[str, ...], first: tuple[Any, ...], rest: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a call by name; those given by position are of the first names."""
    return {**dict(zip(names, first, strict=False)), **rest}


def item_of(step: StepDef) -> frozenset[Name]:
    """The name of the step's item, none without a fan-out."""
    return frozenset() if step.each is None else frozenset([("", step.each.name)])


def options_of(step: StepDef, base: StepOptions = StepOptions()) -> StepOptions:  # noqa: B008
    """The options that the step gives, over those that its function was decorated with."""
    given: dict[str, Any] = {
        "retries": step.retries,
        "timeout_s": step.timeout_s,
        "concurrency": step.concurrency,
        "cache": step.cache,
        "inline": step.inline,
        "isolated": step.isolated,
        "engine": None if step.engine == "auto" else step.engine,
        "tags": step.tags or None,
    }
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def to_data(value: Value) -> Any:
    """A value as JSON data, for fingerprints."""
    match value:
        case Constant(found):
            return {"constant": found}
        case Expression(text):
            return {"expression": text}
        case Template(text):
            return {"template": text}
        case Many(items):
            return [to_data(item) for item in items]
        case Entries(entries):
            return {"entries": {name: to_data(item) for name, item in entries.items()}}


def _renamed(step: StepDef, found: Definition[..., Any]) -> Definition[..., Any]:
    """A decorated LLM step under the step's name and with its options; a workflow, which has none."""
    if isinstance(found, Llm):
        options = options_of(step, found.options)
        return Llm(
            step.name,
            found.prompt,
            found.parameters,
            answering=found.answering,
            options=options,
            function=found.function,
        )
    if not isinstance(found, Workflow):
        raise DefinitionError(f"step '{step.name}': {found!r} is no step")
    if options_of(step) != StepOptions():
        raise DefinitionError(
            f"step '{step.name}': a workflow takes no retries, timeout, concurrency or cache; "
            "its own steps have them"
        )
    return found


def _with_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Value],
    names: tuple[str, ...],
    check: Callable[[Any], Any],
) -> Callable[..., Any]:
    """`function`, called with what `arguments` are when `names` have the values of the call."""

    def given(first: tuple[Any, ...], rest: Mapping[str, Any]) -> dict[str, Any]:
        scope = by_name(names, first, rest)
        return {name: evaluate(value, scope) for name, value in arguments.items()}

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose call is a coroutine function
    ):

        async def call_async(*first: Any, **rest: Any) -> Any:
            return check(await function(**given(first, rest)))

        return call_async

    def call(*first: Any, **rest: Any) -> Any:
        return check(function(**given(first, rest)))

    return call


def typed(annotation: Any) -> Callable[[Any], Any]:
    """What makes plain data a value of a type, and raises Refusal (a ValueError) where it is none."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(annotation)

    def check(value: Any) -> Any:
        try:
            return adapter.validate_python(value, from_attributes=True)
        except ValidationError as error:
            raise Refusal(f"not of the declared type: {first_reason(error)}") from error

    return check


def _example(number: int, annotation: Any, answer: Any) -> Any:
    try:
        return typed(annotation)(answer)
    except Refusal as error:
        raise DefinitionError(f"example {number}: the answer is {error}") from error


def _same(value: Any) -> Any:
    return value


def _declared(found: Any, function: Callable[..., Any]) -> Any:
    """The result's annotation that the function itself has, MISSING for none."""
    if isinstance(found, Step):
        return MISSING if found.returns is None else found.returns
    try:
        return Parameters.of(function).returns
    except (TypeError, ValueError):  # a built-in without a signature
        return MISSING

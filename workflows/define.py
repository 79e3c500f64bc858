"""Definitions in Python: `@step` for any function, `@llm` for a prompt with a typed answer, `@workflow`.

```python
@llm
def extract(recipe: str) -> Recipe:
    \"\"\"Extract the recipe from this text: {{ recipe }}\"\"\"
    ...

@workflow
async def cookbook(texts: list[str]) -> str:
    recipes = extract.map(texts)
    return await summary(recipes)
```
YAML pipelines make the same objects out of parts.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from carrara.engines.request import Message, Rule
from carrara.runtime.code_text import defines_steps
from carrara.runtime.handle import Handle
from carrara.runtime.step import RetryOn, StepOptions
from carrara.workflows.answering import Answering, Repair, rule_of
from carrara.workflows.errors import DefinitionError
from carrara.workflows.isolation.check import check_isolated
from carrara.workflows.parameters import Parameters
from carrara.workflows.prompt import Example, Prompt
from carrara.workflows.source import check_function, name_of, reference, wrong
from carrara.workflows.steps import Llm, Step, Workflow

if TYPE_CHECKING:
    from carrara.runtime.routing.policy import Policy

P = ParamSpec("P")
R = TypeVar("R")


class StepDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


class LlmDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Llm[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Llm[P, R]: ...


class WorkflowDecorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, Handle[R]]], /
    ) -> Workflow[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Handle[R]], /) -> Workflow[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Workflow[P, R]: ...


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int = 0,
    retry_on: RetryOn | None = None,
    timeout_s: float | None = None,
    concurrency: int | None = None,
    cache: bool = True,
    inline: bool = False,
    isolated: bool = False,
    tags: Sequence[str] = (),
) -> StepDecorator: ...
@defines_steps
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    retry_on: RetryOn | None = None,
    timeout_s: float | None = None,
    concurrency: int | None = None,
    cache: bool = True,
    inline: bool = False,
    isolated: bool = False,
    tags: Sequence[str] = (),
) -> Any:
    """Make a step of a function, sync or async.

    `retries` further attempts after the first, for the errors in `retry_on`; `timeout_s` for one attempt;
    at most `concurrency` at once in a run; `cache=False` for a result that must not be used again; `inline`
    runs a sync function of microseconds on the event loop instead of a worker thread; `isolated` runs one in a
    process of its own, which may crash, and which a timeout kills.

    Raises:
        DefinitionError: an option without meaning, or not a function that can be called without an instance.
    """
    scope = sys._getframe(1).f_locals

    def make(wrapped: Callable[..., Any]) -> Step[..., Any]:
        check_function(wrapped, "step")
        options = _options(
            wrapped,
            retries=retries,
            retry_on=retry_on,
            timeout_s=timeout_s,
            concurrency=concurrency,
            cache=cache,
            inline=inline,
            isolated=isolated,
            tags=frozenset(tags),
        )
        if isolated:
            check_isolated(wrapped, inline=inline)
        called = name or name_of(wrapped)
        return Step(called, wrapped, Parameters.of(wrapped, scope), options=options)

    return defines_steps(make) if function is None else make(function)


@overload
def llm(function: Callable[P, Coroutine[Any, Any, R]], /) -> Llm[P, R]: ...
@overload
def llm(function: Callable[P, R], /) -> Llm[P, R]: ...
@overload
def llm(
    *,
    name: str | None = None,
    system: str = "",
    messages: Callable[..., Sequence[Message]] | None = None,
    examples: Sequence[Example] = (),
    engine: str | None = None,
    max_tokens: int = 512,
    max_steps: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: Sequence[str] = (),
    repair: Repair = "escalate",
    rule: str | Mapping[str, Any] | Rule | None = None,
    validate: Sequence[Callable[..., Any]] = (),
    tags: Sequence[str] = (),
    retries: int = 0,
    retry_on: RetryOn | None = None,
    timeout_s: float | None = None,
    concurrency: int | None = None,
    cache: bool = True,
) -> LlmDecorator: ...
@defines_steps
def llm(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    system: str = "",
    messages: Callable[..., Sequence[Message]] | None = None,
    examples: Sequence[Example] = (),
    engine: str | None = None,
    max_tokens: int = 512,
    max_steps: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: Sequence[str] = (),
    repair: Repair = "escalate",
    rule: str | Mapping[str, Any] | Rule | None = None,
    validate: Sequence[Callable[..., Any]] = (),
    tags: Sequence[str] = (),
    retries: int = 0,
    retry_on: RetryOn | None = None,
    timeout_s: float | None = None,
    concurrency: int | None = None,
    cache: bool = True,
) -> Any:
    """Make a step that a model answers. The function's docstring is the prompt, a Jinja template over its
    parameters; its return type is the contract of the answer; its body is not run.

    `system` is a template too. `messages`, a function of the same parameters, gives the whole conversation
    instead of the docstring. `examples` are (inputs, answer) pairs shown before the question. `validate`
    functions get the typed answer first, and any inputs that they name; they refuse it by raising ValueError
    or returning False. `engine` None leaves the choice to the router, which reads `tags`. `rule` is the commit rule
    of a diffusion engine: a name, or a mapping of `name` and parameters.

    Raises:
        DefinitionError: no return type, a type that no model can answer with, a template that is wrong or
            uses a name that is no parameter.
    """
    scope = sys._getframe(1).f_locals

    def make(wrapped: Callable[..., Any]) -> Llm[..., Any]:
        check_function(wrapped, "llm")
        docstring = "" if messages is not None else inspect.cleandoc(wrapped.__doc__ or "")
        prompt = Prompt(docstring, inspect.cleandoc(system), messages, tuple(examples))
        options = _options(
            wrapped,
            retries=retries,
            retry_on=retry_on,
            timeout_s=timeout_s,
            concurrency=concurrency,
            cache=cache,
            tags=frozenset(tags),
            engine=engine,
        )
        answering = Answering(
            max_tokens, max_steps, temperature, top_p, seed, tuple(stop), repair, tuple(validate)
        )
        if rule is not None:
            try:
                answering = replace(answering, rule=rule_of(rule))
            except DefinitionError as error:
                raise wrong(wrapped, error.text) from error
        return Llm(
            name or name_of(wrapped),
            prompt,
            Parameters.of(wrapped, scope),
            answering=answering,
            options=options,
            function=wrapped,
        )

    return defines_steps(make) if function is None else make(function)


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, Handle[R]]], /) -> Workflow[P, R]: ...
@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(function: Callable[P, Handle[R]], /) -> Workflow[P, R]: ...
@overload
def workflow(function: Callable[P, R], /) -> Workflow[P, R]: ...
@overload
def workflow(*, name: str | None = None, policy: Policy | None = None) -> WorkflowDecorator: ...
@defines_steps
def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """Make a workflow of a function that calls steps: async, or plain where it never awaits.

    Called inside another workflow it is a sub-workflow and gives a handle; from outside, `carrara.run`
    runs it. `policy` is the routing policy of its runs; a session's own goes before it, and the policy of the
    outermost workflow holds for all inside.

    Raises:
        DefinitionError: an input without a name, such as *args or **kwargs.
    """
    scope = sys._getframe(1).f_locals

    def make(wrapped: Callable[..., Any]) -> Workflow[..., Any]:
        check_function(wrapped, "workflow")
        parameters = Parameters.of(wrapped, scope)
        unnamed = parameters.unnamed
        if unnamed:
            raise wrong(wrapped, f"a workflow's inputs are given by name, and {unnamed} has none")
        made: Workflow[..., Any] = Workflow(
            name or name_of(wrapped), wrapped, parameters, source=reference(wrapped)
        )
        made.policy = policy
        return made

    return defines_steps(make) if function is None else make(function)


def _options(function: Callable[..., Any], **given: Any) -> StepOptions:
    """Raises DefinitionError for a number that is out of range."""
    rules: Mapping[str, Callable[[Any], bool]] = {
        "retries": lambda n: n >= 0,
        "timeout_s": lambda n: n is None or n > 0,
        "concurrency": lambda n: n is None or n >= 1,
    }
    for option, holds in rules.items():
        if not holds(given[option]):
            raise wrong(function, f"{option}={given[option]!r} is out of range")
    return StepOptions(**given)

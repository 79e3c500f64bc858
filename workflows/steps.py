"""Steps, LLM steps and workflows as objects: from decorated functions and from YAML alike."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from carrara.engines.contract import Contract, to_data
from carrara.runtime.codec import CodecError
from carrara.runtime.errors import ScopeError
from carrara.runtime.fingerprint import source_fingerprint, type_fingerprint
from carrara.runtime.identity import text_hash, value_hash
from carrara.runtime.retry import is_worth_retrying
from carrara.runtime.run import context
from carrara.runtime.step import StepOptions, StepSpec
from carrara.runtime.uses import module_of
from carrara.workflows.answering import Answering
from carrara.workflows.calls import Definition
from carrara.workflows.errors import DefinitionError, RenderError
from carrara.workflows.parameters import MISSING, Parameters
from carrara.workflows.prompt import Prompt, written
from carrara.workflows.source import wrong
from carrara.workflows.template import Problem, problems
from carrara.workflows.types import ValueType, value_type

if TYPE_CHECKING:
    from carrara.runtime.context import StepContext
    from carrara.runtime.limits import EngineLimits
    from carrara.runtime.routing.call import LlmCall
    from carrara.runtime.routing.policy import Policy
    from carrara.workflows.sketch import Sketch

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Step(Definition[P, R_co]):
    """A function as a step. Called outside a workflow, in a test or in another step, it is that function."""

    function: Callable[P, Any]

    def __init__(
        self,
        name: str,
        function: Callable[P, Any],
        parameters: Parameters,
        *,
        options: StepOptions = StepOptions(),  # noqa: B008 - frozen
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(name, parameters, function)
        self.options = options
        self._fingerprint = fingerprint

    @cached_property
    def spec(self) -> StepSpec:
        fingerprint = self._fingerprint
        if fingerprint is None:
            fingerprint = source_fingerprint(self.function)
        body, options = self.function, self.options
        if options.isolated and not inspect.iscoroutinefunction(body):
            from carrara.workflows.isolation.processes import isolated

            body, options = isolated(body, options)
        return StepSpec(self.name, body, "python", fingerprint, options, self.returns)

    def _outside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.function(*args, **kwargs)


class Llm(Definition[P, R_co]):
    """A prompt with a typed answer as a step.

    Called outside a workflow it gives an awaitable: in another step's body the answer comes from the run's
    engines, elsewhere from those of the `carrara.session` around it.

    Raises:
        DefinitionError: see `carrara.workflows.define.llm`.
    """

    def __init__(
        self,
        name: str,
        prompt: Prompt,
        parameters: Parameters,
        *,
        answering: Answering = Answering(),  # noqa: B008 - frozen
        options: StepOptions = StepOptions(),  # noqa: B008 - frozen
        function: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(name, parameters, function)
        self.prompt = prompt
        self.answering = answering
        self.options = options
        if options.retry_on is None:
            self.options = replace(options, retry_on=is_worth_asking_again)
        self.answer = self._checked()

    @property
    def contract(self) -> Contract:
        return self.answer.contract

    @cached_property
    def spec(self) -> StepSpec:
        return StepSpec(
            self.name,
            self._ask,
            "llm",
            self.fingerprint,
            self.options,
            self.returns,
            self.answering.sampling.is_repeatable,
        )

    @cached_property
    def fingerprint(self) -> str:
        """The hash of everything that can change the answer: prompt, contract, settings, validators, also those in
        the classes of its inputs and its answer. How the function is written does not count, nor do retries and
        timeouts. "" where a default cannot be hashed: such a step's answer is never used again."""
        try:
            return text_hash(json.dumps(self._defining_parts(), sort_keys=True))
        except CodecError:
            return ""

    def _defining_parts(self) -> dict[str, Any]:
        prompt, how = self.prompt, self.answering
        functions = [f for f in (prompt.messages, *how.validators) if f is not None]
        home = "" if self.function is None else module_of(self.function)
        types = [found for each in self.types if (found := type_fingerprint(each, home))]
        return {
            "prompt": [prompt.text, prompt.system],
            "examples": value_hash([list(example) for example in prompt.examples]),
            "parameters": list(self.parameters.names),
            "defaults": value_hash(dict(self.parameters.defaults)),
            "contract": to_data(self.contract),
            "limits": [how.max_tokens, how.max_steps],
            "sampling": [how.temperature, how.top_p, how.seed, list(how.stop)],
            "repair": how.repair,
            "engine": [self.options.engine, sorted(self.options.tags)],
            # Left out where there is none: the answers of earlier runs keep their hashes.
            **({"rule": [how.rule.name, dict(how.rule.parameters)]} if how.rule else {}),
            "functions": [source_fingerprint(function) for function in functions],
            **({"types": types} if types else {}),
        }

    def defining_things(self) -> list[Any]:
        """What defines it where code uses it."""
        return [
            self.prompt,
            self.answering,
            to_data(self.contract),
            self.parameters.defaults,
            self.options.engine,
            self.options.tags,
            *self.types,
        ]

    @property
    def types(self) -> list[Any]:
        """The annotations of its inputs and of its answer."""
        known = (*self.parameters.types.values(), self.returns)
        return [each for each in known if each is not MISSING]

    async def _ask(self, *args: Any, **kwargs: Any) -> Any:
        from carrara.runtime.routing.call import LlmCall

        step = context()
        values = self.parameters.bind(self.name, args, kwargs)

        def accept(found: Any) -> Any:
            return self.answering.accept(self.answer.to_python(found), values)

        call = LlmCall(
            messages=self.prompt.build(values, self.answer),
            output=self.contract,
            validate=accept,
            engine=step.resources.get("only_engine") or self.options.engine,
            limits=self.answering.limits,
            sampling=self.answering.sampling,
            tags=self.options.tags,
            repair=self.answering.repair,
            stop=self.answering.stop,
            rule=self.answering.rule,
        )
        return await ask_engines(call, step)

    def _outside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        from carrara.workflows.session import ask

        return ask(self, args, kwargs)

    def _checked(self) -> ValueType:
        """The type of the answer, after everything about the definition was looked at."""
        if self.parameters.unresolved:
            raise self._wrong(f"an annotation is not known: {self.parameters.unresolved}")
        if self.parameters.takes_any:
            raise self._wrong("an LLM step names its inputs; *args and **kwargs have no names")
        if self.returns is None:
            raise self._wrong("the return type is missing: it says what the model must answer")
        try:
            found = value_type(self.returns)
            self.answering.check(self.parameters.names)
        except DefinitionError as error:
            raise self._wrong(error.text, hint=error.hint) from error
        self._check_prompt(found)
        return found

    def _check_prompt(self, answer: ValueType) -> None:
        prompt, names = self.prompt, self.parameters.names
        if prompt.messages is None and not prompt.text:
            raise self._wrong("the prompt is missing: write it as the docstring")
        for problem in problems(prompt.text, names):
            raise self._wrong(problem.text, line=problem.line, hint=problem.hint)
        for problem in problems(prompt.system, names):
            raise self._wrong(f"system: {_with_line(problem)}", hint=problem.hint)
        for number, (inputs, wanted) in enumerate(prompt.examples, start=1):
            try:
                prompt.check_example(inputs, names)
                written(answer, wanted)
            except DefinitionError as error:
                raise self._wrong(f"example {number}: {error.text}", hint=error.hint) from error

    def _wrong(self, text: str, *, line: int = 0, hint: str | None = None) -> DefinitionError:
        if self.function is None:
            return DefinitionError(f"{self.name}: {text}", hint=hint)
        return wrong(self.function, text, line=line, hint=hint)


class Workflow(Definition[P, R_co]):
    """A function that calls steps. `source` says where it is found again, "" for nowhere.

    `static_plan` gives the plan of a workflow whose graph is declared; of others it is traced. `policy` and
    `limits` (by engine) are what it brings along; a session that has its own goes before them.
    """

    function: Callable[P, Any]
    policy: Policy | None = None
    limits: Mapping[str, EngineLimits] = MappingProxyType({})

    def __init__(
        self,
        name: str,
        function: Callable[P, Any],
        parameters: Parameters,
        *,
        fingerprint: str | None = None,
        source: str = "",
        static_plan: Callable[[], Sketch] | None = None,
    ) -> None:
        super().__init__(name, parameters, function)
        self.source = source
        self.static_plan = static_plan
        self._fingerprint = fingerprint

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The annotation of each input by name, `object` where there is none."""
        types = self.parameters.types.items()
        return {name: object if found is MISSING else found for name, found in types}

    @cached_property
    def spec(self) -> StepSpec:
        return StepSpec(
            self.name, self.function, "workflow", self.fingerprint, returns=self.returns
        )

    @cached_property
    def fingerprint(self) -> str:
        if self._fingerprint is not None:
            return self._fingerprint
        return source_fingerprint(self.function)

    def _outside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise ScopeError(
            f"workflow {self.name!r} was called where no workflow is running. "
            f"Write `await carrara.run({self.name}, ...)`, or `carrara.run_sync` outside asyncio."
        )


async def ask_engines(call: LlmCall, step: StepContext) -> Any:
    """Answer a call with the engines of the run, opened at the first one."""
    from carrara.runtime.attempt_clock import uncounted
    from carrara.runtime.routing.answer import answer
    from carrara.runtime.routing.desk import router_of
    from carrara.workflows.engine_room import EngineRoom

    engines = step.resources.get("engines")
    if isinstance(engines, EngineRoom):  # last, so that nothing is loaded for a call that cannot be
        engines.check(call.engine)
        with uncounted():
            await engines.open_for(call, step.path, router_of(step.resources).policy)
    return await answer(call, step)


def is_worth_asking_again(error: Exception) -> bool:
    return not isinstance(error, RenderError) and is_worth_retrying(error, None)


def _with_line(problem: Problem) -> str:
    return f"line {problem.line}: {problem.text}" if problem.line > 1 else problem.text

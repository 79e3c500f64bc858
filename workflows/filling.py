"""Ready-made LLM steps on given text: `infill` fills its holes, `refine` writes parts of a draft anew.

```python
filled = await carrara.infill(["Dear ", Hole(4), ", your order is ", Hole(2, Choice(("late", "sent"))), "."])
better = await carrara.refine(draft, spans=[(10, 24)], instruction="Make it friendlier.")
```
Their contract comes with their inputs, so they need no definition. In a workflow a call gives a handle, in a session
an awaitable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from carrara.engines.contract import Contract, Hole, Infill, Text
from carrara.engines.request import Completion, Draft, Limits, Message, Sampling, infill_message
from carrara.runtime.run import context
from carrara.runtime.step import StepOptions, StepSpec
from carrara.workflows.calls import Definition
from carrara.workflows.parameters import Parameters
from carrara.workflows.steps import ask_engines, is_worth_asking_again

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Filled:
    """A text whose holes are filled, with the value of each hole and how sure the engine was of it (None: it
    cannot tell)."""

    text: str
    values: tuple[Any, ...]
    confidence: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Refined:
    """A refined draft: its text, its value under the contract, and how sure the engine was of each span."""

    text: str
    value: Any
    confidence: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What a ready-made step asks, and what its result is made of."""

    messages: tuple[Message, ...]
    output: Contract
    limits: Limits
    sampling: Sampling
    engine: str | None
    result: Callable[[Completion], Any]
    draft: Draft | None = None


class Writing(Definition[P, R_co]):
    """A ready-made step. `task` turns its inputs into what is asked."""

    def __init__(self, name: str, function: Callable[P, R_co], task: Callable[..., Task]) -> None:
        super().__init__(name, Parameters.of(function), function)
        self._task = task

    @cached_property
    def spec(self) -> StepSpec:
        options = StepOptions(retry_on=is_worth_asking_again)
        return StepSpec(self.name, self._ask, "llm", f"{self.name}-1", options, self.returns)

    async def _ask(self, *args: Any, **kwargs: Any) -> Any:
        from carrara.runtime.routing.call import LlmCall

        step = context()
        task = self._task(**self.parameters.bind(self.name, args, kwargs))
        taken: list[Completion] = []
        call = LlmCall(
            messages=task.messages,
            output=task.output,
            engine=step.resources.get("only_engine") or task.engine,
            limits=task.limits,
            sampling=task.sampling,
            repair="off",  # what is pinned stays as it is, crooked or not
            describe=False,
            draft=task.draft,
            take=taken.append,
        )
        await ask_engines(call, step)
        return task.result(taken[-1])

    def _outside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        from carrara.workflows.session import ask

        return ask(self, args, kwargs)


def _infill(
    parts: Sequence[str | Hole],
    instruction: str = "",
    engine: str | None = None,
    temperature: float = 0.0,
    seed: int | None = None,
) -> Filled:
    """Fill the holes of a text: `parts` are its strings, which stay as they are, and a `Hole` for each gap.

    Raises:
        CarraraError: no hole, or two without text between them. EngineRefused: no engine fills such holes.
    """
    raise NotImplementedError


def _infill_task(
    parts: Sequence[str | Hole],
    instruction: str,
    engine: str | None,
    temperature: float,
    seed: int | None,
) -> Task:
    contract = Infill(tuple(parts))
    room = sum(hole.max_tokens for hole in contract.holes)

    def result(found: Completion) -> Filled:
        values = contract.parse(found.text)
        fields = found.confidence.fields
        sure = (_least(fields, f"/{number}") for number in range(len(values)))
        return Filled(found.text, tuple(values), tuple(sure))

    return Task(
        (infill_message(contract, instruction),),
        contract,
        Limits(room),
        Sampling(temperature, seed=seed),
        engine,
        result,
    )


def _refine(
    draft: str,
    spans: Sequence[tuple[int, int]] = (),
    noise: float = 0.3,
    instruction: str = "",
    contract: Contract | None = None,
    engine: str | None = None,
    max_tokens: int = 512,
    temperature: float = 0.0,
    seed: int | None = None,
) -> Refined:
    """Write parts of a draft anew: those that `spans` (character offsets) cover, or without any a share `noise` of
    its tokens. Everything else stays as it is, byte for byte; under a `contract` its structure does, too.

    Raises:
        EngineRefused: a span that the draft does not have, or no engine refines such a draft.
    """
    raise NotImplementedError


def _refine_task(
    draft: str,
    spans: Sequence[tuple[int, int]],
    noise: float,
    instruction: str,
    contract: Contract | None,
    engine: str | None,
    max_tokens: int,
    temperature: float,
    seed: int | None,
) -> Task:
    asked = instruction.strip() or "Improve this text."
    return Task(
        (Message("user", f"{asked}\n\n{draft}"),),
        contract or Text(),
        Limits(max_tokens),
        Sampling(temperature, seed=seed),
        engine,
        lambda found: Refined(found.text, found.value, found.confidence.spans),
        Draft(draft, strength=noise, spans=tuple((start, end) for start, end in spans)),
    )


def _least(fields: Any, path: str) -> float | None:
    """The confidence of a hole: of JSON with fields, that of the least sure one."""
    found = [sure for name, sure in fields.items() if name == path or name.startswith(f"{path}/")]
    return min(found, default=None)


infill = Writing("infill", _infill, _infill_task)
refine = Writing("refine", _refine, _refine_task)

__all__ = ["Filled", "Refined", "infill", "refine"]

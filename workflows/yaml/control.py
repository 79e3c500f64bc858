"""What stands around a step: items, turns, conditions. Each takes an action and gives an action.

Control that needs values waits for them in a workflow of the step's own name, so it holds no place of the run and
is run again, for nothing, when a run is resumed; what it calls is taken from the journal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any, Final

from carrara.runtime.events import StepSkipped
from carrara.runtime.handle import Handle
from carrara.runtime.scope import Scope as RunScope
from carrara.runtime.scope import current
from carrara.workflows.calls import Definition
from carrara.workflows.chunks.merge import COMPARED, merge
from carrara.workflows.chunks.split import Chunk
from carrara.workflows.parameters import Parameters
from carrara.workflows.plain import plain
from carrara.workflows.steps import Workflow
from carrara.workflows.yaml.actions import by_name, item_of, parameter_names
from carrara.workflows.yaml.definition import (
    Constant,
    Each,
    Entries,
    Expression,
    Name,
    StepDef,
    Value,
    names_in,
)
from carrara.workflows.yaml.document_base import USUAL
from carrara.workflows.yaml.expressions import evaluate, is_direct, pick

Scope = Mapping[str, Any]
"""Values by name, as templates see them; "inputs" and "steps" are mappings of theirs."""

NONE: Final[frozenset[Name]] = frozenset()
Body = Callable[[Scope], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Action:
    """Something to submit. `names` is what it takes from the scope.

    `eager`: the values may still be handles. `over` maps it over items, given the scope and a limit; None
    where it does not take the item as its first parameter. `body` does the same in the workflow that runs
    already, None for a single step.
    """

    names: frozenset[Name]
    submit: Callable[[Scope], Handle[Any]]
    eager: bool = True
    over: Callable[[Any, Scope, int | None], Handle[list[Any]]] | None = None
    body: Body | None = None


def by_names(
    core: Definition[..., Any], names: frozenset[Name], item: frozenset[Name] = NONE
) -> Action:
    """A step whose parameters are the names themselves, the item of a fan-out first."""

    def over(items: Any, scope: Scope, limit: int | None) -> Handle[list[Any]]:
        return core.map(items, limit=limit, **pick(scope, names - item))

    return Action(
        names | item, lambda scope: core(**pick(scope, names | item)), over=over if item else None
    )


def by_arguments(core: Definition[..., Any], arguments: Mapping[str, Value]) -> Action:
    """An LLM step with parameters of its own, given these arguments."""
    eager = all(map(is_direct, arguments.values()))

    def submit(scope: Scope) -> Handle[Any]:
        return core(**{name: evaluate(value, scope) for name, value in arguments.items()})

    return Action(names_in(Entries(arguments)), submit, eager)


def within(step: StepDef, inner: Workflow[..., Any], arguments: Mapping[str, Value]) -> Action:
    """Another workflow, run as the step's own and given these arguments."""

    async def body(scope: Scope) -> Any:
        result = inner.function(**{name: evaluate(v, scope) for name, v in arguments.items()})
        return await result if isawaitable(result) else result

    return _workflow(step, body, names_in(Entries(arguments)), item_of(step))


def turns(step: StepDef, action: Action) -> Action:
    """The action for one item: only if the item's condition holds, and again until its turns are over."""
    until = step.repeat.until if step.repeat is not None else None
    most = step.repeat.max if step.repeat is not None else 1
    own = {("", step.name), ("steps", step.name), ("", "previous")}

    async def body(scope: Scope) -> Any:
        if step.when_per_item and not evaluate(step.when or Constant(True), scope):
            return _skipped(_refusal(step))
        value = None
        for _ in range(most):
            before = {**scope, "previous": value}
            value = await action.submit(before)
            after = {
                **before,
                step.name: value,
                "steps": {**scope.get("steps", {}), step.name: value},
            }
            if until is not None and evaluate(until, after):
                break
        return value

    asked = names_in(step.when) if step.when_per_item else NONE
    return _workflow(step, body, (action.names | names_in(until) | asked) - own, item_of(step))


def over_items(step: StepDef, each: Each, action: Action) -> Action:
    """The action for each item, side by side."""
    item = item_of(step)
    if action.over is None or not action.eager:
        action = _workflow(step, action.submit, action.names, item)
    over = action.over
    assert over is not None
    return Action(
        (action.names - item) | names_in(each.items),
        lambda scope: over(evaluate(each.items, scope), scope, each.limit),
        eager=is_direct(each.items),
    )


def merged(action: Action, step: StepDef, whole: Callable[[Any], Any]) -> Action:
    """The action for all items, with one value made of theirs by the step's rules; `whole` gives it its type."""
    rules = dict(step.merge or {})
    usual = rules.pop(USUAL, None)

    async def body(scope: Scope) -> Any:
        parts = [plain(part, keep=COMPARED) for part in await action.submit(scope)]
        return whole(merge(parts, rules, usual=usual, chunks=_chunks(step.each, scope)))

    return _workflow(step, body, action.names)


def _chunks(each: Each | None, scope: Scope) -> list[Chunk]:
    """The parts of a text that the step runs over; none where it runs over other items."""
    if each is None or not isinstance(each.items, Expression) or "parts(" not in each.items.text:
        return []
    items = evaluate(each.items, scope)
    try:
        return [Chunk(item["start"], item["end"], item["text"]) for item in items]
    except (TypeError, KeyError):  # made into something else by the expression
        return []


def gated(step: StepDef, action: Action) -> Action:
    """The action if the step's condition holds and nothing that it needs was skipped."""
    condition = None if step.when_per_item else step.when
    if condition is None and not step.needs and action.eager:
        return action

    async def body(scope: Scope) -> Any:
        for name in sorted(step.needs):
            if _value_of(name, scope) is None:
                return _skipped(f"step '{name}' was skipped")
        if condition is not None and not evaluate(condition, scope):
            return _skipped(_refusal(step))
        return await (action.submit if action.body is None else action.body)(scope)

    return _workflow(step, body, action.names | names_in(condition))


def _workflow(
    step: StepDef, body: Body, names: frozenset[Name], item: frozenset[Name] = NONE
) -> Action:
    """`body` as a workflow under the step's name, which is given the values of `names`."""

    taken = parameter_names(names, item)

    async def control(*first: Any, **rest: Any) -> Any:
        return await body(by_name(taken, first, rest))

    made: Workflow[..., Any] = Workflow(
        step.name, control, Parameters.named(*taken), fingerprint=""
    )
    return replace(by_names(made, names, item), body=body)


def _value_of(name: str, scope: Scope) -> Any:
    return scope[name] if name in scope else scope["steps"][name]


def _refusal(step: StepDef) -> str:
    text = step.when.text if isinstance(step.when, Expression) else "false"
    return f"its condition does not hold: {text}"


def _skipped(reason: str) -> None:
    """Tell that the step of the workflow that runs here is skipped."""
    scope = current.get()
    if isinstance(scope, RunScope) and scope.node is not None:
        scope.executor.stream.tell(StepSkipped, scope.node, reason=reason)

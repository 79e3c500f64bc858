"""The plan of a workflow: its steps, edges, contracts, engines and critical path, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrara.engines.contract import Contract
from carrara.engines.errors import EngineRefused
from carrara.workflows.asked import asked_in
from carrara.workflows.calls import Definition
from carrara.workflows.engine_room import DEFAULT_ENGINES
from carrara.workflows.graph import Dag, critical_path
from carrara.workflows.known_engines import named_by, unknown_engines
from carrara.workflows.parameters import MISSING
from carrara.workflows.sketch import PlanEdge, PlanNode, Sketch, folded
from carrara.workflows.steps import Llm
from carrara.workflows.trace import Bounds, trace
from carrara.workflows.types import type_name
from carrara.workflows.unpriced import unpriced

if TYPE_CHECKING:
    from carrara.runtime.routing.policy import Policy


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A node of the sketch, and what will happen there.

    `contract` and `engines` (those that may be asked, in order, and `reason`) are of LLM steps only.
    `seconds` is what the step took in earlier runs, None where none is known. `critical`: it is on the
    longest chain.
    """

    node: PlanNode
    contract: Contract | None = None
    engines: tuple[str, ...] = ()
    reason: str = ""
    seconds: float | None = None
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`critical_path` are ids in order; `length` is its seconds, or its number of steps where no time is
    known (`timed` False). `traced`: found by running the function on samples, not declared. `mistakes`: where the
    function uses a handle like its value, with file and line; what comes after is not in the plan. `unknown` tells of
    engines that the policy or a step names and that nobody knows: neither those that are planned with nor those that
    can be opened by name."""

    name: str
    inputs: Mapping[str, str]
    steps: tuple[PlannedStep, ...]
    edges: tuple[PlanEdge, ...]
    notes: tuple[str, ...]
    critical_path: tuple[str, ...]
    length: float
    timed: bool
    traced: bool
    mistakes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def text(self) -> str:
        """A tree, each step below the one that it waits for longest."""
        from carrara.workflows.plan_text import tree

        return tree(self)

    def mermaid(self) -> str:
        """A Mermaid flowchart."""
        from carrara.workflows.plan_text import mermaid

        return mermaid(self)

    def data(self) -> dict[str, Any]:
        """JSON data."""
        from carrara.workflows.plan_text import data

        return data(self)


def plan(
    workflow: Definition[..., Any],
    inputs: Mapping[str, Any] | None = None,
    *,
    engines: Iterable[str] = DEFAULT_ENGINES,
    policy: Any = None,
    durations: Mapping[str, float] | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> Plan:
    """Plan a workflow without running a step.

    A declared graph is taken as it is; a Python workflow is traced on `inputs`, with samples for those not
    given. `policy` None: the workflow's own, else the default. `durations` are those a journal has learned for this
    workflow (`journal.durations(name)`).

    Raises:
        DefinitionError: the steps form a circle.
    """
    declared = getattr(workflow, "static_plan", None)
    sketch = declared() if declared is not None else folded(trace(workflow, inputs, bounds))
    times = {node.id: _seconds(workflow.name, node, durations or {}) for node in sketch.nodes}
    chain, length = _critical(sketch, times)
    routing = _Routing(tuple(engines), policy or getattr(workflow, "policy", None))
    steps = [
        PlannedStep(node, *routing.of(workflow.name, node), times[node.id], node.id in chain)
        for node in sketch.nodes
    ]
    return Plan(
        workflow.name,
        {n: "any" if t is MISSING else type_name(t) for n, t in workflow.parameters.types.items()},
        tuple(steps),
        tuple(sketch.edges),
        (
            *sketch.notes,
            *_misnamed(sketch, routing.policy, traced=declared is None),
            *unpriced(routing.policy, _stepwise(sketch), getattr(workflow, "servers", None)),
        ),
        tuple(chain),
        length,
        timed=any(found is not None for found in times.values()),
        traced=declared is None,
        mistakes=tuple(sketch.mistakes),
        unknown=tuple(_unknown_engines(workflow, sketch, routing)),
    )


class _Routing:
    """Where the policy would send each LLM step, if `engines` are open and hold its contract. Of the prompt it reads
    the template: what a run puts into it may be worded otherwise."""

    def __init__(self, engines: tuple[str, ...], policy: Any) -> None:
        from carrara.runtime.routing.evidence import Evidence
        from carrara.runtime.routing.facts import Candidate
        from carrara.runtime.routing.policy import AUTO

        self.engines = {name: Candidate(name) for name in engines}
        self.policy = policy or AUTO
        self.evidence = Evidence()

    def of(self, workflow: str, node: PlanNode) -> tuple[Contract | None, tuple[str, ...], str]:
        from carrara.runtime.routing.estimate import estimated_tokens
        from carrara.runtime.routing.facts import CallFacts
        from carrara.runtime.routing.language import language_of
        from carrara.runtime.routing.reasoning import asks_for_reasoning
        from carrara.runtime.routing.router import route

        step = node.step
        if not isinstance(step, Llm):
            return None, (), ""
        wording = step.prompt.wording
        facts = CallFacts(
            f"{workflow}/{node.id}",
            step.contract.kind,
            estimated_tokens(wording),
            step.answering.max_tokens,
            step.options.tags,
            None if step.options.engine == "auto" else step.options.engine,
            step.answering.repair,
            asks_for_reasoning(wording, step.contract),
            language_of(wording) if self.policy.asks_language else "",
        )
        try:
            found = route(facts, self.engines, self.policy, self.evidence)
        except EngineRefused as error:
            return step.contract, (), str(error)
        return step.contract, tuple(engine.name for engine in found.candidates), found.reason


def _misnamed(sketch: Sketch, policy: Policy, *, traced: bool) -> list[str]:
    """Steps and fields that only the policy names. A trace may have missed some."""
    from carrara.runtime.routing.misnamed import misnamed

    unless = " (the plan shows what these inputs lead to; others may lead there)" if traced else ""
    return [
        f"policy {policy.name!r}: {found.message}{unless}"
        for found in misnamed(policy, asked_in(sketch.nodes, whole=True))
    ]


def _unknown_engines(
    workflow: Definition[..., Any], sketch: Sketch, routing: _Routing
) -> list[str]:
    named = (*named_by(routing.policy).items(), *_stepwise(sketch).items())
    return unknown_engines(named, routing.engines, getattr(workflow, "servers", None))


def _stepwise(sketch: Sketch) -> dict[str, str]:
    """Every engine that a step names, and which step, in words."""
    return {
        node.step.options.engine: f" of step {node.name!r}"
        for node in sketch.nodes
        if isinstance(node.step, Llm) and node.step.options.engine not in (None, "auto")
    }


def _seconds(workflow: str, node: PlanNode, durations: Mapping[str, float]) -> float | None:
    """Learned seconds by the node's path, else by its step's name."""
    return durations.get(f"{workflow}/{node.id}", durations.get(node.name))


def _critical(sketch: Sketch, times: Mapping[str, float | None]) -> tuple[list[str], float]:
    """The longest chain at the top, with a sub-workflow as long as the longest chain inside it."""
    known = [found for found in times.values() if found is not None]
    usual = sum(known) / len(known) if known else 1.0
    weights = {name: usual if found is None else found for name, found in times.items()}
    inner: dict[str, list[str]] = {}
    for scope in sorted({node.scope for node in sketch.nodes}, key=lambda s: -s.count("/")):
        if scope:
            inner[scope], weights[scope] = _chain_in(scope, sketch, weights)
    chain, length = _chain_in("", sketch, weights)
    whole: list[str] = []
    todo = list(reversed(chain))
    while todo:
        name = todo.pop()
        whole.append(name)
        todo += reversed(inner.get(name, []))
    return whole, length


def _chain_in(scope: str, sketch: Sketch, weights: Mapping[str, float]) -> tuple[list[str], float]:
    names = tuple(node.id for node in sketch.nodes if node.scope == scope)
    inside = set(names)
    edges = [(e.source, e.target) for e in sketch.edges if {e.source, e.target} <= inside]
    return critical_path(Dag(names, tuple(edges)), weights)

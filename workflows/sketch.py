"""The graph of a workflow before it runs: as a trace found it, or as a pipeline declares it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from carrara.runtime.step import StepKind

EdgeKind = Literal["data", "value"]

LOOP_FROM = 4
"""So many nodes of one step in a chain are shown as one node that repeats."""


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A step in the plan.

    `id` is the path that the node will have in a run, below the workflow's name ("inner/extract"), with
    "#2" for the third of the same; `scope` is the id of the sub-workflow that it runs in, "" at the top.
    `step` is the definition behind it, None where there is none. `fan_out`: once for each item. `when`:
    the condition on which it runs, "" for none. `count` equal nodes stand here; `loop`: one after another.
    `after_value`: the workflow awaited a value before it called this step, so another value may lead
    elsewhere.
    """

    id: str
    name: str
    kind: StepKind
    scope: str = ""
    step: Any = None
    fan_out: bool = False
    when: str = ""
    count: int = 1
    loop: bool = False
    after_value: bool = False


@dataclass(frozen=True, slots=True)
class PlanEdge:
    """"data": the result of `source` is an argument of `target`. "value": the workflow awaited `source`
    before it called `target`."""

    source: str
    target: str
    kind: EdgeKind = "data"


@dataclass(frozen=True, slots=True)
class Sketch:
    """Nodes in the order of their calls, edges, and notes on what the graph does not show."""

    nodes: Sequence[PlanNode]
    edges: Sequence[PlanEdge]
    notes: Sequence[str] = ()


@dataclass(slots=True)
class _Folding:
    """`merged` maps every node to the one that stands for it; `ways` finds equal nodes by their parents."""

    merged: dict[str, str] = field(default_factory=dict)
    standing: dict[str, PlanNode] = field(default_factory=dict)
    ways: dict[Any, str] = field(default_factory=dict)
    chains: dict[str, dict[str, list[str]]] = field(default_factory=dict)


def folded(sketch: Sketch) -> Sketch:
    """The sketch with equal nodes as one: same step, same scope, same parents; and long chains of one step."""
    parents: dict[str, list[PlanEdge]] = {node.id: [] for node in sketch.nodes}
    for edge in sketch.edges:
        parents[edge.target].append(edge)
    state = _Folding()
    for node in sketch.nodes:
        _fold(state, node, parents[node.id])
    place = {name: index for index, name in enumerate(state.standing)}
    edges: dict[tuple[str, str], PlanEdge] = {}
    for edge in sketch.edges:
        source, target = state.merged[edge.source], state.merged[edge.target]
        if place[source] < place[target]:
            known = edges.get((source, target))
            if known is None or known.kind == "value":
                edges[source, target] = PlanEdge(source, target, edge.kind)
    return Sketch(tuple(state.standing.values()), tuple(edges.values()), sketch.notes)


def _fold(state: _Folding, node: PlanNode, parents: Sequence[PlanEdge]) -> None:
    scope = state.merged.get(node.scope, node.scope)
    chain = _chain(state, node, parents)
    way = (scope, node.name, frozenset((state.merged[e.source], e.kind) for e in parents))
    other = state.ways.get(way)
    if len(chain) >= LOOP_FROM:
        _merge(state, node, chain[LOOP_FROM - 1] if len(chain) > LOOP_FROM else chain[-1], loop=True)
    elif other is not None:
        _merge(state, node, other)
    else:
        state.merged[node.id] = node.id
        state.standing[node.id] = replace(node, scope=scope)
        state.ways[way] = node.id


def _merge(state: _Folding, node: PlanNode, into: str, *, loop: bool = False) -> None:
    into = state.merged[into]
    known = state.standing[into]
    state.merged[node.id] = into
    state.standing[into] = replace(known, count=known.count + node.count, loop=known.loop or loop)


def _chain(state: _Folding, node: PlanNode, parents: Sequence[PlanEdge]) -> list[str]:
    """Nodes of the same step and scope that come before this one, one after another."""
    own = (node.scope, node.name)
    chains: dict[Any, list[str]] = {}
    for edge in parents:
        for key, chain in state.chains[edge.source].items():
            if len(chain) > len(chains.get(key, ())):
                chains[key] = chain
    before = chains.get(own, [])
    state.chains[node.id] = {**chains, own: [*before, node.id]}
    return before

"""The graph of a workflow before it runs: as a trace found it, or as a pipeline declares it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """ "data": the result of `source` is an argument of `target`. "value": the workflow awaited `source`
    before it called `target`."""

    source: str
    target: str
    kind: EdgeKind = "data"


@dataclass(frozen=True, slots=True)
class Sketch:
    """Nodes in the order of their calls, edges, notes on what the graph does not show, and mistakes in the workflow
    function that no value would mend."""

    nodes: Sequence[PlanNode]
    edges: Sequence[PlanEdge]
    notes: Sequence[str] = ()
    mistakes: Sequence[str] = ()


def folded(sketch: Sketch) -> Sketch:
    """The sketch with equal nodes as one: the same step in the same scope after the same nodes. A step that
    is called again and again, each call after the last, becomes one node that loops."""
    parents: dict[str, list[PlanEdge]] = {node.id: [] for node in sketch.nodes}
    for edge in sketch.edges:
        parents[edge.target].append(edge)
    loops = _loops(sketch, parents)
    merged: dict[str, str] = {}  # every node to the one that stands for it
    standing: dict[str, PlanNode] = {}
    firsts: dict[Hashable, str] = {}
    for node in sketch.nodes:
        scope = merged.get(node.scope, node.scope)
        after = frozenset((merged[edge.source], edge.kind) for edge in parents[node.id])
        in_loop = (node.scope, node.name) in loops
        first = firsts.setdefault(
            (scope, node.name, node.fan_out, None if in_loop else after), node.id
        )
        merged[node.id] = first
        if first == node.id:
            standing[first] = replace(node, scope=scope)
        else:
            known = standing[first]
            standing[first] = replace(known, count=known.count + node.count, loop=in_loop)
    return Sketch(
        tuple(standing.values()), _edges(sketch, merged, standing), sketch.notes, sketch.mistakes
    )


def _loops(sketch: Sketch, parents: Mapping[str, Sequence[PlanEdge]]) -> set[tuple[str, str]]:
    """The (scope, step) pairs with LOOP_FROM nodes in one chain."""
    found: set[tuple[str, str]] = set()
    lengths: dict[str, dict[tuple[str, str], int]] = {}
    for node in sketch.nodes:
        longest: dict[tuple[str, str], int] = {}
        for edge in parents[node.id]:
            for key, length in lengths[edge.source].items():
                longest[key] = max(length, longest.get(key, 0))
        own = (node.scope, node.name)
        longest[own] = longest.get(own, 0) + 1
        if longest[own] >= LOOP_FROM:
            found.add(own)
        lengths[node.id] = longest
    return found


def _edges(
    sketch: Sketch, merged: Mapping[str, str], standing: Mapping[str, PlanNode]
) -> tuple[PlanEdge, ...]:
    """Edges between the nodes that stand, without those that lead back in a loop."""
    place = {name: index for index, name in enumerate(standing)}
    edges: dict[tuple[str, str], PlanEdge] = {}
    for edge in sketch.edges:
        ends = merged[edge.source], merged[edge.target]
        if place[ends[0]] < place[ends[1]] and (ends not in edges or edge.kind == "data"):
            edges[ends] = PlanEdge(*ends, edge.kind)
    return tuple(edges.values())

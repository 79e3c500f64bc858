"""The graph of a pipeline for `carrara plan`: declared, so nothing needs to be traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from carrara.workflows.calls import Definition
from carrara.workflows.sketch import PlanEdge, PlanNode, Sketch
from carrara.workflows.steps import Workflow
from carrara.workflows.trace import trace
from carrara.workflows.yaml.definition import (
    Ask,
    Call,
    Entries,
    Expression,
    PipelineDef,
    StepDef,
    Use,
    names_in,
)


def sketch_of(pipeline: PipelineDef, cores: Mapping[str, Definition[..., Any]]) -> Sketch:
    """Nodes, edges and notes. `cores` are the definitions behind the steps, by name.

    An edge on which only a condition or a list depends is one of kind "value".
    """
    nodes: list[PlanNode] = []
    edges: list[PlanEdge] = []
    notes: list[str] = []
    for step in pipeline.steps:
        core = cores[step.name]
        nodes.append(_node(step, core))
        edges += _edges(step)
        if isinstance(core, Workflow):
            inner = trace(core) if core.static_plan is None else core.static_plan()
            nodes += (_inside(step.name, node) for node in inner.nodes)
            edges += (
                PlanEdge(f"{step.name}/{e.source}", f"{step.name}/{e.target}", e.kind)
                for e in inner.edges
            )
            notes += (f"{step.name}: {note}" for note in inner.notes)
    return Sketch(nodes, edges, notes)


def _node(step: StepDef, core: Definition[..., Any]) -> PlanNode:
    when = ""
    if step.when is not None:
        when = step.when.text if isinstance(step.when, Expression) else "false"
    repeat = step.repeat
    return PlanNode(
        step.name,
        step.name,
        core.spec.kind,
        step=core,
        fan_out=step.each is not None,
        when=when,
        count=1 if repeat is None else repeat.max,
        loop=repeat is not None,
    )


def _inside(scope: str, node: PlanNode) -> PlanNode:
    return replace(
        node, id=f"{scope}/{node.id}", scope=f"{scope}/{node.scope}" if node.scope else scope
    )


def _edges(step: StepDef) -> Iterator[PlanEdge]:
    match step.does:
        case Ask(prompt, system):
            parts = [names_in(prompt), names_in(system)]
        case Call(arguments=arguments) | Use(arguments=arguments):
            parts = [names_in(Entries(arguments))]
    if step.each is not None:
        parts.append(names_in(step.each.items))
    data = {name for part in parts for _, name in part}
    for name in step.after:
        yield PlanEdge(name, step.name, "data" if name in data else "value")

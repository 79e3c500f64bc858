"""The graph of a pipeline for `carrara plan`: declared, so nothing needs to be traced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from carrara.runtime.step import StepKind
from carrara.workflows.sketch import PlanEdge, PlanNode, Sketch
from carrara.workflows.yaml.actions import llm_step
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
from carrara.workflows.yaml.models import models_of


def sketch_of(pipeline: PipelineDef) -> Sketch:
    """Nodes and edges, those of used pipelines among them. Imports nothing that steps name.

    An edge on which only a condition or the end of turns depends is one of kind "value".
    """
    nodes: list[PlanNode] = []
    edges: list[PlanEdge] = []
    for step in pipeline.steps:
        nodes.append(_node(step, pipeline))
        edges += _edges(step)
        if isinstance(step.does, Use):
            inner = sketch_of(step.does.pipeline)
            nodes += (_inside(step.name, node) for node in inner.nodes)
            edges += (
                PlanEdge(f"{step.name}/{e.source}", f"{step.name}/{e.target}", e.kind)
                for e in inner.edges
            )
    return Sketch(nodes, edges)


def _node(step: StepDef, pipeline: PipelineDef) -> PlanNode:
    kind: StepKind = "workflow"
    made = None
    match step.does:
        case Ask() as ask:
            kind, made = "llm", llm_step(step, ask, models_of(pipeline))
        case Call() as call:
            kind = call.kind
    when = ""
    if step.when is not None:
        when = step.when.text if isinstance(step.when, Expression) else "false"
    return PlanNode(
        step.name,
        step.name,
        kind,
        step=made,
        fan_out=step.each is not None,
        when=when,
        count=1 if step.repeat is None else step.repeat.max,
        loop=step.repeat is not None,
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
    for name in sorted(step.after):
        yield PlanEdge(name, step.name, "data" if name in data else "value")

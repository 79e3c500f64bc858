"""What a workflow asks models for, as its sketch shows it."""

from __future__ import annotations

from collections.abc import Iterable

from carrara.engines.contract import Contract
from carrara.runtime.routing.misnamed import Asked
from carrara.workflows.calls import Definition
from carrara.workflows.sketch import PlanNode
from carrara.workflows.steps import Llm


def asked_in(nodes: Iterable[PlanNode], *, whole: bool) -> Asked:
    """The steps that ask a model among the nodes of a sketch. `whole`: the sketch shows all that can run, but for the
    inside of Python workflows, which it only names."""
    listed = list(nodes)
    scopes = {node.scope for node in listed}
    steps: dict[str, Contract | None] = {}
    others = set()
    for node in listed:
        if isinstance(node.step, Llm):
            steps[node.id] = node.step.contract
        elif node.kind == "llm":
            steps[node.id] = None
        elif node.kind == "workflow" and node.id not in scopes:
            whole = False
        else:
            others.add(node.name)
    return Asked(steps, frozenset(others), whole)


def asked_by(workflow: Definition[..., object]) -> Asked | None:
    """What a workflow with a declared graph asks for; None for one in Python, which shows that only when it runs."""
    declared = getattr(workflow, "static_plan", None)
    return None if declared is None else asked_in(declared().nodes, whole=True)


__all__ = ["asked_by", "asked_in"]

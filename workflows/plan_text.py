"""A plan as a text tree, as a Mermaid flowchart and as JSON data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carrara.engines.contract import (
    Choice,
    Contract,
    Infill,
    Json,
    Outline,
    Regex,
    Table,
    to_data,
)

if TYPE_CHECKING:
    from carrara.workflows.plan import Plan, PlannedStep

_LONGEST = 48


def contract_label(contract: Contract) -> str:
    """A contract in a few words."""
    match contract:
        case Choice(options):
            return f"one of {_short(' | '.join(options))}"
        case Json():
            return f"json {contract.name}"
        case Table():
            return f"table of {_short(', '.join(c.name for c in contract.columns))}"
        case Outline():
            return f"outline, {contract.max_depth} levels"
        case Regex(pattern):
            return f"text like {_short(pattern)}"
        case Infill():
            return f"text with {_count(len(contract.holes), 'hole')}"
        case _:
            return "text"


def tree(plan: Plan) -> str:
    """Every step once, below the step that it waits for longest; the steps of a sub-workflow below it."""
    places = _Places(plan)
    inputs = ", ".join(f"{name}: {kind}" for name, kind in plan.inputs.items())
    lines = [f"{plan.name}({inputs})"]
    places.branch("", "", lines)
    lines.append("")
    if plan.steps:
        unit = f"{plan.length:.2f} s" if plan.timed else _count(round(plan.length), "step")
        lines.append(f"* critical path, {unit}: {_chain(plan)}")
    else:
        lines.append("no steps")
    if any(step.node.after_value for step in plan.steps):
        lines.append(
            "? called after the workflow looked at a value: another value may lead elsewhere"
        )
    lines += [f"note: {note}" for note in plan.notes]
    lines += [f"mistake: {mistake}; what comes after is not shown" for mistake in plan.mistakes]
    lines += [f"mistake: {unknown}" for unknown in plan.unknown]
    return "\n".join(lines)


def _chain(plan: Plan, scope: str = "") -> str:
    """The critical path in a scope: steps by name, a sub-workflow with its own chain in brackets."""
    shown = []
    for name in plan.critical_path:
        outside, _, own = name.rpartition("/")
        if outside == scope:
            inside = _chain(plan, name)
            shown.append(f"{own} ({inside})" if inside else own)
    return " -> ".join(shown)


def mermaid(plan: Plan) -> str:
    """Solid arrows carry values, dotted ones mean that the workflow waited."""
    ids = {step.node.id: f"n{number}" for number, step in enumerate(plan.steps)}
    lines = ["flowchart TD"]
    _mermaid_scope(plan, "", ids, lines, "  ")
    arrows = {"data": "-->", "value": "-.->"}
    lines += [f"  {ids[e.source]} {arrows[e.kind]} {ids[e.target]}" for e in plan.edges]
    critical = [ids[name] for name in plan.critical_path if name in ids]
    if critical:
        lines.append("  classDef critical stroke-width:3px")
        lines.append(f"  class {','.join(critical)} critical")
    return "\n".join(lines)


def data(plan: Plan) -> dict[str, Any]:
    return {
        "workflow": plan.name,
        "inputs": dict(plan.inputs),
        "nodes": [_node_data(step) for step in plan.steps],
        "edges": [{"from": e.source, "to": e.target, "kind": e.kind} for e in plan.edges],
        "critical_path": list(plan.critical_path),
        "length": plan.length,
        "length_unit": "seconds" if plan.timed else "steps",
        "traced": plan.traced,
        "notes": list(plan.notes),
        "mistakes": [*plan.mistakes, *plan.unknown],
    }


class _Places:
    """Which step stands below which: below its last parent by depth, or at the top of its scope."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parents: dict[str, list[str]] = {step.node.id: [] for step in plan.steps}
        for edge in plan.edges:
            self.parents[edge.target].append(edge.source)
        self.depth: dict[str, int] = {}
        self.below: dict[tuple[str, str], list[PlannedStep]] = {}
        self.main: dict[str, str] = {}
        for step in self._in_order():
            name, scope = step.node.id, step.node.scope
            own = self.parents[name]
            self.depth[name] = 1 + max((self.depth[p] for p in own), default=0)
            self.main[name] = max(own, key=lambda p: self.depth[p], default="")
            self.below.setdefault((scope, self.main[name]), []).append(step)

    def branch(self, scope: str, parent: str, lines: list[str], indent: str = "") -> None:
        inner = self.below.get((parent, ""), []) if parent else []
        steps = [*inner, *self.below.get((scope, parent), [])]
        for number, step in enumerate(steps):
            last = number == len(steps) - 1
            lines.append(f"{indent}{'└─' if last else '├─'} {self._line(step)}")
            self.branch(step.node.scope, step.node.id, lines, indent + ("   " if last else "│  "))

    def _line(self, step: PlannedStep) -> str:
        node = step.node
        marks = ("*" if step.critical else "") + ("?" if node.after_value else "")
        others = [p for p in self.parents[node.id] if p != self.main[node.id]]
        parts = [_title(step), _kind(step)]
        if step.engines:
            parts.append(f"[{', then '.join(step.engines)}: {step.reason}]")
        elif step.reason:
            parts.append(f"[{step.reason}]")
        if step.seconds is not None:
            parts.append(f"{step.seconds:.2f} s")
        if node.when:
            parts.append(f"when {node.when}")
        if others:
            parts.append(f"also after {', '.join(others)}")
        return "  ".join(part for part in (*parts, marks) if part)

    def _in_order(self) -> list[PlannedStep]:
        from carrara.workflows.graph import Dag

        steps = {step.node.id: step for step in self.plan.steps}
        edges = tuple((edge.source, edge.target) for edge in self.plan.edges)
        return [steps[name] for name in Dag(tuple(steps), edges).order()]


def _title(step: PlannedStep) -> str:
    node = step.node
    times = " for each" if node.fan_out else ""
    if node.count > 1:
        times += f" x{node.count} in a loop" if node.loop else f" x{node.count}"
    return node.name + times


def _kind(step: PlannedStep) -> str:
    if step.contract is None:
        return step.node.kind if step.node.kind != "python" else "python"
    return f"llm -> {contract_label(step.contract)}"


def _mermaid_scope(
    plan: Plan, scope: str, ids: Mapping[str, str], lines: list[str], indent: str
) -> None:
    for step in plan.steps:
        if step.node.scope != scope:
            continue
        name = step.node.id
        label = _escaped(f"{_title(step)}<br/>{_kind(step)}")
        if any(other.node.scope == name for other in plan.steps):
            lines.append(f'{indent}subgraph {ids[name]}["{_escaped(_title(step))}"]')
            _mermaid_scope(plan, name, ids, lines, indent + "  ")
            lines.append(f"{indent}end")
        else:
            lines.append(f'{indent}{ids[name]}["{label}"]')


def _escaped(text: str) -> str:
    plain = (
        text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    )
    return plain.replace("&lt;br/&gt;", "<br/>")


def _node_data(step: PlannedStep) -> dict[str, Any]:
    node = step.node
    return {
        "id": node.id,
        "name": node.name,
        "kind": node.kind,
        "scope": node.scope,
        "fan_out": node.fan_out,
        "when": node.when,
        "count": node.count,
        "loop": node.loop,
        "after_value": node.after_value,
        "contract": None if step.contract is None else to_data(step.contract),
        "engines": list(step.engines),
        "reason": step.reason,
        "seconds": step.seconds,
        "critical": step.critical,
    }


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

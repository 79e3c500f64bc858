"""The order of steps: each after all it refers to; a circle is a mistake that is named."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from carrara.workflows.graph import find_cycle
from carrara.workflows.yaml.definition import StepDef
from carrara.workflows.yaml.notes import Notes


def in_order(steps: Iterable[StepDef], notes: Notes) -> tuple[StepDef, ...]:
    """The steps, each after those it refers to, otherwise as they stand; circles are noted.

    `needs` is narrowed to the steps that may be skipped at all, because of their own `when` or because
    they need such a step in turn.
    """
    by_name = {step.name: step for step in steps}
    skippable: set[str] = set()
    ordered = []
    for name in _sorted({step.name: step.after for step in by_name.values()}, notes):
        step = by_name[name]
        step = replace(step, needs=step.needs & skippable)
        if step.needs or (step.when is not None and not step.when_per_item):
            skippable.add(name)
        ordered.append(step)
    return tuple(ordered)


def _sorted(edges: Mapping[str, frozenset[str]], notes: Notes) -> list[str]:
    rest = {name: [n for n in edges if n in after] for name, after in edges.items()}
    while (found := find_cycle(rest)) is not None:
        circle = _from_first(found[:-1], list(edges))
        path = " -> ".join([*circle, circle[0]])
        notes.at_key(("steps", circle[0]), f"steps wait for each other in a circle: {path}")
        rest[circle[0]] = []
    return list(graphlib.TopologicalSorter(rest).static_order())


def _from_first(circle: list[str], order: list[str]) -> list[str]:
    """The circle, beginning with the step that stands first in the file; each feeds the next."""
    start = min(range(len(circle)), key=lambda i: order.index(circle[i]))
    return [*circle[start:], *circle[:start]]

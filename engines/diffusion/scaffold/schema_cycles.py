"""Which schemas contain themselves: the references that lead back to where they point.

Schemas that contain each other form a cycle, and none of them can be written out in another without an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from carrara.engines.diffusion.scaffold.schema_merge import CannotHold


def cycles(root: Any, target: Callable[[str], Any]) -> dict[str, int]:
    """The references that lead back to themselves, by `$ref`, with a number that those of one cycle share.

    `target` gives what a `$ref` points at, or raises CannotHold.
    """
    leads_to: dict[str, set[str]] = {}
    waiting = list(_references(root))
    while waiting:
        ref = waiting.pop()
        if ref not in leads_to:
            leads_to[ref] = set(_references_of(ref, target))
            waiting += leads_to[ref]
    return {
        ref: number
        for number, group in enumerate(_groups(leads_to))
        for ref in group
        if len(group) > 1 or ref in leads_to[ref]
    }


def _references_of(ref: str, target: Callable[[str], Any]) -> Iterator[str]:
    try:
        return _references(target(ref))
    except CannotHold:  # whoever follows it is told
        return iter(())


def _references(schema: Any) -> Iterator[str]:
    """Each `$ref` anywhere in a schema."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(ref := part.get("$ref"), str):
                yield ref
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _groups(leads_to: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of a graph: against the arrows, from those that are finished last on."""
    comes_from: dict[str, set[str]] = {ref: set() for ref in leads_to}
    for ref, others in leads_to.items():
        for other in others:
            comes_from[other].add(ref)
    finished: list[str] = []
    seen: set[str] = set()
    for ref in leads_to:
        finished += _reached(ref, leads_to, seen)
    seen = set()
    return [group for ref in reversed(finished) if (group := _reached(ref, comes_from, seen))]


def _reached(start: str, leads_to: dict[str, set[str]], seen: set[str]) -> list[str]:
    """What is reached from `start` and was not `seen` yet, each after all that is reached from it."""
    if start in seen:
        return []
    seen.add(start)
    found: list[str] = []
    path = [(start, iter(leads_to[start]))]
    while path:
        ref, others = path[-1]
        further = next((other for other in others if other not in seen), None)
        if further is None:
            found.append(ref)
            path.pop()
        else:
            seen.add(further)
            path.append((further, iter(leads_to[further])))
    return found

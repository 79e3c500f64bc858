"""What contains itself: the groups of things that lead back to each other.

Schemas that contain each other form a cycle, and none of them can be written out in another without an end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def cycles(starts: Iterable[T], leads_to: Callable[[T], Iterable[T]]) -> dict[T, int]:
    """Those that lead back to themselves, of all that `starts` lead to, with a number that those of one cycle share."""
    ways: dict[T, list[T]] = {}
    waiting = list(starts)
    while waiting:
        one = waiting.pop()
        if one not in ways:
            ways[one] = list(dict.fromkeys(leads_to(one)))
            waiting += ways[one]
    return {
        one: number
        for number, group in enumerate(_groups(ways))
        for one in group
        if len(group) > 1 or one in ways[one]
    }


def _groups(ways: dict[T, list[T]]) -> list[list[T]]:
    """The strongly connected components of a graph: against the arrows, from those that are finished last on."""
    comes_from: dict[T, list[T]] = {ref: [] for ref in ways}
    for ref, others in ways.items():
        for other in others:
            comes_from[other].append(ref)
    finished: list[T] = []
    seen: set[T] = set()
    for ref in ways:
        finished += _reached(ref, ways, seen)
    seen = set()
    return [group for ref in reversed(finished) if (group := _reached(ref, comes_from, seen))]


def _reached(start: T, ways: dict[T, list[T]], seen: set[T]) -> list[T]:
    """What is reached from `start` and was not `seen` yet, each after all that is reached from it."""
    if start in seen:
        return []
    seen.add(start)
    found: list[T] = []
    path = [(start, iter(ways[start]))]
    while path:
        ref, others = path[-1]
        further = next((other for other in others if other not in seen), None)
        if further is None:
            found.append(ref)
            path.pop()
        else:
            seen.add(further)
            path.append((further, iter(ways[further])))
    return found

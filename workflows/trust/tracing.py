"""From which answer, and from which part of it, each field of a row came: by the values themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SPEAKS = 4
"""A text of so many characters may be told by its value alone, under whatever name it stands."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Answer number `answer`, at JSON pointer `at` in it."""

    answer: int
    at: str


def trace(row: Any, answers: Sequence[Any], kinds: Sequence[str] = ()) -> dict[str, Origin]:
    """The origin of each leaf of `row` by JSON pointer; a leaf that no answer holds has none.

    An answer, or else each part of it, is looked for in the row. The largest equal part decides, of equal ones that
    of the later answer; but answers of one of the `kinds` are those about the parts of one thing in order, whose first
    equal part is the first that stands in the row, the second the second. A single short value counts only under the
    name that it has in its answer, or as a whole answer.
    """
    spots: dict[str, list[str]] = {}
    inside: dict[str, list[str]] = {}
    for at, node in nodes(row):
        spots.setdefault(_written(node), []).append(at)
        if is_leaf(node):
            for above in _above(at):
                inside.setdefault(above, []).append(at)
    claims: dict[tuple[str | int, int, str, int], tuple[list[str], list[Origin]]] = {}
    for number, answer in enumerate(answers):
        kind = kinds[number] if kinds else number
        for inner, found, size in _matches(answer, "", spots):
            claim = claims.setdefault((kind, size, found[0], len(found)), (found, []))
            claim[1].append(Origin(number, inner))
    best: dict[str, tuple[int, int, Origin]] = {}
    for (_, size, _, _), (found, origins) in claims.items():
        for number, spot in enumerate(found):
            origin = origins[min(number, len(origins) - 1)]
            for leaf in inside[spot]:
                whole = Origin(origin.answer, origin.at + leaf[len(spot) :])
                if leaf not in best or (size, origin.answer) >= best[leaf][:2]:
                    best[leaf] = (size, origin.answer, whole)
    return {leaf: best[leaf][2] for leaf in inside[""] if leaf in best}


def nodes(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """All values in JSON data with their pointers, outer ones first."""
    yield at, value
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from nodes(part, f"{at}/{escaped(key)}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from nodes(part, f"{at}/{index}")


def is_leaf(value: Any) -> bool:
    """Whether there is nothing inside: no object or list, or an empty one."""
    return not (isinstance(value, Mapping | list) and value)


def escaped(key: object) -> str:
    """A key as a part of a JSON pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")


def _above(at: str) -> Iterator[str]:
    """The pointer itself and those of all that it lies in."""
    yield at
    while at:
        at = at.rpartition("/")[0]
        yield at


def _matches(
    node: Any, inner: str, spots: Mapping[str, list[str]]
) -> Iterator[tuple[str, list[str], int]]:
    """Where `node`, or else its parts, stand in the row: pointer in the answer, those in the row, and size."""
    written = _written(node)
    found = [] if is_leaf(node) else spots.get(written, [])
    if is_leaf(node):
        found = _of_leaf(node, inner, spots.get(written, []))
    if found:
        yield inner, found, len(written)
    elif isinstance(node, Mapping):
        for key, part in node.items():
            yield from _matches(part, f"{inner}/{escaped(key)}", spots)
    elif isinstance(node, list):
        for index, part in enumerate(node):
            yield from _matches(part, f"{inner}/{index}", spots)


def _of_leaf(node: Any, inner: str, spots: list[str]) -> list[str]:
    named = [spot for spot in spots if inner == "" or _name(spot) == _name(inner)]
    if named:
        return named
    speaks = isinstance(node, str) and len(node) >= _SPEAKS
    return spots if speaks and len(spots) == 1 else []


def _name(at: str) -> str:
    """The last key in a pointer that is no index."""
    return next((part for part in reversed(at.split("/")) if not part.isdigit()), "")


def _written(node: Any) -> str:
    return json.dumps(node, sort_keys=True, ensure_ascii=False)


__all__ = ["Origin", "escaped", "is_leaf", "nodes", "trace"]

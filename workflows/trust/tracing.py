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


def trace(row: Any, answers: Sequence[Any]) -> dict[str, Origin]:
    """The origin of each leaf of `row` by JSON pointer; a leaf that no answer holds has none.

    An answer, or else each part of it, is looked for in the row. The largest equal part decides, of equal ones that
    of the later answer. A single short value counts only under the name that it has in its answer, or as a whole
    answer.
    """
    spots: dict[str, list[str]] = {}
    for at, node in nodes(row):
        spots.setdefault(_written(node), []).append(at)
    leaves = [at for at, node in nodes(row) if is_leaf(node)]
    best: dict[str, tuple[int, int, Origin]] = {}
    for number, answer in enumerate(answers):
        for inner, spot, size in _matches(answer, "", spots):
            for leaf in leaves:
                if leaf == spot or leaf.startswith(f"{spot}/"):
                    claim = (size, number, Origin(number, inner + leaf[len(spot) :]))
                    if leaf not in best or claim[:2] >= best[leaf][:2]:
                        best[leaf] = claim
    return {leaf: best[leaf][2] for leaf in leaves if leaf in best}


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


def _matches(
    node: Any, inner: str, spots: Mapping[str, list[str]]
) -> Iterator[tuple[str, str, int]]:
    """Where `node`, or else its parts, stand in the row: pointer in the answer, in the row, and size."""
    written = _written(node)
    found = [spot for spot in spots.get(written, ()) if not is_leaf(node)]
    if is_leaf(node):
        found = _of_leaf(node, inner, spots.get(written, []))
    for spot in found:
        yield inner, spot, len(written)
    if not found and isinstance(node, Mapping):
        for key, part in node.items():
            yield from _matches(part, f"{inner}/{escaped(key)}", spots)
    elif not found and isinstance(node, list):
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

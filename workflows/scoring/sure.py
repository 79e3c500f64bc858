"""Confidence part by part: which parts of an answer an engine was sure of, and which of them are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from carrara.workflows.scoring.pairs import Pair, Path, flatten
from carrara.workflows.scoring.places import Places
from carrara.workflows.scoring.score import Scoring, pairs_of

Sure = tuple[str, float, bool]
"""The place of a part, the confidence in it, and whether it is right."""


def judged_parts(
    scoring: Scoring, gold: Any, answer: Any, fields: Mapping[str, float], places: Places
) -> Iterator[Sure]:
    """Judge the parts of JSON data that `fields` name by JSON pointer.

    A part is right if the pairs below its path are those of the gold; in a list without order, if the gold has
    its pairs at all. Pointers that lead nowhere are left out.
    """
    if scoring.rule != "fields":
        return
    wanted = pairs_of(scoring, gold)
    for pointer, sure in fields.items():
        found = part_at(answer, pointer, scoring)
        if found is not None:
            path, value, ordered = found
            yield places.of(path), sure, _is_right(wanted, path, value, scoring, ordered)


def _is_right(
    wanted: Counter[Pair], path: Path, value: Any, scoring: Scoring, ordered: bool
) -> bool:
    given = Counter(flatten(value, scoring.unordered, path=path, ordered=ordered))
    if None in path:
        return bool(given) and given <= wanted
    below = Counter({pair: n for pair, n in wanted.items() if pair[0][: len(path)] == path})
    return given == below


def part_at(answer: Any, pointer: str, scoring: Scoring) -> tuple[Path, Any, bool] | None:
    """The path that a pointer goes in the answer, what is there, and whether its lists are ordered."""
    path: Path = ()
    ordered = True
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(answer, Mapping) and key in answer:
            ordered = ordered and key not in scoring.unordered
            path, answer = (*path, key), answer[key]
        elif isinstance(answer, list) and key.isdecimal() and int(key) < len(answer):
            path, answer = (*path, int(key) if ordered else None), answer[int(key)]
        else:
            return None
    return path, answer, ordered

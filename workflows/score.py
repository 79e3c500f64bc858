"""How an answer is scored against gold: one rule per kind of task.

The rule for objects: flatten gold and answer to (path, value) pairs, drop list positions where the order
means nothing, lower-case, squeeze white space, drop nulls and empty strings; micro F1 over all pairs of a
data set, and exact match over the whole object. An answer that did not parse scores 0.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UNORDERED_KEYS = frozenset({"genres", "cast", "slots"})
"""Keys whose lists mean the same in any order, in every task; NER tasks have only such lists."""

KINDS = ("extract", "classify", "qa", "reason", "format")
"""The kinds of tasks that can be scored."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Score:
    """The marks of one answer. `hits`, `gold` and `given` count pairs for micro F1; for a single value
    they are 1 each. `exact` says that the whole answer is right, `parsed` that there was one at all."""

    exact: bool
    parsed: bool
    hits: int
    gold: int
    given: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The marks of a data set: shares in [0, 1] over `count` rows."""

    count: int
    exact_match: float
    field_f1: float
    parse_rate: float


def score(kind: str, gold: Any, answer: Any, *, task: str = "", parsed: bool = True) -> Score:
    """Score one answer. `kind` is extract, classify, qa, reason or format, as in the labelled data.

    Raises:
        ValueError: unknown kind.
    """
    if not parsed:
        return Score(False, False, 0, max(1, _size(kind, gold, task)), 0)
    match kind:
        case "extract":
            return _pair_score(_pairs(gold, task), _pairs(_plain(answer), task))
        case "classify":
            return _single(squeeze(gold) == squeeze(answer))
        case "qa":
            return _single(_answers(gold) == _answers(answer))
        case "reason":
            return _reason(gold, answer, task)
        case "format":
            return _format(str(gold), answer)
        case _:
            raise ValueError(f"unknown kind of task {kind!r}")


def total(scores: Iterable[Score]) -> Totals:
    """Micro-averaged marks; all zero for no rows."""
    rows = list(scores)
    count = len(rows)
    if not count:
        return Totals(0, 0.0, 0.0, 0.0)
    hits, gold, given = (sum(getattr(s, part) for s in rows) for part in ("hits", "gold", "given"))
    f1 = 2 * hits / (gold + given) if gold + given else 1.0
    exact = sum(s.exact for s in rows) / count
    return Totals(count, exact, f1, sum(s.parsed for s in rows) / count)


def squeeze(value: Any) -> str:
    """Lower case, runs of white space as one space, none at the ends."""
    return re.sub(r"\s+", " ", str(value)).strip().lower()


def flatten(value: Any, *, ordered: bool = True, path: str = "") -> Iterator[Pair]:
    """(path, value) pairs of the leaves; nulls and empty strings are dropped.

    List positions stand in the path as `[i]` when `ordered`, else as `[]`; the lists under
    UNORDERED_KEYS are never ordered.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            inner = ordered and key not in UNORDERED_KEYS
            yield from flatten(part, ordered=inner, path=f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            place = f"{path}[{i}]" if ordered else f"{path}[]"
            yield from flatten(part, ordered=ordered, path=place)
    elif value is not None and squeeze(value):
        yield path, squeeze(value)


def _pairs(value: Any, task: str) -> Counter[Pair]:
    return Counter(flatten(value, ordered=not task.startswith("ner_")))


def _pair_score(gold: Counter[Pair], given: Counter[Pair]) -> Score:
    hits = sum((gold & given).values())
    return Score(gold == given, True, hits, gold.total(), given.total())


def _single(right: bool) -> Score:
    return Score(right, True, int(right), 1, 1)


def _size(kind: str, gold: Any, task: str) -> int:
    if kind == "extract":
        return _pairs(gold, task).total()
    return len(_cells(str(gold))) if kind == "format" else 1


def _plain(answer: Any) -> Any:
    """An answer as JSON data: models are dumped, JSON texts are read."""
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json")
    if isinstance(answer, str):
        try:
            return json.loads(answer)
        except ValueError:
            return answer
    return answer


def _answers(value: Any) -> frozenset[str]:
    """The denotation of a table question: a set of answers, "; " between several, numbers by value."""
    parts = value if isinstance(value, list | tuple) else str(value).split("; ")
    return frozenset(_number_or_text(part) for part in parts)


def _number_or_text(value: Any) -> str:
    text = squeeze(value)
    try:
        return f"{float(text.replace(',', '')):g}"
    except ValueError:
        return text


def _reason(gold: Any, answer: Any, task: str) -> Score:
    if isinstance(gold, list):
        return _pair_score(_pairs(gold, task), _pairs(_plain(answer), task))
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", str(answer))
    if re.fullmatch(r"-?[\d,.]+", str(gold)):
        return _single(bool(numbers) and _number_or_text(numbers[-1]) == _number_or_text(gold))
    return _single(squeeze(answer) == squeeze(gold))


def _format(gold: str, answer: Any) -> Score:
    """Cells of the text by line and column; a table's delimiter row and padding do not count."""
    wanted, given = Counter(_cells(gold)), Counter(_cells(str(answer)))
    hits = sum((wanted & given).values())
    return Score(wanted == given, True, hits, wanted.total(), given.total())


def _cells(text: str) -> list[Pair]:
    parsed = _as_json(text)
    if parsed is not None:
        return list(flatten(parsed))
    found: list[Pair] = []
    rows = (line for line in text.strip().splitlines() if not re.fullmatch(r"[\s|:\-]+", line))
    for y, line in enumerate(rows):
        bare = line.strip().removeprefix("|").removesuffix("|")
        cells = re.split(r"(?<!\\)\|", bare) if "|" in line else [line.rstrip()]
        found += [(f"[{y}][{x}]", squeeze(cell)) for x, cell in enumerate(cells)]
    return found


def _as_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None

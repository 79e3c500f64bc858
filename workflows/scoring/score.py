"""How an answer is scored against gold: one rule per kind of answer.

The rule for JSON data: flatten gold and answer to (path, text) pairs, drop list positions where the order means
nothing, lower-case, squeeze white space, drop nulls and empty texts; micro F1 over all pairs of a data set, and exact
match over the whole answer. An answer that did not parse scores 0.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from carrara.workflows.plain import plain
from carrara.workflows.scoring import texts
from carrara.workflows.scoring.pairs import Pair, flatten, squeeze
from carrara.workflows.scoring.places import Places

Rule = Literal["fields", "label", "number", "answers", "cells", "form"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How the answers of a task are scored.

    fields: JSON data, pair by pair; lists below the keys in `unordered` mean the same in any order.
    label: the whole answer, but for case and white space; true and false are yes and no, null is none.
    number: the last number in the answer. answers: a set of short answers, "; " between them.
    cells: the cells of a table, list, CSV or JSON text. form: the same, and the text must be well-formed too.
    """

    rule: Rule
    unordered: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(
                f"there is no scoring rule {self.rule!r}; there are: {', '.join(RULES)}"
            )


@dataclass(frozen=True, slots=True)
class Score:
    """The marks of one answer. `hits`, `gold` and `given` count pairs for micro F1; for a single value they are 1
    each. `exact` says that the whole answer is right, `parsed` that there was one at all. `fields` are the marks
    of each place in the data; only for the rule "fields"."""

    exact: bool
    parsed: bool
    hits: int
    gold: int
    given: int
    fields: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """The marks of a data set: shares in [0, 1] over `count` rows."""

    count: int
    exact_match: float
    field_f1: float
    parse_rate: float


def score(
    scoring: Scoring, gold: Any, answer: Any, *, parsed: bool = True, places: Places | None = None
) -> Score:
    """Score one answer; `parsed` False: there is none. `places` name the fields."""
    match scoring.rule:
        case "fields":
            return _fields(scoring, gold, answer if parsed else None, parsed, places or Places())
        case "cells" | "form":
            return _cells(scoring.rule, str(gold), answer, parsed)
    if not parsed:
        return Score(False, False, 0, 1, 0)
    match scoring.rule:
        case "label":
            return _single(label(gold) == label(answer))
        case "answers":
            return _single(texts.answers(gold) == texts.answers(answer))
        case "number":
            found = texts.last_number(answer)
            return _single(found == texts.by_value(gold), parsed=found is not None)


def total(scores: Iterable[Score]) -> Totals:
    """Micro-averaged marks; all zero for no rows."""
    rows = list(scores)
    count = len(rows)
    if not count:
        return Totals(0, 0.0, 0.0, 0.0)
    exact = sum(s.exact for s in rows) / count
    return Totals(count, exact, _f1(rows), sum(s.parsed for s in rows) / count)


def by_field(scores: Sequence[Score]) -> dict[str, Totals]:
    """The totals of each place in the data. A row without a field in gold and answer has it right; one that did
    not parse has none right."""
    absent = {parsed: Score(parsed, parsed, 0, 0, 0) for parsed in (True, False)}
    names = dict.fromkeys(name for one in scores for name in one.fields)
    return {name: total(s.fields.get(name, absent[s.parsed]) for s in scores) for name in names}


def label(value: Any) -> str:
    """A closed answer as a word."""
    words = {True: "yes", False: "no"}
    if value is None:
        return "none"
    return words[value] if isinstance(value, bool) else squeeze(value)


def pairs_of(scoring: Scoring, value: Any) -> Counter[Pair]:
    """The pairs of JSON data, or of a text that holds it."""
    return Counter(flatten(data_of(value), scoring.unordered))


def _fields(scoring: Scoring, gold: Any, answer: Any, parsed: bool, places: Places) -> Score:
    wanted, given = pairs_of(scoring, gold), pairs_of(scoring, answer)
    split_wanted, split_given = _split(wanted, places), _split(given, places)
    fields = {
        name: _marks(split_wanted.get(name, Counter()), split_given.get(name, Counter()), parsed)
        for name in dict.fromkeys((*split_wanted, *split_given))
    }
    return _marks(wanted, given, parsed, fields)


def _split(pairs: Counter[Pair], places: Places) -> dict[str, Counter[Pair]]:
    found: dict[str, Counter[Pair]] = {}
    for pair, count in pairs.items():
        found.setdefault(places.of(pair[0]), Counter())[pair] += count
    return found


def _cells(rule: Rule, gold: str, answer: Any, parsed: bool) -> Score:
    form = texts.form_of(gold)
    text = str(answer) if parsed else ""
    if rule == "form":
        parsed = parsed and texts.parses(text, form)
    return _marks(Counter(texts.cells(gold, form)), Counter(texts.cells(text, form)), parsed)


def _marks(
    wanted: Counter[Pair],
    given: Counter[Pair],
    parsed: bool,
    fields: Mapping[str, Score] | None = None,
) -> Score:
    hits = sum((wanted & given).values())
    exact = parsed and wanted == given
    return Score(exact, parsed, hits, wanted.total(), given.total(), fields or {})


def _single(right: bool, parsed: bool = True) -> Score:
    return Score(right and parsed, parsed, int(right and parsed), 1, 1)


def _f1(rows: Sequence[Score]) -> float:
    hits, gold, given = (sum(getattr(s, part) for s in rows) for part in ("hits", "gold", "given"))
    return 2 * hits / (gold + given) if gold + given else 1.0


def data_of(value: Any) -> Any:
    """An answer as JSON data: models are dumped, JSON texts are read."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return plain(value)


__all__ = [
    "RULES",
    "Rule",
    "Score",
    "Scoring",
    "Totals",
    "by_field",
    "data_of",
    "label",
    "pairs_of",
    "score",
    "total",
]

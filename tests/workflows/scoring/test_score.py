"""The scoring rules, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.scoring.pairs import flatten
from carrara.workflows.scoring.places import Places
from carrara.workflows.scoring.score import Score, Scoring, by_field, score, total

FIELDS = Scoring("fields")
VALUES = st.recursive(
    st.none() | st.integers(0, 3) | st.text("ab ", max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from("xyz"), parts),
    max_leaves=8,
)
TABLE = "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_flattening_keeps_positions_and_drops_nulls() -> None:
    value = {"title": " Fish  Pie ", "time": None, "steps": ["Boil", "Bake"], "note": " "}
    assert set(flatten(value)) == {
        (("title",), "fish pie"),
        (("steps", 0), "boil"),
        (("steps", 1), "bake"),
    }


def test_lists_below_unordered_keys_have_no_order() -> None:
    film = {"genres": ["drama", "silent"]}
    swapped = {"genres": ["silent", "drama"]}
    assert score(Scoring("fields", frozenset({"genres"})), film, swapped).exact
    assert not score(FIELDS, film, swapped).exact


def test_a_pair_given_twice_counts_once_against_one_gold_pair() -> None:
    marks = score(
        Scoring("fields", frozenset({"cast"})), {"cast": ["Ann"]}, {"cast": ["Ann", "Ann"]}
    )
    assert (marks.hits, marks.gold, marks.given, marks.exact) == (1, 1, 2, False)


@pytest.mark.parametrize(
    ("rule", "gold", "answer", "right"),
    [
        ("label", "work", " Work", True),
        ("label", "work", "home", False),
        ("label", "yes", True, True),
        ("label", False, "no", True),
        ("label", None, "none", True),
        ("label", 3, 3.0, True),
        ("answers", ["6"], "6.0", True),
        ("answers", ["Bob", "Ann"], "ann; bob", True),
        ("answers", ["1,200"], "1200", True),
        ("answers", ["6"], "7", False),
        ("number", "1,200", "3 * 400 = 1200\nAnswer: 1200.0", True),
        ("number", "3", "Answer: 30", False),
        ("number", "3", "no idea", False),
        ("cells", TABLE, "|a|b|\n|-|-|\n|1|2|", True),
        ("cells", TABLE, "| a | b |\n| --- | --- |\n| 1 | 3 |", False),
        ("cells", 'a,b\n1,"2,5"', 'a,b\n1,"2,5"', True),
        ("cells", '{"a": 1}', '{ "a":1 }', True),
        ("cells", '{"a": 1}', '{"a": 2}', False),
        ("cells", "- a\n  - b", "- a\n  - b", True),
        ("cells", "- a\n  - b", "- a\n- b", False),
        ("cells", "one\ntwo", "One\n two ", True),
        ("fields", {"a": "x"}, '{"a": "X"}', True),
        ("fields", {"a": None}, {}, True),
        ("fields", ["a", "b"], ["b", "a"], False),
    ],
)
def test_each_rule_has_its_idea_of_right(rule: Any, gold: Any, answer: Any, right: bool) -> None:
    assert score(Scoring(rule), gold, answer).exact is right


@pytest.mark.parametrize(
    ("gold", "answer", "well_formed"),
    [
        (TABLE, TABLE, True),
        (TABLE, "| a | b |\n| 1 | 2 |", False),
        (TABLE, "| a | b |\n| --- | --- |\n| 1 |", False),
        (TABLE, "a | b\n--- | ---\n1 | 2", False),
        ('[{"a": 1}]', '[{"a": 2}]', True),
        ('[{"a": 1}]', "[{'a': 1}]", False),
        ('[{"a": 1}]', "1", False),
        ("- a\n  - b\n- c", "- a\n  - x\n- c", True),
        ("- a\n  - b", "- a\n    - b", False),
        ("- a\n  - b", "- a\n * b", False),
        ("- a\n  - b", "", False),
        ("a,b\n1,2", "a,b\n1", False),
    ],
)
def test_the_rule_form_asks_for_well_formed_text(gold: str, answer: str, well_formed: bool) -> None:
    assert score(Scoring("form"), gold, answer).parsed is well_formed


def test_well_formed_text_with_other_content_is_parsed_and_wrong() -> None:
    marks = score(Scoring("form"), TABLE, TABLE.replace("2", "3"))
    assert (marks.parsed, marks.exact, marks.hits, marks.gold) == (True, False, 3, 4)


def test_cells_that_are_empty_count() -> None:
    assert not score(Scoring("cells"), "| a |\n| --- |\n|  |", "| a |\n| --- |").exact


@given(VALUES)
def test_gold_itself_is_always_right(value: Any) -> None:
    marks = score(FIELDS, {"all": value}, {"all": value})
    assert marks.exact
    assert marks.hits == marks.gold == marks.given


@given(VALUES, VALUES)
def test_the_marks_of_the_fields_add_up_to_those_of_the_whole(gold: Any, answer: Any) -> None:
    marks = score(FIELDS, {"all": gold}, {"all": answer})
    for part in ("hits", "gold", "given"):
        assert getattr(marks, part) == sum(getattr(one, part) for one in marks.fields.values())
    assert marks.exact == all(one.exact for one in marks.fields.values())


def test_an_answer_that_did_not_parse_scores_nothing_but_counts_its_gold() -> None:
    marks = score(FIELDS, {"a": "x", "b": "y"}, None, parsed=False)
    assert (marks.exact, marks.parsed, marks.hits, marks.gold, marks.given) == (
        False,
        False,
        0,
        2,
        0,
    )
    assert set(marks.fields) == {"/a", "/b"}
    assert score(Scoring("label"), "a", "a", parsed=False) == Score(False, False, 0, 1, 0)


def test_a_field_that_neither_side_has_is_right_unless_nothing_parsed() -> None:
    rows = [
        score(FIELDS, {"a": "x", "b": "y"}, {"a": "x", "b": "z"}),
        score(FIELDS, {"a": "x", "b": None}, {"a": "x", "b": None}),
        score(FIELDS, {"a": "x", "b": None}, None, parsed=False),
    ]
    found = by_field(rows)
    assert found["/a"].exact_match == pytest.approx(2 / 3)
    assert found["/a"].field_f1 == pytest.approx(2 * 2 / (3 + 2))
    assert found["/b"].exact_match == pytest.approx(1 / 3)
    assert found["/b"].field_f1 == 0.0


def test_totals_are_micro_averaged() -> None:
    rows = [Score(True, True, 1, 1, 1), Score(False, True, 1, 3, 1), Score(False, False, 0, 2, 0)]
    totals = total(rows)
    assert totals.count == 3
    assert totals.field_f1 == pytest.approx(2 * 2 / (6 + 2))
    assert totals.exact_match == pytest.approx(1 / 3)
    assert totals.parse_rate == pytest.approx(2 / 3)
    assert total([]).count == 0


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="no scoring rule 'poem'"):
        Scoring("poem")  # type: ignore[arg-type]


SCHEMA = {
    "$defs": {"Match": {"type": "object", "properties": {"home": {"type": "string"}}}},
    "type": "object",
    "properties": {
        "days": {"type": "array", "items": {"$ref": "#/$defs/Match"}},
        "slots": {"type": "object", "additionalProperties": {"type": "string"}},
        "maybe": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Match"}]},
        "odd": {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
    },
}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("days", 3, "home"), "/days[]/home"),
        (("days", None, "home"), "/days[]/home"),
        (("slots", "city"), "/slots/*"),
        (("maybe", "home"), "/maybe/home"),
        (("odd", "x1"), "/odd/*"),
        (("unknown", "key"), "/unknown/key"),
        ((), ""),
    ],
)
def test_a_place_is_the_same_in_every_answer(path: Any, place: str) -> None:
    assert Places(SCHEMA).of(path) == place


def test_without_a_schema_every_key_is_a_place() -> None:
    assert Places().of(("slots", "city", 0)) == "/slots/city[]"


def test_a_schema_that_refers_to_itself_has_places() -> None:
    node = {"$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}}}, "$ref": "#/$defs/N"}
    assert Places(node).of(("n", "n", "n")) == "/n/n/n"
    assert Places({"$defs": {"N": {"$ref": "#/$defs/N"}}, "$ref": "#/$defs/N"}).of(("n",)) == "/n"

"""The scoring rule of the labelled data, case by case."""

from typing import Any

import pytest

from carrara.workflows.score import Score, flatten, score, total


def test_flattening_keeps_positions_and_drops_nulls() -> None:
    value = {"title": " Fish  Pie ", "time": None, "steps": ["Boil", "Bake"]}
    assert set(flatten(value)) == {
        ("/title", "fish pie"),
        ("/steps[0]", "boil"),
        ("/steps[1]", "bake"),
    }


def test_lists_of_genres_and_entities_have_no_order() -> None:
    film = {"genres": ["drama", "silent"]}
    assert score("extract", film, {"genres": ["silent", "drama"]}).exact
    assert score(
        "extract", {"person": ["a", "b"]}, {"person": ["b", "a"]}, task="ner_emerging"
    ).exact
    assert not score("extract", {"steps": ["a", "b"]}, {"steps": ["b", "a"]}).exact


def test_a_pair_given_twice_counts_once_against_one_gold_pair() -> None:
    marks = score("extract", {"cast": ["Ann"]}, {"cast": ["Ann", "Ann"]})
    assert (marks.hits, marks.gold, marks.given, marks.exact) == (1, 1, 2, False)


@pytest.mark.parametrize(
    ("kind", "task", "gold", "answer", "right"),
    [
        ("classify", "", "work", " Work", True),
        ("classify", "", "work", "home", False),
        ("qa", "table_qa", ["6"], "6.0", True),
        ("qa", "table_qa", ["Bob", "Ann"], "ann; bob", True),
        ("qa", "table_qa", ["1,200"], "1200", True),
        ("qa", "table_qa", ["6"], "7", False),
        ("reason", "gsm8k", "1,200", "3 * 400 = 1200\nAnswer: 1200.0", True),
        ("reason", "gsm8k", "3", "Answer: 30", False),
        ("reason", "strategyqa_facts", "yes", "Yes", True),
        (
            "format",
            "table_write",
            "| a | b |\n| --- | --- |\n| 1 | 2 |",
            "|a|b|\n|-|-|\n|1|2|",
            True,
        ),
        ("format", "table_write", "| a |\n| --- |\n| 1 |", "| a |\n| --- |\n| 2 |", False),
        ("format", "table_write", '{"a": 1}', '{ "a":1 }', True),
        ("extract", "", {"a": "x"}, '{"a": "X"}', True),
    ],
)
def test_each_kind_has_its_rule(kind: str, task: str, gold: Any, answer: Any, right: bool) -> None:
    assert score(kind, gold, answer, task=task).exact is right


def test_an_answer_that_did_not_parse_scores_nothing_but_counts_its_gold() -> None:
    marks = score("extract", {"a": "x", "b": "y"}, None, parsed=False)
    assert marks == Score(False, False, 0, 2, 0)


def test_totals_are_micro_averaged() -> None:
    rows = [Score(True, True, 1, 1, 1), Score(False, True, 1, 3, 1), Score(False, False, 0, 2, 0)]
    totals = total(rows)
    assert totals.count == 3
    assert totals.field_f1 == pytest.approx(2 * 2 / (6 + 2))
    assert totals.exact_match == pytest.approx(1 / 3)
    assert totals.parse_rate == pytest.approx(2 / 3)


def test_no_rows_and_unknown_kinds() -> None:
    assert total([]).count == 0
    with pytest.raises(ValueError, match="unknown kind"):
        score("poem", "a", "b")

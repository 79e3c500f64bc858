"""Confidence against correctness: AUROC and ECE by their definitions, and part by part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.scoring.calibration import auroc, calibration, ece
from carrara.workflows.scoring.places import Places
from carrara.workflows.scoring.score import Scoring
from carrara.workflows.scoring.sure import judged_parts

ROWS = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.booleans()), max_size=30)


@given(ROWS)
def test_auroc_is_the_share_of_pairs_that_confidence_puts_in_order(
    rows: list[tuple[float, bool]],
) -> None:
    pairs = [(a, b) for a, right in rows if right for b, other in rows if not other]
    found = auroc(rows)
    if not pairs:
        assert found is None
        return
    ordered = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    assert found == pytest.approx(ordered / len(pairs))


@given(ROWS.filter(len))
def test_the_calibration_error_is_between_the_mean_gap_and_one(
    rows: list[tuple[float, bool]],
) -> None:
    gap = abs(sum(sure - right for sure, right in rows)) / len(rows)
    assert gap - 1e-9 <= ece(rows) <= 1.0


def test_the_calibration_error_of_known_bins() -> None:
    rows = [(0.95, True), (0.95, False), (1.0, True), (0.05, False)]
    assert ece(rows) == pytest.approx((abs(2.9 - 2) + 0.05) / 4)
    assert ece([(1.0, True), (0.0, False)]) == 0.0


def test_nothing_has_no_calibration() -> None:
    assert calibration([]) is None
    found = calibration([(0.5, True), (0.7, True)])
    assert found is not None
    assert (found.count, found.accuracy, found.auroc) == (2, 1.0, None)
    assert found.confidence == pytest.approx(0.6)


GOLD = {"title": "A", "cast": ["Ann", "Bo"], "year": None, "slots": {"city": "Rome"}}
ANSWER = {"title": "a", "cast": ["Bo", "Cy"], "year": None, "slots": {"city": "Oslo"}}


@pytest.mark.parametrize(
    ("pointer", "unordered", "judged"),
    [
        ("/title", (), ("/title", True)),
        ("/year", (), ("/year", True)),
        ("/cast/0", (), ("/cast[]", False)),
        ("/cast/0", ("cast",), ("/cast[]", True)),
        ("/cast/1", ("cast",), ("/cast[]", False)),
        ("/cast", (), ("/cast", False)),
        ("/slots/city", (), ("/slots/city", False)),
        ("/slots", (), ("/slots", False)),
        ("/cast/7", (), None),
        ("/nothing", (), None),
    ],
)
def test_a_part_is_right_where_it_says_what_the_gold_says(
    pointer: str, unordered: Any, judged: Any
) -> None:
    scoring = Scoring("fields", frozenset(unordered))
    found = list(judged_parts(scoring, GOLD, ANSWER, {pointer: 0.5}, Places()))
    assert found == ([] if judged is None else [(judged[0], 0.5, judged[1])])


def test_only_json_has_parts() -> None:
    assert list(judged_parts(Scoring("label"), "a", "a", {"": 0.5}, Places())) == []

"""Numbers of JSON keep their digits where floats would lose some."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.digits import Digits, as_decimals, decimal_of, exact_number
from carrara.workflows.plain import plain
from carrara.workflows.records import Record, content_hash


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?(e[+-]?[0-9]{1,5})?", fullmatch=True))
def test_an_exact_number_is_the_one_that_is_written(text: str) -> None:
    found = exact_number(text)
    written = repr(found) if isinstance(found, float) else str(found)
    assert Decimal(written) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["", "01", "+1", "1.", ".5", "1e", "NaN", "Infinity", "1_0", " 1", "٣"]
)
def test_what_json_would_not_write_is_no_number(text: str) -> None:
    assert decimal_of(text) is None


@pytest.mark.parametrize(
    ("number", "found"), [("1.10", Decimal("1.10")), ("1e99999999999999999999", float("inf"))]
)
def test_what_is_too_large_for_decimals_stays_a_float(number: str, found: Any) -> None:
    made = as_decimals([Digits(number)])
    assert (made, type(made[0])) == ([found], type(found))


def test_numbers_that_know_their_digits_are_no_numbers_of_their_own_in_json_data() -> None:
    given = {"a": Digits("12.5"), "b": [Digits("0.12345678901234567890")]}
    for exact, b in ((False, 0.12345678901234568), (True, "0.12345678901234567890")):
        made = plain(given, exact=exact)
        assert (made, type(made["a"]), type(made["b"][0])) == (
            {"a": 12.5, "b": [b]},
            float,
            type(b),
        )


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("1.10", "1.1000", True),
        ("0.12345678901234567890", "0.12345678901234567899", False),
        ("1e99999999999999999999", "1e99999999999999999998", False),
    ],
)
def test_the_content_of_a_record_has_all_digits(before: str, now: str, same: bool) -> None:
    first, second = (
        content_hash(Record(0, "k", "w", {"x": [Digits(text)]})) for text in (before, now)
    )
    assert (first == second) is same
    assert content_hash(Record(0, "k", "w", {"x": [1.1]})) == content_hash(
        Record(0, "k", "w", {"x": [Digits("1.10")]})
    )

"""Every value is found where it stands, as documents write it, and what stands nowhere is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.spans.locate import locate, locate_in_part
from carrara.workflows.spans.source_text import SourceText, Span

RECEIPT = """MORGANFIELD'S  Restaurant
LOT 50, FLOOR T2,
SKY AVENUE
DATE: 23/03/2018   TABLE 25
RIBS PLATTER    259.90
APPLE - 350ML    13.90
TOTAL: RM 1,273.80
Café Zoë"""


@pytest.mark.parametrize(
    ("value", "shown", "how"),
    [
        ("RIBS PLATTER", "RIBS PLATTER", "exact"),
        ("Morganfield's restaurant", "MORGANFIELD'S  Restaurant", "case"),
        ("LOT 50, FLOOR T2, SKY AVENUE", "LOT 50, FLOOR T2,\nSKY AVENUE", "case"),
        ("cafe zoe", "Café Zoë", "case"),
        ("2018-03-23", "23/03/2018", "date"),
        (1273.8, "1,273.80", "number"),
        (259.9, "259.90", "number"),
        ("1273.80", "1,273.80", "number"),
        ("259.90", "259.90", "exact"),
        (25, "25", "exact"),
        ("MORGANFELD'S Restaurant", "MORGANFIELD'S  Restaurant", "fuzzy"),
    ],
)
def test_a_value_is_found_as_documents_write_it(value: object, shown: str, how: str) -> None:
    span = locate(value, RECEIPT)[""]
    assert span is not None
    assert span.how == how
    if how == "fuzzy":
        assert span.score > 0.9
        assert shown.startswith(RECEIPT[span.start : span.end][:6])
    else:
        assert RECEIPT[span.start : span.end] == shown


@pytest.mark.parametrize("value", ["LUNCH", "RIB", 5, 90, "2018-03-24", "Morgan"])
def test_what_stands_nowhere_has_no_span(value: object) -> None:
    assert locate(value, RECEIPT) == {"": None}


def test_values_of_a_list_follow_each_other() -> None:
    text = "tea 2 1.50\ncoffee 1 2.50\ntea 1 1.50"
    rows = [
        {"name": "tea", "count": 2, "price": 1.5},
        {"name": "coffee", "count": 1, "price": 2.5},
        {"name": "tea", "count": 1, "price": 1.5},
    ]
    found = locate({"rows": rows, "paid": True, "note": None, "more": ""}, text)
    starts = [span.start for span in found.values() if span is not None]
    assert starts == sorted(starts)
    assert len(starts) == len(found) == 9
    third = found["/rows/2/name"]
    assert third is not None
    assert third.start == text.rindex("tea")


def test_keys_are_escaped_in_pointers() -> None:
    assert list(locate({"a/b": {"c~d": "x1"}}, "x1")) == ["/a~1b/c~0d"]


@given(st.text(max_size=60), st.text(min_size=1, max_size=12), st.text(max_size=60))
def test_spans_lie_in_the_text_and_hold_the_value(before: str, value: str, behind: str) -> None:
    text = f"{before} {value} {behind}"
    span = SourceText(text).find(value)
    if not value.strip():
        assert span is None
        return
    assert span is not None
    assert 0 <= span.start < span.end <= len(text)
    if span.how == "exact":
        assert text[span.start : span.end] == value.strip()


@given(st.floats(-1e9, 1e9, allow_nan=False).map(lambda x: round(x, 2)))
def test_every_number_is_found_in_its_plain_and_grouped_form(number: float) -> None:
    for text in (f"x {number:.2f} y", f"x {number:,.2f} y"):
        span = locate(number, text)[""]
        assert span is not None
        assert float(text[span.start : span.end].replace(",", "")) == pytest.approx(number)


def test_numbers_of_any_size_are_looked_for() -> None:
    large = 10**400
    found = locate({"a": large, "b": -large, "c": 1e300, "d": float("inf")}, f"so {large:,} it is")
    assert found["/a"] is not None
    assert (found["/b"], found["/c"], found["/d"]) == (None, None, None)


def test_values_of_a_part_have_their_spans_in_the_whole_text() -> None:
    text = "bread 1.20\nmilk 0.90\nbread 9.20\n"
    found = locate_in_part({"name": "bread", "more": "milk"}, text, 21, 32)
    assert found == {"/name": Span(21, 26), "/more": None}
    known = {"/name": Span(21, 26)}
    assert locate({"name": "bread", "more": "milk"}, text, known) == {
        "/name": Span(21, 26),
        "/more": Span(11, 15),
    }

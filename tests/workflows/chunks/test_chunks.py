"""Parts fit their budget, lose nothing and follow the structure; their answers come together by rule."""

from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.errors import CarraraError
from carrara.workflows.chunks.headings import headings_of
from carrara.workflows.chunks.merge import merge
from carrara.workflows.chunks.split import Chunk, estimated, split


@given(st.text(alphabet="ab .\n#é", max_size=600), st.integers(16, 60), st.integers(0, 8))
def test_nothing_is_lost_and_every_part_fits(text: str, tokens: int, overlap: int) -> None:
    parts = split(text, tokens, overlap=overlap)
    at = 0
    for part in parts:
        assert part.text == text[part.start : part.end]
        assert part.start <= at < part.end or not text
        assert estimated(part.text) <= tokens + 2  # overlap and rest are rounded apart
        at = part.end
    assert at == len(text)
    if not overlap:
        assert "".join(part.text for part in parts) == text


def test_a_text_that_fits_is_one_part() -> None:
    [part] = split("one two three", 100)
    assert (part.start, part.end, part.headings) == (0, 13, ())


def test_strong_borders_go_before_weak_ones() -> None:
    body = "Sentence of some words. " * 6
    text = f"# One\n\n{body}\n\n## Inner\n\n{body}\n\n# Two\n\n{body}\n"
    parts = split(text, 64)
    assert [part.text.split("\n", 1)[0] for part in parts] == ["# One", "## Inner", "# Two"]
    assert [part.headings for part in parts] == [(), ("One",), ()]


def test_an_overlap_repeats_the_end_of_the_part_before() -> None:
    text = " ".join(f"word{n}" for n in range(200))
    parts = split(text, 50, overlap=10)
    for before, part in pairwise(parts):
        repeated = text[part.start : before.end]
        assert 0 < estimated(repeated) <= 10
        assert part.text.startswith("word")


@pytest.mark.parametrize(("tokens", "overlap"), [(8, 0), (100, 60), (100, -1)])
def test_impossible_sizes_are_refused(tokens: int, overlap: int) -> None:
    with pytest.raises(CarraraError, match="at least 16 tokens"):
        split("text", tokens, overlap=overlap)


PARTS: list[dict[str, Any]] = [
    {"name": "Ann", "total": None, "items": [{"n": "pen"}], "seller": {"town": ""}, "pages": 2},
    {
        "name": "Ann B.",
        "total": 5.5,
        "items": [{"n": "pen"}, {"n": "ink"}],
        "seller": {"town": "Oslo"},
        "pages": 3,
    },
    {"name": "Ann", "total": 9, "items": [], "seller": {"town": "Rome"}, "pages": 1},
]


def test_the_usual_rules_take_the_first_value_and_each_item_once() -> None:
    assert merge(PARTS) == {
        "name": "Ann",
        "total": 5.5,
        "items": [{"n": "pen"}, {"n": "ink"}],
        "seller": {"town": "Oslo"},
        "pages": 2,
    }


@pytest.mark.parametrize(
    ("field", "rule", "value"),
    [
        ("name", "longest", "Ann B."),
        ("name", "most", "Ann"),
        ("total", "last", 9),
        ("items", "all", [{"n": "pen"}, {"n": "pen"}, {"n": "ink"}]),
        ("pages", "sum", 6),
        ("total", "max", 9),
        ("total", "min", 5.5),
    ],
)
def test_a_field_follows_its_rule(field: str, rule: Any, value: Any) -> None:
    assert merge(PARTS, {field: rule})[field] == value


def test_nested_fields_are_named_with_dots() -> None:
    assert merge(PARTS, {"seller.town": "last"})["seller"] == {"town": "Rome"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"name": "sum"}, "merge rule 'sum' of name is for numbers, not for 'Ann'"),
        ({"name": "frist"}, "merge rule 'frist' of name: there are first"),
        ({"total": "all"}, "merge rule 'all' of total is for lists"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(rules: Any, message: str) -> None:
    with pytest.raises(CarraraError, match=message):
        merge(PARTS, rules)


@pytest.mark.parametrize(
    ("rule", "parts", "made"),
    [
        ("sum", [Decimal("0.12345678901234567890123456789"), 1.1, 2],
         Decimal("3.22345678901234567890123456789")),
        ("max", [Decimal("1.10"), 1], Decimal("1.10")),
        ("min", [date(2026, 2, 1), None, date(2026, 1, 3)], date(2026, 1, 3)),
        ("max", [datetime(2026, 2, 1, 5), datetime(2026, 2, 1, 6)], datetime(2026, 2, 1, 6)),
        ("most", [date(2026, 2, 1), date(2026, 1, 3), date(2026, 1, 3)], date(2026, 1, 3)),
    ],
)  # fmt: skip
def test_decimals_and_dates_are_merged_as_they_are(rule: Any, parts: list[Any], made: Any) -> None:
    found = merge(parts, usual=rule)
    assert (found, type(found)) == (made, type(made))


@pytest.mark.parametrize("parts", [[1, date(2026, 1, 3)], [date(2026, 1, 3), datetime(2026, 1, 3)]])
def test_what_cannot_be_compared_names_the_field(parts: list[Any]) -> None:
    with pytest.raises(CarraraError, match=r"merge rule 'max' of a\.b: "):
        merge([{"a": {"b": part}} for part in parts], {"a.b": "max"})


def test_nothing_merges_to_nothing() -> None:
    assert merge([]) is None
    assert merge([None, None]) is None
    assert merge([[], [1], [1, 2]]) == [1, 2]


def test_a_part_that_begins_with_a_heading_is_not_below_its_neighbour() -> None:
    text = (
        "# Sale\n\n## Terms\n\n"
        + "Pay in 30 days. " * 3
        + "\n\n## Goods\n\nTwo chairs and a table.\n"
    )
    assert [part.headings for part in split(text, 24)] == [(), ("Sale",)]


def test_items_are_the_same_only_where_they_are_exactly_equal() -> None:
    assert merge([{"codes": ["mW", "US"]}, {"codes": ["MW", "us", "US"]}]) == {
        "codes": ["mW", "US", "MW", "us"]
    }
    values = [1, True, "1", 1.0, None, Decimal("1.10"), "1.10", {"a": 1, "b": [2]}]
    assert merge([values, [{"b": [2.0], "a": 1.0}]]) == [
        1, True, "1", None, Decimal("1.10"), "1.10", {"a": 1, "b": [2]},
    ]  # fmt: skip


LINES = "".join(f"item{n % 7} {n % 3}.{n % 10}0\n" for n in range(60))


def items_of(text: str) -> list[dict[str, Any]]:
    """What a right model finds in whole lines."""
    words = [line.split() for line in text.splitlines() if line.startswith("item")]
    return [{"name": name, "price": float(price), "count": 1} for name, price in words]


@given(st.integers(16, 60), st.integers(0, 30))
def test_items_of_an_overlap_come_once(tokens: int, overlap: int) -> None:
    chunks = split(LINES, tokens, overlap=min(overlap, tokens // 2))
    answers = [{"items": items_of(chunk.text)} for chunk in chunks]
    assert merge(answers, {"items": "all"}, chunks=chunks) == {"items": items_of(LINES)}


def test_equal_items_that_stand_in_both_parts_by_themselves_both_stay() -> None:
    text = "tea 1.50\nbun 2.00\ntea 1.50\n"
    chunks = [Chunk(0, 18, text[:18]), Chunk(9, 27, text[9:])]
    tea, bun = {"name": "tea", "price": 1.5}, {"name": "bun", "price": 2.0}
    assert merge([[tea, bun], [bun, tea]], usual="all", chunks=chunks) == [tea, bun, tea]


def test_chunks_and_answers_belong_together() -> None:
    with pytest.raises(CarraraError, match="1 answers and 2 chunks"):
        merge([[1]], chunks=split("word " * 20, 16))


def test_an_overlap_begins_with_a_line_where_one_begins_in_it() -> None:
    parts = split(LINES, 40, overlap=10)
    assert len(parts) > 2
    assert all(part.text.startswith("item") for part in parts)
    assert all(part.start < before.end for before, part in pairwise(parts))


FENCED = """# Guide

Some words about it.

```sh
# no heading
make
```

## Use

~~~
## none either ``` # nor this
~~~

More words for the second part of it. ## not a heading

```
# A fence that is never closed hides nothing

## End C#

The last words. ##
"""


def test_comments_in_fenced_code_are_no_headings() -> None:
    assert [(found.depth, found.name) for found in headings_of(FENCED)] == [
        (1, "Guide"),
        (2, "Use"),
        (1, "A fence that is never closed hides nothing"),
        (2, "End C#"),
    ]
    parts = split(FENCED, 20)
    assert not any(part.text.startswith("# no") for part in parts)
    assert parts[-1].headings in [("A fence that is never closed hides nothing",)]


def test_a_heading_is_read_without_the_marks_that_close_it() -> None:
    [found] = headings_of("## Terms ##  \n")
    assert found.name == "Terms"


def test_splitting_counts_no_text_over_and_over() -> None:
    """The work, in characters counted, grows as the text does."""

    def counted(text: str) -> int:
        seen = 0

        def count(part: str) -> int:
            nonlocal seen
            seen += len(part)
            return estimated(part)

        split(text, 100, count=count)
        return seen

    for text in ("Some words of a sentence. ", "\n", "# Head\n\n", "x"):
        small, large = text * 2000, text * 16000
        assert counted(large) < 12 * counted(small)

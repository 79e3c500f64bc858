"""Fields of a row are led back to the answers that hold their values."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.trust.tracing import Origin, is_leaf, nodes, trace

leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=6)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_every_field_of_an_answer_that_stands_in_the_row_whole_is_traced_to_itself(
    value: Any,
) -> None:
    found = trace({"out": value}, [value])
    inner = dict(nodes(value))
    for at, leaf in nodes({"out": value}):
        if is_leaf(leaf):  # equal parts may stand several times; the value there is always the same
            assert inner[found[at].at] == leaf


def test_parts_of_answers_are_found_where_a_step_took_them_apart() -> None:
    answers = [
        {"items": [{"name": "tea", "price": 2}, {"name": "bun", "price": 3}], "total": 5},
        "breakfast",
    ]
    row = {
        "first": {"name": "tea", "price": 2},
        "total": 5,
        "kind": "breakfast",
        "count": 2,  # made by a step: the 2 in the answer is a price
    }
    assert trace(row, answers) == {
        "/first/name": Origin(0, "/items/0/name"),
        "/first/price": Origin(0, "/items/0/price"),
        "/total": Origin(0, "/total"),
        "/kind": Origin(1, ""),
    }


def test_of_equal_answers_the_later_one_counts_and_the_larger_part_before_both() -> None:
    whole = {"name": "tea", "price": 2}
    assert trace({"a": whole}, [whole, whole])["/a/name"].answer == 1
    assert trace({"a": whole}, [whole, "tea"])["/a/name"].answer == 0


def test_nothing_is_claimed_for_short_words_under_other_names() -> None:
    assert trace({"unit": "kg", "sold": True}, [{"weight": "kg", "new": True}]) == {}


def test_equal_parts_of_the_answers_about_the_parts_of_one_text_follow_each_other() -> None:
    tea, bun = {"name": "tea", "price": 2}, {"name": "bun", "price": 3}
    row = {"items": [tea, bun, tea]}
    answers = [{"items": [tea, bun]}, {"items": []}, {"items": [tea]}]
    found = trace(row, answers, ["read[]"] * 3)
    assert found["/items/0/name"] == Origin(0, "/items/0/name")
    assert found["/items/1/price"] == Origin(0, "/items/1/price")
    assert found["/items/2/name"] == Origin(2, "/items/0/name")
    later = trace({"tea": tea}, [tea, tea, tea], ["read[]", "read[]", "check"])
    assert later["/tea/name"].answer == 2

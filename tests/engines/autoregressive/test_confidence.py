"""Confidence belongs to the part of the answer that its tokens write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.autoregressive.confidence import Written, confidence_of, mean, spans
from carrara.engines.contract import Choice, Column, Json, Outline, Regex, Table, Text
from carrara.engines.json_schema import pointer

ANY = Json.of({})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3)
    ),
    max_leaves=10,
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[str, Any]:
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    if not parts:
        return {pointer(path): value}
    found: dict[str, Any] = {}
    for key, part in parts:
        found |= leaves(part, (*path, key))
    return found


@given(value=VALUES, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_every_leaf_of_json_is_found_where_it_stands(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    found = {span.path: json.loads(raw[span.start : span.stop]) for span in spans(ANY, raw)}
    assert found == leaves(json.loads(raw))


def tokens(*parts: tuple[str, float | None]) -> tuple[bytes, list[Written]]:
    raw = "".join(text for text, _ in parts).encode()
    return raw, [Written(len(text.encode()), chance) for text, chance in parts]


def test_a_token_counts_for_every_leaf_it_writes_into_and_forced_ones_for_none() -> None:
    raw, written = tokens(
        ('{"a": "', None), ("é", 0.5), ('", "', 0.9), ('b": ', None), ("12", 0.25), ("}", None)
    )
    found = confidence_of(ANY, raw, written)
    assert found.fields == {"/a": pytest.approx(mean([0.5, 0.9])), "/b": pytest.approx(0.25)}
    assert found.tokens == (0.5, 0.9, 0.25)
    assert found.overall == pytest.approx((0.5 * 0.9 * 0.25) ** (1 / 3))


def test_a_choice_is_as_likely_as_all_its_tokens_and_its_end_together() -> None:
    raw, written = tokens(("in", 0.8), ("side", 0.5))
    found = confidence_of(Choice(("in", "inside")), raw, written, ending=0.9)
    assert found.fields == {"": pytest.approx(0.36)}


def test_what_was_forced_throughout_is_certain() -> None:
    raw, written = tokens(("yes", None))
    found = confidence_of(Choice(("yes",)), raw, written)
    assert (found.overall, found.fields, found.tokens) == (1.0, {"": 1.0}, ())


def test_cells_of_a_table_have_their_row_and_column() -> None:
    raw, written = tokens(
        ("| a | b |\n| --- | --- |\n| ", None),
        ("x", 0.5),
        (" |", 0.9),
        ("  |", 0.7),
        ("\n| ", None),
        ("é |", 0.4),
        (" 2 |", 0.3),
    )
    contract = Table((Column("a"), Column("b")))
    fields = confidence_of(contract, raw, written).fields
    assert list(fields) == ["/0/a", "/0/b", "/1/a", "/1/b"]
    assert fields["/0/b"] == pytest.approx(0.7)
    assert fields["/1/a"] == pytest.approx(0.4)


def test_items_of_an_outline_have_the_path_of_their_values() -> None:
    raw, written = tokens(
        ("- a", 0.9), ("\n  - b", 0.8), ("\n  - c", 0.7), ("\n- d", 0.6), ("\n  - e", 0.5)
    )
    fields = confidence_of(Outline(), raw, written).fields
    assert list(fields) == ["/0", "/0/items/0", "/0/items/1", "/1", "/1/items/0"]
    assert fields["/0/items/1"] == pytest.approx(0.7)


def test_free_text_has_no_parts_and_a_pattern_is_one() -> None:
    raw, written = tokens(("ab", 0.5), ("c", 0.125))
    assert confidence_of(Text(), raw, written).fields == {}
    assert confidence_of(Regex("abc"), raw, written).fields == {"": pytest.approx(0.25)}

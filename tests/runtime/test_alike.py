"""Counting texts that differ only in numbers."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from carrara.runtime.alike import Alike


def test_other_numbers_are_marked_and_the_same_text_is_not() -> None:
    found = Alike(["answered 400: x", "answered 500: x", "no room", "answered 600: x", "no room"])
    assert found == Counter({"answered 400: x (and like it)": 3, "no room": 2})


@given(st.lists(st.sampled_from(["a 1", "a 2", "b 1", "c"])))
def test_every_text_is_counted_once(texts: list[str]) -> None:
    found = Alike(texts)
    assert found.total() == len(texts)
    marked = {key[0] for key in found if key.endswith("(and like it)")}
    assert marked == {text[0] for text in texts if len({t for t in texts if t[0] == text[0]}) > 1}

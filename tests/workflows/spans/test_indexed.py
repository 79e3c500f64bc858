"""An indexed text is searched as one that is gone through: each value is found at the same place, or nowhere."""

import time
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.workflows.spans.locate import locate, occurrences
from carrara.workflows.spans.source_text import SourceText

NEVER, AT_ONCE = 1 << 60, 0

letters = st.sampled_from("abcdeé1 .,-'\n€ßİ\u0301")
words = st.lists(st.text(letters, max_size=8), max_size=60).map(" ".join)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str, int]:
    """A text, a stretch of it with some letters taken out and put in, and a place."""
    text = draw(words)
    start = draw(st.integers(0, len(text)))
    value = list(text[start : start + draw(st.integers(1, 200))])
    for _ in range(draw(st.integers(0, 12))):
        at = draw(st.integers(0, len(value)))
        if draw(st.booleans()):
            value.insert(at, draw(letters))
        else:
            del value[at : at + 1]
    return text, "".join(value), draw(st.integers(0, len(text)))


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_an_index_finds_what_a_search_finds(case: tuple[str, str, int]) -> None:
    text, value, near = case
    plain, indexed = SourceText(text, NEVER), SourceText(text, AT_ONCE)
    assert indexed.find(value, near) == plain.find(value, near)
    assert indexed.find(value, rough=False) == plain.find(value, rough=False)
    assert indexed.count(value) == plain.count(value)


@settings(max_examples=100, deadline=None)
@given(words, st.lists(st.integers(-999, 9999) | st.dates().map(str) | words, max_size=8))
def test_values_of_all_kinds_are_located_alike(text: str, values: list[Any]) -> None:
    parts = [text, *(f"{value}" for value in values[::2])]
    whole = " ".join(parts)
    plain, indexed = SourceText(whole, NEVER), SourceText(whole, AT_ONCE)
    assert locate(values, indexed) == locate(values, plain)
    for value in values:
        assert occurrences(value, indexed) == occurrences(value, plain)


def document(size: int) -> tuple[str, list[str]]:
    """A text of about so many characters, and its words."""
    random = Random(7)
    known = [
        "".join(random.choices("abcdefghijklmnop", k=random.randint(2, 9))) for _ in range(4000)
    ]
    return " ".join(random.choices(known, k=size // 6)), known


@pytest.mark.parametrize("edits", [0, 1, 3, 6, 12])
def test_long_texts_are_searched_alike(edits: int) -> None:
    text, known = document(200_000)
    plain, indexed = SourceText(text, NEVER), SourceText(text, AT_ONCE)
    random = Random(edits)
    found = 0
    for length in (8, 12, 20, 33, 64, 65, 150, 400):
        for _ in range(6):
            start = random.randrange(len(text) - length)
            value = list(text[start : start + length])
            for _ in range(edits):
                value[random.randrange(len(value))] = random.choice("xyz ")
            wanted = "".join(value)
            span = plain.find(wanted)
            assert indexed.find(wanted) == span, wanted
            found += span is not None
        wanted = " ".join(random.choices(known, k=length // 6 + 1))
        assert indexed.find(wanted) == plain.find(wanted), wanted
    assert found > 10


def test_values_that_stand_nowhere_cost_less_than_the_text_each() -> None:
    text, known = document(1_000_000)
    random = Random(3)
    values = [
        part
        for number in range(20)
        for part in (
            " ".join(word[::-1] for word in random.choices(known, k=5)),
            10_000_000 + number,
            f"20{number + 10}-02-17",
        )
    ]
    taken = {}
    for patience in (NEVER, AT_ONCE):
        source = SourceText(text, patience)
        locate(["zzzzzzzz"], source)  # prepared
        began = time.process_time()
        assert set(locate(values, source).values()) == {None}
        taken[patience] = time.process_time() - began
    assert taken[AT_ONCE] < taken[NEVER] / 2

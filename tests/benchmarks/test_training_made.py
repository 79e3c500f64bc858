"""Training rows made by program: right answers among their options, fields under other names with the same values."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.training_made import MOST_OPTIONS, NAMES, made_rows, words_of
from carrara.engines.contract import Choice, Contract, Json, from_data

INTENTS = ["card_arrival", "pin_change", "lost_or_stolen_card", "pay_bill", "cardLinking"]
REQUESTS = [
    {
        "task": "clinc_intent",
        "src": "c",
        "prompt": f"Classify. Answer from this list: a, b.\n\nRequest: my words {label}",
        "response": label,
    }
    for label in INTENTS
]
PLACE = {
    "task": "e2e_restaurant",
    "src": "e",
    "prompt": "Extract.\nFields: name, area, eat_type\n\nText:\nZizzi is a pub by the river.",
    "response": {"name": "Zizzi", "area": "riverside", "eat_type": "pub", "other": "x"},
}


def contract_of(row: dict[str, Any]) -> Contract:
    return from_data(row["contract"])


@given(st.integers(0, 10_000))
def test_a_made_choice_has_its_right_answer_once_and_shows_the_text(seed: int) -> None:
    made = [row for row in made_rows(REQUESTS, 100, seed) if row["task"] == "made_choice"]
    assert len(made) == len(REQUESTS)
    for row in made:
        contract = contract_of(row)
        assert isinstance(contract, Choice)
        assert 2 <= len(contract.options) <= MOST_OPTIONS
        assert len(set(contract.options)) == len(contract.options)
        assert "Request: " not in row["prompt"]
        right = next(label for label in INTENTS if f"my words {label}" in row["prompt"])
        assert words_of(row["response"]) == words_of(right)
        assert [words_of(one) for one in contract.options].count(words_of(right)) == 1


@given(st.integers(0, 10_000))
def test_renamed_fields_keep_their_values(seed: int) -> None:
    (row,) = [row for row in made_rows([PLACE], 100, seed) if row["task"] == "made_fields"]
    contract = contract_of(row)
    assert isinstance(contract, Json)
    assert list(contract.schema["properties"]) == list(row["response"])
    assert contract.parse(json.dumps(row["response"])) == row["response"]
    by_words = {
        words_of(name): field for field, names in NAMES["e2e_restaurant"].items() for name in names
    }
    for name, value in row["response"].items():
        assert PLACE["response"][by_words[words_of(name)]] == value  # type: ignore[index]
        assert name in row["prompt"]


def test_the_same_seed_makes_the_same_rows_and_no_more_than_asked_for() -> None:
    rows = [*REQUESTS, PLACE]
    assert list(made_rows(rows, 2, 5)) == list(made_rows(rows, 2, 5))
    assert [row["task"] for row in made_rows(rows, 2, 5)] == ["made_choice"] * 2 + ["made_fields"]


def test_rows_without_labels_and_fields_make_nothing() -> None:
    recipe = {
        "task": "recipe_nested",
        "src": "r",
        "prompt": "Extract.\n\nText:\nSoup",
        "response": {},
    }
    assert list(made_rows([recipe], 10, 0)) == []

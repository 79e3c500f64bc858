"""Prompts that ask to work something out are told from those that ask to find or to label."""

import pytest

from carrara.engines.contract import Choice, Column, Contract, Json, Table, Text
from carrara.engines.request import Message
from carrara.runtime.routing.reasoning import asks_for_reasoning

YES = Choice(("yes", "no"))
LABELS = Choice(("travel", "banking", "home"))
NUMBER = Json.of({"type": "integer"})
PERSON = Json.of({"type": "object", "properties": {"age": {"type": "integer"}}})
PENS = "Ann has 3 pens and buys 4 more. How many pens has she?"
FACTS = (
    "Facts:\n- A whale is a mammal.\n- Mammals breathe air.\n\nQuestion: Does a whale breathe air?"
)


@pytest.mark.parametrize(
    ("text", "output", "reasons"),
    [
        (PENS, Text(), True),
        (PENS, NUMBER, True),
        (PENS, LABELS, False),
        (PENS, PERSON, False),
        (f"Solve the problem: {PENS}", PERSON, True),
        ("Think step by step. Which label?", LABELS, True),
        (FACTS, YES, True),
        (FACTS, Text(), True),
        (FACTS, LABELS, False),
        ("Is this an invoice?", YES, False),
        ("Summarise the article in two sentences.", Text(), False),
        ("How many people live in Oslo?", Text(), False),
        (
            "Write the shopping list as a table: 3 eggs, 200 g flour",
            Table((Column("item"),)),
            False,
        ),
        ("", Text(), False),
    ],
)
def test_the_wording_tells(text: str, output: Contract, reasons: bool) -> None:
    assert asks_for_reasoning([Message("user", text)], output) is reasons


def test_what_the_model_said_before_does_not_count() -> None:
    said = (Message("user", "Hello"), Message("assistant", PENS), Message("user", "Thanks"))
    assert not asks_for_reasoning(said, Text())

"""Rows made for the cookbook: its own wording and contracts, answers that hold to them."""

from __future__ import annotations

from typing import Any

from benchmarks.training_mix import cookbook_rows, first_of, with_whole_list
from carrara.engines.contract import from_data

LINES = "2 cups rice, washed\nsalt"
PARSED = [
    {"quantity": "2", "unit": "cups", "name": "rice", "preparation": "washed"},
    {"quantity": None, "unit": None, "name": "salt", "preparation": None},
]


def recipe(title: str) -> dict[str, Any]:
    return {"task": "recipe_nested", "src": "r", "prompt": f"Extract.\n\nText:\n{title}\n\nBoil."}


def test_parsed_lines_become_a_table_of_items_and_quantities() -> None:
    row = {"task": "ingredient_list", "src": "i", "prompt": f"Parse.\n\nText:\n{LINES}"}
    (made,) = cookbook_rows([{**row, "response": {"ingredients": PARSED}}])
    assert made["task"] == "ingredient_table"
    assert made["messages"][-1]["content"].endswith(LINES)
    assert "columns item and quantity" in made["messages"][-1]["content"]
    assert made["response"] == [
        {"item": "rice, washed", "quantity": "2 cups"},
        {"item": "salt", "quantity": None},
    ]
    assert [column.name for column in from_data(made["contract"]).columns] == ["item", "quantity"]  # type: ignore[union-attr]


def test_a_course_is_told_by_the_words_of_the_title() -> None:
    rows = [recipe("Chicken Curry"), recipe("Chicken Soup"), recipe("Toast"), recipe("Lentil Soup")]
    found = list(cookbook_rows([*rows, recipe("Lentil Soup")]))
    assert [row["response"] for row in found] == ["main", "soup"]
    assert found[1]["messages"][-1]["content"].endswith("Recipe: Lentil Soup\n\nBoil.")


def test_the_first_rows_of_each_named_task_are_kept() -> None:
    rows = [{"task": task, "at": at} for at, task in enumerate("abacab")]
    kept = [row["at"] for row in first_of(rows, {"a": 2, "b": 5})]
    assert kept == [0, 1, 2, 5]


def test_a_prompt_with_some_labels_lists_all_of_them() -> None:
    contract = {"kind": "choice", "options": ["a\\1", "b", "c?"]}
    row = {"prompt": "Choose.\nLabels: b, c?\n\nMessage: Labels: or not", "contract": contract}
    listed = with_whole_list(row)
    assert listed == {**row, "prompt": "Choose.\nLabels: a\\1, b, c?\n\nMessage: Labels: or not"}
    for other in ({"prompt": "Choose: b, c", "contract": contract}, {"prompt": "Labels: b"}):
        assert with_whole_list(other) == other

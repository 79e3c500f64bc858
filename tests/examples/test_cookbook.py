"""The main job: recipe pages to records, a shopping list, a summary, a book and a score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.request import Request

TARGET = "cookbook/cookbook.yaml"


def gold_answers(folder: Path, gold: list[dict[str, Any]]) -> Any:
    """What an engine says that knows the recipes by heart."""
    pages = {row["name"]: (folder / "recipes" / f"{row['name']}.txt").read_text() for row in gold}

    def reply(request: Request) -> str:
        asked = request.messages[-1].content
        if request.output.kind == "text":
            return "Twelve dishes for every day."
        if request.output.kind == "table":
            items = asked.partition("each ingredient.")[2].split("\n")
            lines = [f"| {item.strip()} | |" for item in items if item.strip()]
            return "\n".join(["| item | quantity |", "| --- | --- |", *lines])
        row = next(row for row in gold if pages[row["name"]].strip() in asked)
        if request.output.kind == "choice":
            return str(row["course"])
        return json.dumps({k: v for k, v in row.items() if k not in {"name", "course"}})

    return reply


def test_engines_that_know_the_recipes_get_full_marks(
    examples: Path, known: Any, replayed: Any, rows: Any
) -> None:
    gold = rows(examples / "cookbook/gold.jsonl")
    cassette = known(TARGET, gold_answers(examples / "cookbook", gold))
    out = replayed(TARGET, cassette)
    score = json.loads((out / "score.json").read_text())
    assert score == {"recipes": 12, "leaf_f1": 1.0, "course_accuracy": 1.0}
    found = {row["name"]: row for row in rows(out / "recipes.jsonl")}
    assert found == {row["name"]: row for row in gold}
    book = (out / "book.md").read_text()
    assert book.startswith("# A Cookbook\n\nTwelve dishes for every day.")
    for row in gold:
        assert f"### {row['title']}" in book
    shopping = (out / "shopping.md").read_text().splitlines()
    items = [item for row in gold for group in row["ingredients"] for item in group["items"]]
    assert len(shopping) == 2 + len(items)


@pytest.mark.weights
def test_the_embedded_engines_write_a_book_of_a_recipe(
    examples: Path, run_embedded: Any, tmp_path: Path
) -> None:
    shutil.copy(examples / "cookbook/recipes/irish-coffee.txt", tmp_path)
    value, report = run_embedded(TARGET, folder=str(tmp_path))
    assert [row["name"] for row in value["recipes"]] == ["irish-coffee"]
    assert all(row["title"] and row["ingredients"] and row["steps"] for row in value["recipes"])
    assert value["book"].startswith("# A Cookbook\n")
    assert value["shopping"].startswith("| item | quantity |\n")
    assert value["score"]["recipes"] == 1
    assert 0.05 < value["score"]["leaf_f1"] <= 1
    assert report.steps["cookbook/recipe"].done == 1
    if (examples.parent / "engines/embedded/adapter_config.json").is_file():
        assert value["score"]["leaf_f1"] > 0.4, value["recipes"]
    else:
        assert any(
            line.startswith("cookbook/recipe: diffusion: 1 of 1") for line in report.degraded
        )

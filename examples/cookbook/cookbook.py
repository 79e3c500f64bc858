"""The Python steps of the cookbook: reading pages, joining tables, setting the book, scoring it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carrara.workflows.plain import plain
from carrara.workflows.scoring.score import Scoring, total
from carrara.workflows.scoring.score import score as marks

HERE = Path(__file__).parent
COURSES = {
    "soup": "Soups",
    "salad": "Salads",
    "main": "Mains",
    "dessert": "Desserts",
    "drink": "Drinks",
}


def pages(folder: str) -> list[dict[str, str]]:
    """The text files of a folder, in the order of their names."""
    files = sorted((HERE / folder).glob("*.txt"))
    return [{"name": file.stem, "text": file.read_text(encoding="utf-8")} for file in files]


def shopping_list(tables: Sequence[Any]) -> str:
    """One Markdown table of all dishes' ingredients, alphabetical."""
    found = [row for table in tables for row in plain(table) if row["item"]]
    found.sort(key=lambda row: row["item"].lower())
    lines = [f"| {row['item']} | {row['quantity'] or ''} |" for row in found]
    return "\n".join(["| item | quantity |", "| --- | --- |", *lines]) + "\n"


def rows(
    pages: Sequence[Any], recipes: Sequence[Any], courses: Sequence[Any]
) -> list[dict[str, Any]]:
    """One record for each page."""
    return [
        {"name": page.name, "course": plain(course), **plain(recipe)}
        for page, recipe, course in zip(pages, recipes, courses, strict=True)
    ]


def book(recipes: Sequence[Any], courses: Sequence[Any], summary: str, shopping: str) -> str:
    """The whole book as Markdown, a chapter for each course."""
    by_course: dict[str, list[Any]] = {course: [] for course in COURSES}
    for recipe, course in zip(recipes, courses, strict=True):
        by_course[plain(course)].append(plain(recipe))
    chapters = [
        f"## {COURSES[course]}\n\n" + "\n".join(_recipe(recipe) for recipe in found)
        for course, found in by_course.items()
        if found
    ]
    return "\n".join(["# A Cookbook", "", summary, "", *chapters, "## Shopping list", "", shopping])


def score(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Leaf F1 of the recipes and accuracy of the courses against `gold.jsonl`."""
    lines = (HERE / "gold.jsonl").read_text(encoding="utf-8").splitlines()
    gold = {row["name"]: row for row in map(json.loads, lines)}
    known = [row for row in rows if row["name"] in gold]
    recipes = total(
        marks(Scoring("fields"), _without_name(gold[row["name"]]), _without_name(row))
        for row in known
    )
    right = sum(row["course"] == gold[row["name"]]["course"] for row in known)
    return {
        "recipes": len(known),
        "leaf_f1": round(recipes.field_f1, 3),
        "course_accuracy": round(right / len(known), 3) if known else None,
    }


def _without_name(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in {"name", "course"}}


def _recipe(recipe: Mapping[str, Any]) -> str:
    facts = (("Servings", "servings"), ("Preparation", "prep_time"), ("Cooking", "cook_time"))
    line = ", ".join(f"{label}: {recipe[key]}" for label, key in facts if recipe[key])
    parts = [f"### {recipe['title']}\n", f"{line}\n" if line else ""]
    for group in recipe["ingredients"]:
        indent = ""
        if group["group"]:
            parts.append(f"- {group['group']}")
            indent = "  "
        parts += [f"{indent}- {item}" for item in group["items"]]
    parts.append("")
    parts += [f"{number}. {step}" for number, step in enumerate(recipe["steps"], start=1)]
    return "\n".join(parts) + "\n"

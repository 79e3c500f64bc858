"""Prompt templates."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from pydantic import BaseModel

from carrara.workflows.errors import RenderError
from carrara.workflows.template import Problem, Template, problems, variables
from carrara.workflows.values import Table


class Recipe(BaseModel):
    title: str
    parts: list[str]


class Mood(str, enum.Enum):  # noqa: UP042 - the old spelling, which prints otherwise
    GOOD = "good"


RENDERED: list[tuple[str, dict[str, Any], str]] = [
    ("Hello {{ name }}", {"name": "Ann"}, "Hello Ann"),
    ("{{ recipe }}", {"recipe": Recipe(title="x", parts=[])}, '{"title": "x", "parts": []}'),
    ("{{ recipe.title }}", {"recipe": Recipe(title="x", parts=[])}, "x"),
    ("{{ things }}", {"things": ["ä", 1, None]}, '["ä", 1, null]'),
    ("{{ mood }}", {"mood": Mood.GOOD}, "good"),
    ("{{ table }}", {"table": Table.of([{"a": 1}])}, "| a |\n| --- |\n| 1 |"),
    ("{{ order.items }}", {"order": {"items": 3}}, "3"),
    ("{{ order.keys() | list }}", {"order": {"a": 3}}, '["a"]'),
    ("{% for p in parts %}\n- {{ p }}\n{% endfor %}", {"parts": ["a", "b"]}, "- a\n- b"),
    ("{{ text }}", {"text": "{{ not_a_template }}"}, "{{ not_a_template }}"),
    ("{{ text | upper }}", {"text": "a"}, "A"),
    ("{{ data | json(indent=1) }}", {"data": ["<"]}, '[\n "<"\n]'),
]


@pytest.mark.parametrize(("source", "values", "text"), RENDERED)
def test_values_are_shown_as_a_model_can_read_them(
    source: str, values: dict[str, Any], text: str
) -> None:
    assert Template(source).render(values) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ x.__class__ }}",
        "{{ x.__init__.__globals__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ things.append(1) }}",
        "{{ missing }}",
        "{{ things.nothing }}",
        "{{ 1 / 0 }}",
        "{{ x }}",
    ],
)
def test_what_a_template_may_not_do_is_an_error(source: str) -> None:
    with pytest.raises(RenderError, match="line 2 of the prompt"):
        Template(f"first line\n{source}").render({"x": object(), "things": []})


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("{{ doc }}", []),
        ("a\n{{ dok }}", [Problem(2, "the template uses 'dok', which is not given", "doc")]),
        ("{{ doc | uper }}", [Problem(1, "there is no filter 'uper'", "upper")]),
        ("{% if doc is strng %}{% endif %}", [Problem(1, "there is no test 'strng'", "string")]),
        ("{% for d in doc %}{{ d }}{{ loop.index }}{% endfor %}", []),
        ("{{ range(3) | list }}{% set x = 1 %}{{ x }}", []),
    ],
)
def test_mistakes_in_a_template_are_found_before_it_is_used(
    source: str, found: list[Problem]
) -> None:
    assert problems(source, ["doc"]) == found


def test_all_mistakes_are_found_at_once() -> None:
    found = problems("{{ dok }}\n{{ doc | fo }}\n{{ dok }}", ["doc"])
    assert [problem.line for problem in found] == [1, 2, 3]


def test_a_syntax_error_has_its_line() -> None:
    (problem,) = problems("a\n{% for x in %}", ["doc"])
    assert problem.line == 2
    assert problem.text.startswith("template: ")


def test_the_names_that_a_template_needs_are_known() -> None:
    assert variables("{{ a.b }}{% for c in d %}{{ c }}{% endfor %}{{ range(2) }}") == {"a", "d"}

"""A pipeline and a decorated workflow that say the same are the same to engines and to the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

import carrara
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.events import Event, StepChanged, StepFinished
from carrara.workflows.yaml import Pipeline

Load = Callable[..., Pipeline]


class Ingredient(BaseModel):
    name: str
    quantity: str | None = None


class Group(BaseModel):
    """Ingredients that belong together."""

    name: str | None = None
    items: Annotated[list[Ingredient], Field(min_length=1)]


class Recipe(BaseModel):
    title: str = Field(description="As written.")
    servings: Annotated[int, Field(ge=1, le=99)] | None = None
    course: Literal["starter", "main"]
    groups: list[Group]


@carrara.llm(system="You read {{ style }} recipes.", max_tokens=300, temperature=0.2, seed=3)
def recipe(text: str, style: str) -> Recipe:
    """Extract the recipe.

    {{ text }}
      {% if style %}Style: {{ style }}{% endif %}
    """


@carrara.llm(
    name="sentence", tags=["reasoning"], engine="ar", examples=[({"recipe": "Eggs"}, "Eggs.")]
)
def sentence(recipe: Recipe) -> str:
    """Sum up {{ recipe }}"""


PIPELINE = """
    inputs: {text: str, style: str}
    types:
      Ingredient: {name: str, quantity: str?}
      Group:
        description: Ingredients that belong together.
        fields: {name: str?, items: {list: Ingredient, min_items: 1}}
      Recipe:
        title: {type: str, description: As written.}
        servings: {type: int, min: 1, max: 99, optional: true}
        course: {one_of: [starter, main]}
        groups: [Group]
    steps:
      recipe:
        system: You read {{ style }} recipes.
        llm: |
          Extract the recipe.

          {{ text }}
            {% if style %}Style: {{ style }}{% endif %}
        returns: Recipe
        max_tokens: 300
        temperature: 0.2
        seed: 3
      sentence:
        llm: "Sum up {{ recipe }}"
        tags: [reasoning]
        engine: ar
        examples: [{inputs: {recipe: Eggs}, answer: Eggs.}]
    """


@pytest.mark.parametrize("definition", [recipe, sentence], ids=lambda d: d.name)
def test_equal_definitions_have_equal_contracts_prompts_and_settings(
    definition: Any, load_text: Load
) -> None:
    declared: Any = load_text(PIPELINE).workflow.steps[definition.name]
    assert declared.contract == definition.contract
    assert (declared.prompt.text, declared.prompt.system) == (
        definition.prompt.text,
        definition.prompt.system,
    )
    assert declared.answering == definition.answering
    assert declared.options == definition.options
    assert set(declared.parameters.names) == set(definition.parameters.names)


def test_equal_definitions_send_equal_requests(load_text: Load, any_answer: Any) -> None:
    @carrara.workflow(name="p")
    async def in_python(text: str, style: str) -> dict[str, str]:
        return {"sentence": await sentence(recipe(text, style))}

    asked = []
    for workflow in (in_python, load_text(PIPELINE).workflow):
        engine = ScriptedEngine("ar", any_answer)
        result = carrara.run_sync(workflow, text="Eggs", style="old", engines={"ar": engine})
        assert result.value == {"sentence": "a text"}
        asked.append(engine.requests)
    assert asked[0] == asked[1]


def test_a_step_with_the_same_parameters_in_the_same_order_has_the_same_fingerprint(
    load_text: Load,
) -> None:
    declared: Any = load_text(PIPELINE).workflow.steps["sentence"]
    assert declared.fingerprint == sentence.fingerprint


# ---------------------------------------------------------------- the journal

CHAIN = """
    inputs: {text: str}
    types: {Part: {name: str}}
    steps:
      parts: {llm: "Parts of {{ text }}", returns: [Part]}
      names: {for_each: parts, as: part, llm: "Name {{ part.name }}"}
      other: {llm: "Other"}
      count: {python: ./tools.py:count, with: {parts: "{{ parts }}", least: 1}}
      kept: {python: ./tools.py:keep, with: {parts: "{{ parts }}"}}
      end: {llm: "End {{ names }} {{ count }} {{ kept[0].name }}"}
      maybe: {when: "count > 0", llm: "Maybe {{ other }}"}
    """
TOOLS = "def count(parts, least):\n    return len(parts)\n\ndef keep(parts):\n    return parts\n"


class Journaled:
    """Runs versions of a pipeline as one run of a journal."""

    def __init__(self, load_text: Load, tmp_path: Path, any_answer: Any) -> None:
        self.load, self.journal, self.answer = load_text, tmp_path / "runs.db", any_answer
        self.run_id: str | None = None
        self.events: list[Event] = []

    def run(self, yaml: str, tools: str = TOOLS, **inputs: Any) -> Any:
        self.events = []
        result = carrara.run_sync(
            self.load(yaml, {"tools.py": tools}).workflow,
            inputs={"text": "x", **inputs},
            engines={"ar": ScriptedEngine("ar", self.answer)},
            journal=self.journal,
            listeners=[self.events.append],
            run_id=self.run_id,
        )
        self.run_id = result.run_id
        return result.value

    def done_again(self) -> set[str]:
        """The paths of steps that were not taken from the journal, without workflows."""
        done = {e.path for e in self.events if isinstance(e, StepFinished) and not e.reused}
        return {
            path for path in done if not any(d != path and d.startswith(path) for d in done)
        } - {"p/maybe"}

    def changed(self) -> dict[str, str]:
        return {e.path: e.what for e in self.events if isinstance(e, StepChanged)}


@pytest.fixture
def journaled(load_text: Load, tmp_path: Path, any_answer: Any) -> Journaled:
    made = Journaled(load_text, tmp_path, any_answer)
    made.run(CHAIN)
    return made


def test_a_finished_run_is_taken_whole_from_the_journal(journaled: Journaled) -> None:
    before = journaled.run(CHAIN)
    assert journaled.done_again() == set()
    assert before == journaled.run(CHAIN)


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("Other", "Another", {"p/other"}),
        ("Name {{", "The name {{", {"p/names[0]"}),
        ("least: 1", "least: 2", {"p/count"}),
        ("End {{", "The end {{", {"p/end"}),
        ("count > 0", "count > -1", set()),
        ("Maybe {{", "Perhaps {{", {"p/maybe/maybe"}),
        ("text: str}", "text: str, more: str?}", set()),
        ("types: {Part: {name: str}}", "types: {Part: {name: str}, Other: {x: int}}", set()),
        ("steps:\n", "name: p\n    description: Something.\n    steps:\n", set()),
        ('llm: "Other"', 'llm: "Other", retries: 3, timeout: 9m', set()),
    ],
)
def test_a_change_runs_again_what_it_changes_and_nothing_else(
    journaled: Journaled, old: str, new: str, again: set[str]
) -> None:
    assert old in CHAIN
    journaled.run(CHAIN.replace(old, new))
    assert journaled.done_again() == again
    assert set(journaled.changed()) == again


def test_a_changed_function_runs_again(journaled: Journaled) -> None:
    journaled.run(CHAIN, TOOLS.replace("len(parts)", "len(parts) + 1"))
    assert journaled.done_again() == {"p/count", "p/end"}


def test_another_input_runs_again_what_depends_on_it(journaled: Journaled) -> None:
    journaled.run(CHAIN, text="y")
    assert journaled.done_again() == {"p/parts"}


def test_a_changed_field_runs_again_the_step_and_what_sees_it(journaled: Journaled) -> None:
    journaled.run(CHAIN.replace("{Part: {name: str}}", "{Part: {name: str, n: int}}"))
    assert journaled.done_again() == {"p/parts", "p/names[0]", "p/count", "p/kept", "p/end"}


def test_turns_of_a_repeated_step_are_taken_from_the_journal(
    load_text: Load, tmp_path: Path
) -> None:
    text = "steps: {s: {repeat: {max: 3}, llm: '{{ previous or 0 }}'}}\n"
    journaled = Journaled(load_text, tmp_path, lambda request: "the same")
    first = journaled.run(text.replace("steps:", "inputs: {text: str}\nsteps:"))
    assert journaled.run(text.replace("steps:", "inputs: {text: str}\nsteps:")) == first
    assert [
        e.reused for e in journaled.events if isinstance(e, StepFinished) and e.path == "p/s/s"
    ] == [
        True,
        True,
        True,
    ]

"""Workflows in plain Python: handles, branches, loops, recursion, agents, sub-workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

import carrara
from carrara import Columns, Handle, StepError, Table, later, llm, step, workflow
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import HandleError, ScopeError
from carrara.workflows.errors import RenderError

Answers = Callable[[dict[str, Any]], dict[str, ScriptedEngine]]


class Recipe(BaseModel):
    title: str
    minutes: int


@dataclass
class Order:
    recipe: Recipe
    count: int


@llm
def extract(doc: str) -> Recipe:
    """Extract the recipe: {{ doc }}"""
    ...


@llm
def course(recipe: Recipe) -> Literal["main", "dessert"]:
    """Which course is {{ recipe.title }}?"""
    ...


@step
def double(number: int) -> int:
    return 2 * number


@step
async def add(left: int, right: int = 1) -> int:
    return left + right


def run(definition: Any, *args: Any, **kwargs: Any) -> Any:
    return carrara.run_sync(definition, *args, **kwargs).value


def test_the_example_of_the_docs_runs(answers: Answers) -> None:
    @workflow
    async def cookbook(docs: list[str]) -> dict[str, str]:
        recipes = extract.map(docs)
        courses = course.map(recipes)
        return {r.title: c for r, c in zip(await recipes, await courses, strict=True)}

    engines = answers(
        {
            "Extract the recipe: a": {"title": "Soup", "minutes": 5},
            "Extract the recipe: b": {"title": "Cake", "minutes": 60},
            "course is Soup": "main",
            "course is Cake": "dessert",
        }
    )
    found = run(cookbook, ["a", "b"], engines=engines)
    assert found == {"Soup": "main", "Cake": "dessert"}
    assert len(engines["ar"].requests) == 4


def test_a_step_gives_a_handle_at_once_and_handles_make_edges() -> None:
    @workflow
    def chain(number: int) -> Handle[int]:
        handle = double(double(number))
        assert isinstance(handle, Handle)
        return handle

    assert run(chain, 3) == 12


def test_handles_may_lie_in_lists_dicts_and_dataclasses() -> None:
    @step
    def total(numbers: list[int], more: dict[str, int], order: Order) -> int:
        return sum(numbers) + sum(more.values()) + order.count + order.recipe.minutes

    @workflow
    async def collect() -> int:
        recipe = Recipe.model_construct(title="x", minutes=double(10))
        order = Order(recipe, later(double(5)))
        return await total([later(double(1)), 2], {"a": double(3)}, order)

    assert run(collect) == 2 + 2 + 6 + 10 + 20


def test_branches_and_loops_are_plain_python() -> None:
    @workflow
    async def collatz(number: int) -> list[int]:
        seen = [number]
        while seen[-1] != 1:
            if seen[-1] % 2:
                seen.append(await add(3 * seen[-1]))
            else:
                seen.append(seen[-1] // 2)
        return seen

    assert run(collatz, 6) == [6, 3, 10, 5, 16, 8, 4, 2, 1]


def test_a_workflow_may_call_itself() -> None:
    @workflow
    async def fibonacci(number: int) -> int:
        if number < 2:
            return number
        return await add(fibonacci(number - 1), fibonacci(number - 2))

    assert run(fibonacci, 9) == 34


def test_a_sub_workflow_is_a_step_of_its_own() -> None:
    @workflow
    async def inner(number: int) -> int:
        return await double(number) + 1

    @workflow
    def outer(numbers: list[int]) -> Handle[list[int]]:
        return inner.map(numbers)

    result = carrara.run_sync(outer, [1, 2, 3])
    assert result.value == [3, 5, 7]


def test_an_agent_loops_until_it_is_done(answers: Answers) -> None:
    class Action(BaseModel):
        tool: Literal["search", "stop"]
        argument: str

    @llm
    def decide(question: str, notes: list[str]) -> Action:
        """Question: {{ question }}. Notes: {{ notes }}. What next?"""
        ...

    @step(inline=True)
    def search(query: str) -> str:
        return f"found {query}"

    @workflow
    async def agent(question: str) -> list[str]:
        notes: list[str] = []
        while (action := await decide(question, notes)).tool != "stop":
            notes.append(await search(action.argument))
        return notes

    engines = answers(
        {
            "Notes: []": {"tool": "search", "argument": "one"},
            'Notes: ["found one"]': {"tool": "search", "argument": "two"},
            'Notes: ["found one", "found two"]': {"tool": "stop", "argument": ""},
        }
    )
    assert run(agent, "why?", engines=engines) == ["found one", "found two"]


def test_a_map_gives_results_in_order_and_runs_at_most_limit_at_once() -> None:
    running = most = 0

    @step
    async def slow(number: int, factor: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number):
            await asyncio.sleep(0)
        running -= 1
        return number * factor

    @workflow
    async def fan(numbers: list[int]) -> list[int]:
        return await slow.map(numbers, limit=3, factor=double(1))

    assert run(fan, list(range(10))) == [2 * n for n in range(10)]
    assert most == 3


def test_a_map_takes_its_common_arguments_by_position_too() -> None:
    @workflow
    async def fan() -> list[int]:
        return await add.map([1, 2], 10)

    assert run(fan) == [11, 12]


def test_independent_steps_run_side_by_side() -> None:
    both = asyncio.Event()

    @step
    async def first() -> str:
        await both.wait()
        return "first"

    @step
    async def second() -> str:
        both.set()
        return "second"

    @workflow
    async def together() -> list[str]:
        one, two = first(), second()
        return [await one, await two]

    assert run(together) == ["first", "second"]


@pytest.mark.parametrize(
    "misuse", [bool, len, list, str.format, lambda h: h.title, lambda h: h + 1, lambda h: h["a"]]
)
def test_a_handle_used_as_a_value_says_that_it_must_be_awaited(
    misuse: Callable[[Any], Any],
) -> None:
    @workflow
    async def careless() -> None:
        misuse(double(1))

    with pytest.raises((HandleError, TypeError)):
        run(careless)


def test_outside_a_workflow_a_step_is_its_function() -> None:
    assert double(4) == 8
    assert double.map([1, 2]) == [2, 4]

    @step
    def quadruple(number: int) -> Any:
        return double(double(number))

    @workflow
    async def nested() -> int:
        found: int = await quadruple(2)
        return found

    assert run(nested) == 8


def test_an_llm_step_in_another_steps_body_asks_the_engines_of_the_run(answers: Answers) -> None:
    @step
    async def careful(doc: str) -> str:
        recipe = await extract(doc)
        return recipe.title

    @workflow
    async def outer() -> str:
        return await careful("a")

    engines = answers({"Extract": {"title": "Soup", "minutes": 5}})
    assert run(outer, engines=engines) == "Soup"


def test_without_a_model_around_it_an_llm_step_says_what_to_do() -> None:
    with pytest.raises(ScopeError, match=r"async with carrara.session\(\)"):
        asyncio.run(extract("x"))  # type: ignore[arg-type]


def test_a_workflow_called_outside_says_how_to_run_it() -> None:
    @workflow
    async def alone() -> None:
        return None

    with pytest.raises(ScopeError, match=r"await carrara.run\(alone, ...\)"):
        alone()


def test_a_single_step_runs_like_a_workflow(answers: Answers) -> None:
    assert run(double, 4) == 8
    engines = answers({"Extract": {"title": "Soup", "minutes": 5}})
    assert run(extract, doc="x", engines=engines) == Recipe(title="Soup", minutes=5)


class TestTypedAnswers:
    def test_a_table_comes_back_as_typed_rows(self, answers: Answers) -> None:
        class Item(BaseModel):
            name: str
            grams: int | None

        @llm
        def shopping(text: str) -> Table[Item]:
            """List: {{ text }}"""
            ...

        engines = answers({"List": "| name | grams |\n|---|---|\n| flour | 500 |\n| salt | |"})
        found = run(shopping, "x", engines=engines)
        assert found == Table(
            (Item(name="flour", grams=500), Item(name="salt", grams=None)), ("name", "grams")
        )

    def test_given_columns_make_plain_rows(self, answers: Answers) -> None:
        @llm
        def shopping(text: str) -> Annotated[Table, Columns("name", "grams:int")]:  # type: ignore[type-arg]
            """List: {{ text }}"""
            ...

        engines = answers({"List": "| name | grams |\n|---|---|\n| flour | 500 |"})
        assert list(run(shopping, "x", engines=engines)) == [{"name": "flour", "grams": 500}]

    def test_a_yes_becomes_true(self, answers: Answers) -> None:
        @llm
        def is_vegan(doc: str) -> bool:
            """Is it vegan? {{ doc }}"""
            ...

        assert run(is_vegan, "x", engines=answers({"vegan": "yes"})) is True

    def test_an_optional_choice_may_be_none(self, answers: Answers) -> None:
        @llm
        def season(doc: str) -> Literal["summer", "winter"] | None:
            """When? {{ doc }}"""
            ...

        assert run(season, "x", engines=answers({"When": "none"})) is None


class TestValidators:
    def test_a_refused_answer_is_asked_for_again_with_the_reason(self) -> None:
        replies = iter(["Paris", "Rome"])

        def known(answer: str, text: str) -> None:
            if answer not in text:
                raise ValueError(f"{answer!r} does not stand in the text")

        @llm(validate=[known])
        def capital(text: str) -> str:
            """Which city is named in: {{ text }}"""
            ...

        engine = ScriptedEngine("ar", lambda request: next(replies))
        assert run(capital, "Rome is old.", engines={"ar": engine}) == "Rome"
        assert "'Paris' does not stand in the text" in engine.requests[1].messages[-1].content

    def test_a_validator_may_say_no(self) -> None:
        def short(answer: str) -> bool:
            return len(answer) < 5

        @llm(validate=[short], repair="off")
        def word(text: str) -> str:
            """A word like {{ text }}"""
            ...

        engine = ScriptedEngine("ar", lambda request: "much too long")
        with pytest.raises(StepError, match="refused by 'short'"):
            run(word, "x", engines={"ar": engine})


def test_examples_and_system_message_are_part_of_the_conversation() -> None:
    @llm(
        system="You know {{ cuisine }} food.",
        examples=[({"dish": "pizza", "cuisine": ""}, Recipe(title="Pizza", minutes=30))],
        temperature=0.5,
        seed=3,
        max_tokens=99,
        stop=["##"],
    )
    def guess(dish: str, cuisine: str = "French") -> Recipe:
        """The recipe of {{ dish }}"""
        ...

    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return '{"title": "x", "minutes": 1}'

    run(guess, "soup", engines={"ar": ScriptedEngine("ar", reply)})
    (request,) = seen
    assert [(m.role, m.content.partition("\n")[0]) for m in request.messages] == [
        ("system", "You know French food."),
        ("user", "The recipe of pizza"),
        ("assistant", '{"title": "Pizza", "minutes": 30}'),
        ("user", "The recipe of soup"),
    ]
    assert request.sampling.temperature == 0.5
    assert request.sampling.seed == 3
    assert request.limits.max_tokens == 99
    assert request.stop == ("##",)


def test_an_empty_prompt_is_an_error_of_the_step() -> None:
    @llm
    def say(text: str) -> str:
        """{{ text }}"""
        ...

    with pytest.raises(StepError, match="the prompt is empty for these inputs") as caught:
        run(say, " ", engines={"ar": ScriptedEngine("ar", ["x"])})
    assert isinstance(caught.value.__cause__, RenderError)


def test_a_prompt_that_cannot_be_rendered_is_not_tried_again() -> None:
    @llm(retries=3)
    def say(thing: dict[str, str]) -> str:
        """{{ thing.missing }}"""
        ...

    with pytest.raises(StepError, match="has no attribute 'missing'") as caught:
        run(say, {}, engines={"ar": ScriptedEngine("ar", ["x"])})
    assert caught.value.attempt == 1

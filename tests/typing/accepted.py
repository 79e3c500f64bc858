# mypy: disable-error-code="empty-body"
"""Code that type checkers must accept. The wanted types stand in `assert_type`; nothing here is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, assert_type

import carrara
from carrara import Columns, Handle, RunResult, Table, later, llm, step, workflow


@dataclass
class Recipe:
    title: str
    minutes: int


@dataclass
class Order:
    recipe: Recipe
    count: int


@dataclass
class Item:
    name: str
    grams: int


Course = Literal["starter", "main", "dessert"]
Plain = Annotated[Table[dict[str, object]], Columns("name", "grams:int")]


@llm
def extract(doc: str) -> Recipe:
    """Extract the recipe: {{ doc }}"""
    ...


@llm(engine="ar", tags=["reasoning"], retries=2)
def classify(recipe: Recipe, hint: str = "") -> Course:
    """Which course is {{ recipe }}? {{ hint }}"""
    ...


@llm
async def shopping(recipes: list[Recipe]) -> Table[Item]:
    """A shopping list for {{ recipes }}"""
    ...


@llm
def plain_table(recipe: Recipe) -> Plain:
    """The ingredients of {{ recipe }}"""
    ...


@step
def double(number: int) -> int:
    return 2 * number


@step(retries=3, timeout_s=10, concurrency=4)
async def fetch(url: str, *, tries: int = 1) -> str:
    return url * tries


@step(inline=True)
def join(parts: Sequence[str], separator: str = ", ") -> str:
    return separator.join(parts)


@step
def report(title: str, recipes: list[Recipe], courses: list[Course], table: Table[Item]) -> str:
    return title


@step
def price(order: Order) -> float:
    return 1.0


@workflow
async def one(url: str) -> Recipe:
    return await extract(fetch(url))


@workflow
def chain(url: str) -> Handle[Recipe]:
    return extract(fetch(url))


@workflow(name="book")
async def cookbook(urls: list[str]) -> str:
    docs = fetch.map(urls, tries=2)
    assert_type(docs, Handle[list[str]])
    recipes = extract.map(docs)
    assert_type(recipes, Handle[list[Recipe]])
    courses = classify.map(recipes, limit=4)
    assert_type(courses, Handle[list[Course]])
    table = shopping(recipes)
    assert_type(table, Handle[Table[Item]])
    assert_type(await table, Table[Item])
    for item in await table:
        assert_type(item, Item)
    text = report("Book", recipes, courses, table)
    assert_type(await text, str)
    return await text


@workflow
async def calls() -> None:
    doc = fetch("x")
    assert_type(doc, Handle[str])
    first = extract(doc)
    assert_type(first, Handle[Recipe])
    assert_type(await first, Recipe)
    assert_type(classify(first), Handle[Course])
    assert_type(classify(first, "hint"), Handle[Course])
    assert_type(classify(first, doc), Handle[Course])
    assert_type(classify(Recipe("a", 1), hint="b"), Handle[Course])
    assert_type(classify(recipe=later(first), hint="b"), Handle[Course])
    assert_type(price(Order(later(first), 3)), Handle[float])
    assert_type(join([doc, fetch("y")]), Handle[str])
    assert_type(shopping([first, extract("y")]), Handle[Table[Item]])
    assert_type(shopping([later(first), Recipe("b", 2)]), Handle[Table[Item]])
    assert_type(extract.map([doc, fetch("y")]), Handle[list[Recipe]])
    assert_type(one("x"), Handle[Recipe])
    assert_type(one(doc), Handle[Recipe])
    assert_type(chain("x"), Handle[Recipe])
    assert_type(await cookbook(["x"]), str)
    rows = await plain_table(first)
    assert_type(rows[0], dict[str, object])
    number = double(3)
    while await number < 100:
        number = double(number)
    assert_type(await number, int)


async def outside() -> None:
    result = await carrara.run(cookbook, ["x"], journal="runs.db", concurrency=4)
    assert_type(result, RunResult[str])
    assert_type(result.value, str)
    assert_type(carrara.run_sync(one, "x").value, Recipe)
    assert_type((await carrara.run(chain, url="x")).value, Recipe)
    async with carrara.session(engines=["ar"]) as session:
        assert_type((await session.run(cookbook, ["x"])).value, str)
        assert_type((await session.run(extract, doc="x")).value, Recipe)
        assert_type(await extract("x"), Recipe)

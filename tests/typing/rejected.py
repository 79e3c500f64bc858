# mypy: disable-error-code="empty-body"
"""Code that type checkers must reject: every line marked so, and no other. Nothing here is run."""

from dataclasses import dataclass
from typing import Literal

import carrara
from carrara import Handle, later, llm, step, workflow


@dataclass
class Recipe:
    title: str


@llm
def extract(doc: str) -> Recipe:
    """Extract the recipe: {{ doc }}"""
    ...


@llm
def classify(recipe: Recipe, hint: str = "") -> Literal["main", "dessert"]:
    """Which course is {{ recipe }}? {{ hint }}"""
    ...


@step
async def fetch(url: str, *, tries: int = 1) -> str:
    return url * tries


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@workflow
async def book(urls: list[str]) -> str:
    return "".join(urls)


@workflow
async def plain_arguments() -> None:
    fetch()  # wrong
    fetch(3)  # wrong
    fetch("x", "y")  # wrong
    fetch(uri="x")  # wrong
    fetch("x", tries="2")  # wrong
    fetch("x", trys=2)  # wrong
    total(["a"])  # wrong


@workflow
async def handles() -> None:
    doc = fetch("x")
    recipe = extract(doc)
    extract(recipe)  # wrong
    classify(doc)  # wrong
    classify(recipe, 3)  # wrong
    classify(recipe, recipe)  # wrong
    classify(recipe, hnt="a")  # wrong
    classify(recipe=later(doc))  # wrong
    total(fetch.map(["x"]))  # wrong
    book(recipe)  # wrong


@workflow
async def forgotten_awaits() -> None:
    recipe = extract("x")
    recipe.title  # wrong  # noqa: B018
    title: str = fetch("x")  # wrong
    fetch("x") + "y"  # wrong
    len(fetch("x"))  # wrong
    for part in fetch.map(["x"]):  # wrong
        print(part, title)


@workflow
async def maps() -> None:
    fetch.map([1])  # wrong
    classify.map(fetch.map(["x"]))  # wrong
    fetch.map("x", tris=2)  # wrong
    fetch.map(["x"], limit="2")  # wrong


@workflow
async def results() -> None:
    number: int = await fetch("x")  # wrong
    recipes: Handle[list[str]] = extract.map(["x"])  # wrong
    course: Literal["starter"] = await classify(extract("x"))  # wrong
    print(number, recipes, course)


async def outside() -> None:
    title: int = (await carrara.run(book, ["x"])).value  # wrong
    async with carrara.session() as session:
        await session.run(book)  # wrong
        await session.run(book, 3)  # wrong
        await session.run(book, uls=["x"])  # wrong
    print(title)


step(retrys=3)  # wrong
llm(examples=3)  # wrong

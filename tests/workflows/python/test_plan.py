"""Plans of Python workflows: found by tracing, folded, routed, printed."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from carrara import DefinitionError, Handle, Policy, Table, llm, plan, step, workflow
from carrara.runtime.routing.accept import Accept, Judge
from carrara.runtime.routing.policy import Budget, Price, Rule
from carrara.workflows.plain import plain
from carrara.workflows.plan import Plan
from carrara.workflows.sketch import PlanEdge, PlanNode, Sketch
from carrara.workflows.steps import Workflow
from carrara.workflows.trace import Bounds


class Recipe(BaseModel):
    title: str = Field(min_length=3)
    minutes: int


@llm
def extract(doc: str) -> Recipe:
    """Extract: {{ doc }}"""
    ...


@llm(tags=["reasoning"])
def course(recipe: Recipe) -> Literal["main", "dessert"]:
    """Which course? {{ recipe }}"""
    ...


@step
def join(recipes: list[Recipe], kind: str = "") -> str:
    return kind.join(recipe.title for recipe in recipes)


@step
def count(text: str) -> int:
    return len(text)


def test_a_prompt_that_asks_to_reason_is_planned_where_the_router_would_send_it() -> None:
    @llm
    def worked_out(problem: str) -> str:
        """Solve the problem step by step. {{ problem }}"""
        ...

    @llm
    def told(problem: str) -> str:
        """Sum up: {{ problem }}"""
        ...

    @workflow
    async def both(problem: str) -> str:
        return await told(await worked_out(problem))

    first, second = plan(both).steps
    assert first.engines == ("ar",)
    assert second.engines == ("diffusion", "ar")


def edges(found: Plan) -> set[tuple[str, str, str]]:
    return {(edge.source, edge.target, edge.kind) for edge in found.edges}


def ids(found: Plan) -> list[str]:
    return [planned.node.id for planned in found.steps]


def test_handles_become_edges_and_no_step_is_run() -> None:
    @step
    def explode(text: str) -> str:
        raise AssertionError("a plan runs nothing")

    @workflow
    async def book(docs: list[str]) -> str:
        recipes = extract.map(docs)
        first = course(extract(docs[0]))
        return await explode(join(recipes, first))

    found = plan(book)
    assert ids(found) == ["extract", "extract#1", "course", "join", "explode"]
    assert edges(found) == {
        ("extract#1", "course", "data"),
        ("extract", "join", "data"),
        ("course", "join", "data"),
        ("join", "explode", "data"),
    }
    assert found.steps[0].node.fan_out
    assert found.critical_path == ("extract#1", "course", "join", "explode")
    assert (found.length, found.timed, found.traced) == (4, False, True)
    assert found.inputs == {"docs": "list[str]"}
    assert found.notes == ()


def test_what_is_called_after_a_value_was_awaited_is_marked() -> None:
    @workflow
    async def book(doc: str) -> str:
        recipe = extract(doc)
        before = course(recipe)
        if (await recipe).minutes > 0:
            return await join([await recipe])
        return await before

    found = plan(book)
    marked = {p.node.id: p.node.after_value for p in found.steps}
    assert marked == {"extract": False, "course": False, "join": True}
    assert ("extract", "join", "value") in edges(found)


def test_equal_branches_are_folded_into_one() -> None:
    @workflow
    async def book(docs: list[str]) -> str:
        return await join([extract(doc) for doc in docs])

    found = plan(book, {"docs": ["a", "b", "c"]})
    assert [(p.node.id, p.node.count) for p in found.steps] == [("extract", 3), ("join", 1)]
    assert edges(found) == {("extract", "join", "data")}


def test_a_loop_is_one_node_that_repeats_and_ends_the_plan_with_a_note() -> None:
    @llm
    def decide(notes: list[str]) -> Literal["search", "stop"]:
        """{{ notes }}"""
        ...

    @step
    def search(notes: list[str]) -> str:
        return ""

    @workflow
    async def agent(question: str) -> list[str]:
        notes = [question]
        while await decide(notes) != "stop":
            notes.append(await search(notes))
        return notes

    found = plan(agent, bounds=Bounds(rounds=8))
    assert [(p.node.id, p.node.count, p.node.loop) for p in found.steps] == [
        ("decide", 8, True),
        ("search", 8, True),
    ]
    assert edges(found) == {("decide", "search", "value")}
    assert "step 'decide' was called 8 times" in found.notes[0]
    assert "decide x8 in a loop" in found.text()


def test_the_steps_of_a_sub_workflow_stand_inside_it() -> None:
    @workflow
    async def inner(doc: str) -> str:
        return await join([await extract(doc)])

    @workflow
    def outer(docs: list[str]) -> Handle[list[int]]:
        return count.map(inner.map(docs))

    found = plan(outer)
    assert ids(found) == ["inner", "count", "inner/extract", "inner/join"]
    assert [p.node.scope for p in found.steps] == ["", "", "inner", "inner"]
    assert found.critical_path == ("inner", "inner/extract", "inner/join", "count")
    assert found.length == 3
    shown = found.text().splitlines()
    assert "* critical path, 3 steps: inner (extract -> join) -> count" in shown
    assert "subgraph" in found.mermaid()


def test_recursion_is_shown_once() -> None:
    @workflow
    async def again(number: int) -> int:
        if number < 1:
            return number
        return await again(count("x"))

    found = plan(again)
    assert ids(found) == ["count", "again"]
    assert "the recursion is not shown" in found.notes[0]


def test_an_error_on_sample_values_ends_the_plan_with_its_place() -> None:
    @workflow
    async def fragile(doc: str) -> str:
        recipe = await extract(doc)
        raise LookupError(f"no {recipe.title}")

    found = plan(fragile)
    assert ids(found) == ["extract"]
    (note,) = found.notes
    assert "on sample values the workflow ended with LookupError: no sample" in note
    assert "test_plan.py:" in note


def test_a_workflow_that_catches_everything_cannot_outlive_the_bound() -> None:
    @workflow
    async def stubborn(doc: str) -> None:
        while True:
            try:
                await count(doc)
            except Exception:
                continue

    found = plan(stubborn, bounds=Bounds(rounds=6))
    assert found.steps[0].node.count == 6
    assert found.notes


def test_code_that_loops_without_a_step_is_ended_by_time() -> None:
    @workflow
    async def endless(doc: str) -> None:
        while doc != "done":
            pass

    found = plan(endless, bounds=Bounds(seconds=0.05))
    assert found.notes == (
        "the plan stops after 0.05 s in the workflow function on sample values; what comes after is not shown",
    )


def test_code_that_blocks_is_left_behind_in_time_and_named() -> None:
    free = threading.Event()

    @workflow
    async def stuck(doc: str) -> None:
        count(doc)
        free.wait()

    try:
        found = plan(stuck, bounds=Bounds(seconds=0.05))
    finally:
        free.set()
    assert ids(found) == ["count"]
    (note,) = found.notes
    assert re.match(r"the workflow function was stuck \(.*test_plan.py:\d+\) after 0.05 s", note)


def test_a_workflow_that_waits_for_the_clock_ends_its_plan_in_time() -> None:
    @workflow
    async def patient(doc: str) -> None:
        await asyncio.sleep(3600)

    @workflow
    async def polling(doc: str) -> None:
        await asyncio.to_thread(threading.Event().wait)

    for each in (patient, polling):
        found = plan(each, bounds=Bounds(seconds=0.05))
        assert "the plan stops after 0.05 s" in found.notes[0]


def test_a_sample_of_no_known_type_goes_through_json_and_models() -> None:
    @step
    def rows() -> list[dict[str, Any]]: ...

    @workflow
    async def inner(text: str) -> Recipe:
        return Recipe.model_validate({"title": text, "minutes": await count(text)})

    @workflow
    async def outer() -> str:
        found = await rows()
        handles = [inner(row["text"]) for row in found]
        made = [await handle for handle in handles]
        return json.dumps([plain(made), plain(found), " ".join(row["tag"] for row in found)])

    assert plan(outer).notes == ()


def test_a_plan_is_bounded_in_its_nodes() -> None:
    @workflow
    async def wide() -> None:
        for number in range(10**6):
            count(str(number))

    found = plan(wide, bounds=Bounds(nodes=40))
    assert found.steps[0].node.count == 40
    assert found.notes == ("the plan stops at 40 steps",)


def test_a_task_group_in_a_workflow_is_traced() -> None:
    async def one(doc: str) -> int:
        return (await extract(doc)).minutes

    @workflow
    async def grouped(docs: list[str]) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(doc)) for doc in docs]
        return await count(str(sum(task.result() for task in tasks)))

    found = plan(grouped)
    assert edges(found) == {("extract", "count", "value")}


def test_values_of_unknown_type_let_the_path_go_on() -> None:
    @step
    def fetch(url: str):  # type: ignore[no-untyped-def]
        return {"items": [url]}

    @workflow
    async def crawl(urls):  # type: ignore[no-untyped-def]
        for url in urls:
            page = await fetch(url)
            for item in page["items"]:
                if page.depth > 3 and item in page.seen:
                    count(item + "x")

    assert ids(plan(crawl)) == ["fetch", "count"]


def test_a_plan_can_be_made_inside_asyncio() -> None:
    @workflow
    async def small(doc: str) -> int:
        return await count(doc)

    async def main() -> Plan:
        return plan(small)

    assert ids(asyncio.run(main())) == ["count"]


class TestRouting:
    @pytest.fixture
    def found(self) -> Plan:
        @workflow
        def book(doc: str) -> Handle[str]:
            return course(extract(doc))

        return plan(book)

    def test_the_policy_names_engines_and_reasons(self, found: Plan) -> None:
        assert [(p.engines, p.reason) for p in found.steps] == [
            (("diffusion", "ar"), "typed extraction"),
            (("ar",), "the step is tagged 'reasoning'"),
        ]

    def test_another_policy_routes_otherwise(self) -> None:
        policy = Policy("mine", (Rule(("ar",), reason="because"),))
        planned = plan(extract_only, policy=policy)
        assert planned.steps[0].engines == ("ar",)
        assert planned.steps[0].reason == "because"

    def test_an_engine_that_is_not_open_is_said(self) -> None:
        @llm(engine="difusion")
        def ask(doc: str) -> str:
            """{{ doc }}"""
            ...

        @workflow
        def wrong(doc: str) -> Handle[str]:
            return ask(doc)

        planned = plan(wrong)
        assert planned.steps[0].engines == ()
        assert "Did you mean 'diffusion'" in planned.steps[0].reason


@workflow
def extract_only(doc: str) -> Handle[Recipe]:
    return extract(doc)


def test_learned_times_decide_the_critical_path() -> None:
    @workflow
    async def book(doc: str) -> int:
        slow = count(doc)
        recipe = extract(doc)
        text = join([await recipe])
        return await count(text) + await slow

    by_name = plan(book, durations={"count": 1.0, "extract": 0.1, "join": 0.1})
    assert by_name.critical_path == ("extract", "join", "count#1")
    assert (by_name.timed, round(by_name.length, 3)) == (True, 1.2)
    by_path = plan(book, durations={"book/count": 9.0, "count": 1.0, "extract": 0.1, "join": 0.1})
    assert by_path.critical_path == ("count",)


class TestPrinting:
    @pytest.fixture
    def found(self) -> Plan:
        @llm
        def shopping(recipes: list[Recipe]) -> Table[Recipe]:
            """{{ recipes }}"""
            ...

        @workflow(name="book")
        async def book(docs: list[str], title: str = "Book") -> str:
            recipes = extract.map(docs)
            table = shopping(recipes)
            text = join(recipes, later_course(recipes))
            return title + await text + (await table).markdown()

        @step
        def later_course(recipes: list[Recipe]) -> str:
            return ""

        return plan(book)

    def test_the_text_is_a_tree_with_contracts_and_engines(self, found: Plan) -> None:
        assert found.text().splitlines() == [
            "book(docs: list[str], title: str)",
            "└─ extract for each  llm -> json Recipe  [diffusion, then ar: typed extraction]  *",
            "   ├─ shopping  llm -> table of title, minutes  "
            "[diffusion, then ar: typed extraction]",
            "   └─ later_course  python  *",
            "      └─ join  python  also after extract  *",
            "",
            "* critical path, 3 steps: extract -> later_course -> join",
        ]

    def test_the_flowchart_names_nodes_and_edges(self, found: Plan) -> None:
        lines = found.mermaid().splitlines()
        assert lines[0] == "flowchart TD"
        assert '  n0["extract for each<br/>llm -&gt; json Recipe"]' in lines
        assert "  n0 --> n1" in lines
        assert "  class n0,n2,n3 critical" in lines

    def test_the_data_is_json_with_whole_contracts(self, found: Plan) -> None:
        data: dict[str, Any] = json.loads(json.dumps(found.data()))
        assert data["workflow"] == "book"
        assert data["nodes"][1]["contract"]["columns"][0] == {"name": "title", "kind": "string"}
        assert data["nodes"][0]["engines"] == ["diffusion", "ar"]
        assert {"from": "extract", "to": "join", "kind": "data"} in data["edges"]
        assert data["critical_path"] == ["extract", "later_course", "join"]


def declared(*graph_edges: tuple[str, str]) -> Workflow[..., Any]:
    names = dict.fromkeys(name for edge in graph_edges for name in edge)
    sketch = Sketch(
        [PlanNode(name, name, "python", when="x" if name == "b" else "") for name in names],
        [PlanEdge(*edge) for edge in graph_edges],
    )
    return Workflow(
        "declared",
        lambda: None,
        extract_only.parameters,
        fingerprint="",
        static_plan=lambda: sketch,
    )


def test_a_declared_graph_is_taken_as_it_is() -> None:
    found = plan(declared(("a", "b"), ("b", "c"), ("a", "c")))
    assert not found.traced
    assert found.critical_path == ("a", "b", "c")
    assert "b  python  when x" in found.text()


def test_a_circle_in_a_declared_graph_is_an_error_that_names_it() -> None:
    with pytest.raises(DefinitionError, match="in a circle: a -> b -> a"):
        plan(declared(("a", "b"), ("b", "a")))


def test_a_judge_that_no_engine_is_called_like_is_told() -> None:
    judged = {
        name: Policy("mine", accept={"json": Accept(judge=Judge(name))})
        for name in ("ar", "oracle")
    }
    assert plan(extract_only, policy=judged["ar"]).unknown == ()
    found = plan(extract_only, policy=judged["oracle"])
    [told] = found.unknown
    assert told.startswith("unknown engine 'oracle', the judge of policy 'mine'")
    assert f"mistake: {told}" in found.text()
    assert found.data()["mistakes"] == [told]
    given = plan(extract_only, policy=judged["oracle"], engines=["ar", "oracle"])
    assert given.unknown == ()


def test_a_budget_that_cannot_count_a_server_is_told() -> None:
    @llm
    def mood(text: str) -> Literal["glad", "sad"]:
        """{{ text }}"""

    @llm(engine="ollama")
    def tone(text: str) -> str:
        """{{ text }}"""

    @workflow
    def letters(text: str) -> tuple[Any, Any]:
        return mood(text), tone(text)

    rules = (Rule(("diffusion", "openai", "vllm-server")),)
    told = plan(letters, policy=Policy(rules=rules, budget=Budget(cost=2.0))).notes
    assert [re.findall("price of engine '([a-z-]+)'", note) for note in told] == [
        ["vllm-server"],
        ["ollama"],
    ]
    prices = {"vllm-server": Price(0.1, 0.2), "ollama": Price()}
    assert plan(letters, policy=Policy(rules=rules, budget=Budget(2.0), prices=prices)).notes == ()
    assert plan(letters, policy=Policy(rules=rules, budget=Budget(tokens=9))).notes == ()

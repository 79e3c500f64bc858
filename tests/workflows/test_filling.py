"""`carrara.infill` and `carrara.refine` in workflows, in sessions, and out of a journal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import carrara
from carrara import Choice, Hole
from carrara.engines.contract import Infill, Json, Text
from carrara.engines.errors import EngineRefused
from carrara.engines.request import Completion, Confidence, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.filling import Filled, Refined

PARTS = ["Dear ", Hole(4), ", your order is ", Hole(2, Choice(("late", "sent"))), "."]
TEXT = "Dear Ann, your order is sent."


@carrara.workflow
async def letter(name: str) -> str:
    filled = carrara.infill(["Dear ", Hole(4), f", greetings from {name}."], "Write to Ann.")
    better = await carrara.refine((await filled).text, spans=[(0, 4)])
    return better.text


def filler(**fields: float) -> ScriptedEngine:
    def reply(request: Request) -> Completion:
        if isinstance(request.output, Infill):
            text = "".join(p if isinstance(p, str) else "Ann" for p in request.output.parts)
            if len(request.output.holes) == 2:
                text = TEXT
            sure = {f"/{n}": 0.9 - n / 10 for n in range(len(request.output.holes))}
            return Completion(text, request.output.parse(text), Confidence(0.9, sure))
        assert request.draft is not None
        text = "Hello" + request.draft.text[4:]
        return Completion(text, text, Confidence(0.8, spans=(0.8,)))

    return ScriptedEngine("filler", reply, can=("infill", "drafts"))


def test_holes_come_back_with_values_and_confidence() -> None:
    engine = filler()

    async def main() -> Filled:
        async with carrara.session(engines={"filler": engine}):
            return await carrara.infill(PARTS, "An order was sent to Ann.", engine="filler")  # type: ignore[misc, no-any-return]

    found = asyncio.run(main())
    assert found == Filled(TEXT, ("Ann", "sent"), (0.9, 0.8))
    [asked] = engine.requests
    assert asked.messages[0].content.startswith("An order was sent to Ann.\n\n")
    assert "Dear ____(1), your order is ____(2)." in asked.messages[0].content
    assert "Blank 2 holds one of: late, sent." in asked.messages[0].content


def test_a_doubtful_hole_makes_the_next_engine_fill_the_text() -> None:
    unsure = Completion(TEXT, ("Ann", "sent"), Confidence(0.4, {"/0": 0.2, "/1": 0.9}))
    first = ScriptedEngine("diffusion", [unsure], can=("infill",))
    other = TEXT.replace("Ann", "Bo")
    sure = Completion(other, ("Bo", "sent"), Confidence(0.9, {"/0": 0.9, "/1": 0.9}))
    second = ScriptedEngine("ar", [sure], can=("infill",))

    async def main() -> Filled:
        async with carrara.session(engines={"diffusion": first, "ar": second}):
            return await carrara.infill(PARTS, "An order was sent.")  # type: ignore[misc, no-any-return]

    assert asyncio.run(main()) == Filled(other, ("Bo", "sent"), (0.9, 0.9))
    assert [len(engine.requests) for engine in (first, second)] == [1, 1]


def test_a_workflow_chains_them_and_its_journal_has_them(tmp_path: Path) -> None:
    engine = filler()

    async def main() -> list[str]:
        async with carrara.session(
            engines={"filler": engine}, journal=tmp_path / "runs.db"
        ) as session:
            first = await session.run(letter, "Bob")
            again = await session.start(letter, ("Bob",), run_id=first.run_id)
            return [first.value, again.value]

    assert asyncio.run(main()) == ["Hello Ann, greetings from Bob."] * 2
    assert len(engine.requests) == 2
    assert engine.requests[1].draft is not None
    assert engine.requests[1].draft.spans == ((0, 4),)


def test_a_structured_draft_is_refined_under_its_contract() -> None:
    schema = Json.of({"type": "object", "properties": {"a": {"type": "string"}}})
    draft = json.dumps({"a": "one"})
    reply = Completion('{"a": "two"}', {"a": "two"}, Confidence(0.9, spans=(0.7,)))
    engine = ScriptedEngine("e", [reply], can=("drafts",))

    async def main() -> Refined:
        async with carrara.session(engines={"e": engine}):
            return await carrara.refine(draft, [(7, 10)], contract=schema, engine="e")  # type: ignore[misc, no-any-return]

    assert asyncio.run(main()) == Refined('{"a": "two"}', {"a": "two"}, (0.7,))


@pytest.mark.parametrize(("can", "output"), [((), Text()), (("infill",), Json.of({}))])
def test_an_engine_that_cannot_refine_is_not_asked(can: tuple[str, ...], output: object) -> None:
    engine = ScriptedEngine("plain", ["x"], can=can)  # type: ignore[arg-type]

    async def main() -> None:
        async with carrara.session(engines={"plain": engine}):
            contract = None if isinstance(output, Text) else output
            with pytest.raises(Exception, match="refines no such draft") as caught:
                await carrara.refine("abc", [(0, 1)], contract=contract, engine="plain")  # type: ignore[misc, arg-type]
            found = (
                caught.value if isinstance(caught.value, EngineRefused) else caught.value.__cause__
            )
            assert isinstance(found, EngineRefused)

    asyncio.run(main())
    assert not engine.requests

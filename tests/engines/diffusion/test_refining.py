"""Refining a draft: the named spans change, every other byte stays, and structure holds."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import (
    Choice,
    Column,
    Contract,
    Hole,
    Infill,
    Json,
    Regex,
    Table,
    Text,
)
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.settings import Settings
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineRefused
from carrara.engines.local import LocalModel
from carrara.engines.refining import merged
from carrara.engines.request import Completion, Draft, Limits, Message, Request
from carrara.engines.verified.engine import VerifiedEngine

T = TypeVar("T")
Open = Callable[[Callable[[Any], Awaitable[T]], str], T]
LETTER = "Dear Ann,\n\nthe cät sat on the mat. \U0001f600 It was 3 o'clock:  two spaces.\n"
PERSON = Json.of(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["cat", "dog"]},
            "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "kind", "age", "tags"],
    }
)
VALUE = {"name": 'Ann "the" Höh\n\\', "kind": "dog", "age": 31, "tags": ["one two", "", "日本"]}
WRITTEN = json.dumps(VALUE, ensure_ascii=False)


@pytest.fixture
def opened(tiny_folder: Path) -> Callable[..., Any]:
    def run(work: Callable[[Any], Awaitable[T]], kind: str = "diffusion") -> T:
        async def main() -> T:
            local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
            settings = Settings(block_tokens=48, threshold=0.3, slot_tokens=6, slots_grow=True)
            engine: Engine = {
                "diffusion": lambda: DiffusionEngine(local, settings=settings),
                "ar": lambda: AutoregressiveEngine(local),
                "verified": lambda: VerifiedEngine(local, settings=settings),
            }[kind]()
            async with engine:
                return await work(engine)

        return asyncio.run(main())

    return run


def request(output: Contract, draft: Draft, tokens: int = 200) -> Request:
    return Request((Message("user", "improve"),), output, Limits(tokens), draft=draft)


def kept(draft: str, found: str, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether all text outside of the spans is there, in order, and nothing else."""
    at, parts = 0, []
    for start, end in merged(spans):
        parts.append(draft[at:start])
        at = end
    parts.append(draft[at:])
    if not (found.startswith(parts[0]) and found.endswith(parts[-1])):
        return False
    place = len(parts[0])
    for part in parts[1:-1]:
        place = found.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return place <= len(found) - len(parts[-1])


def some_spans(text: str, seed: int) -> tuple[tuple[int, int], ...]:
    chance = random.Random(seed)
    spans = []
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(text))
        spans.append((start, min(len(text), start + chance.randrange(0, 9))))
    return tuple(spans)


@pytest.mark.parametrize("kind", ["diffusion", "ar", "verified"])
def test_spans_of_a_text_change_and_nothing_else(kind: str, opened: Callable[..., Any]) -> None:
    drafts = [Draft(LETTER, spans=some_spans(LETTER, seed)) for seed in range(8)]
    if kind != "diffusion":  # whose bound on a hole is one of characters, and the context is short
        drafts = [Draft(LETTER, spans=draft.spans[:1]) for draft in drafts[:3]]

    async def work(engine: Engine) -> list[Completion]:
        return list(await asyncio.gather(*(engine.complete(request(Text(), d)) for d in drafts)))

    for draft, found in zip(drafts, opened(work, kind), strict=True):
        assert kept(LETTER, found.text, draft.spans)
        assert found.value == found.text
        assert len(found.confidence.spans) == len(draft.spans)
        assert not found.confidence.fields
        assert all(sure is None or 0 <= sure <= 1 for sure in found.confidence.spans)


def test_a_share_of_a_text_is_renoised_and_the_rest_stays(opened: Callable[..., Any]) -> None:
    async def work(engine: Engine) -> list[Completion]:
        drafts = [Draft(LETTER, strength=strength) for strength in (0.05, 0.05, 1.0)]
        return [await engine.complete(request(Text(), draft)) for draft in drafts]

    little, again, all_of_it = opened(work)
    assert little.text == again.text
    same = [
        piece for piece in ("Dear", "cät", "mat", "\U0001f600", "clock") if piece in little.text
    ]
    assert len(same) >= 3
    assert len(all_of_it.confidence.spans) == 1


def test_a_strong_draft_decides_choices_anew(opened: Callable[..., Any]) -> None:
    """Of two labels random weights prefer one, whatever the draft says."""
    choice = Choice(("yes", "no"))

    async def work(engine: Engine) -> list[Completion]:
        drafts = [Draft(text, strength=1.0) for text in ("yes", "no")]
        found = [await engine.complete(request(choice, draft)) for draft in drafts]
        return [*found, await engine.complete(request(PERSON, Draft(WRITTEN, strength=1.0)))]

    yes, no, person = opened(work)
    assert yes.text == no.text
    assert (no.usage.passes, set(no.confidence.fields)) == (1, {""})
    assert {"/name", "/kind", "/age", "/tags/0"} <= set(person.confidence.fields)
    assert len(person.value["tags"]) == 3


def test_a_weak_draft_renoises_the_same_share_each_time(opened: Callable[..., Any]) -> None:
    contract = Json.of({"type": "array", "items": {"type": "boolean"}, "minItems": 20})
    text = json.dumps([True, False] * 10)

    async def work(engine: Engine) -> list[Completion]:
        draft = Draft(text, strength=0.3)
        return [await engine.complete(request(contract, draft)) for _ in range(2)]

    first, second = opened(work)
    assert set(first.confidence.fields) == set(second.confidence.fields)
    assert len(first.confidence.fields) == 6


@pytest.mark.parametrize("seed", range(12))
def test_a_structured_draft_keeps_its_scaffold_and_its_other_bytes(
    seed: int, opened: Callable[..., Any]
) -> None:
    spans = some_spans(WRITTEN, seed)

    async def work(engine: Engine) -> Any:
        try:
            return await engine.complete(request(PERSON, Draft(WRITTEN, spans=spans)))
        except EngineRefused as error:
            return error

    found = opened(work)
    if isinstance(found, EngineRefused):
        assert "structure alone" in str(found)
        return
    value = PERSON.parse(found.text)
    assert list(value) == list(VALUE)
    assert len(value["tags"]) == len(VALUE["tags"])
    assert len(found.confidence.spans) == len(spans)
    for key in ("name", "age", "kind"):
        start = WRITTEN.index(f'"{key}": ')
        end = WRITTEN.index(', "', start + len(key) + 3)
        if not any(low <= end and high >= start for low, high in spans):
            assert value[key] == VALUE[key]


def test_letters_inside_a_string_change_and_those_beside_them_stay(
    opened: Callable[..., Any],
) -> None:
    at = WRITTEN.index("the")
    spans = ((at, at + 3), (WRITTEN.index("dog"), WRITTEN.index("dog") + 1))

    async def work(engine: Engine) -> Completion:
        return await engine.complete(request(PERSON, Draft(WRITTEN, spans=spans)))

    found = opened(work)
    assert found.text.startswith('{"name": "Ann \\"')
    assert '\\" Höh\\n\\\\", "kind": ' in found.text
    assert found.text.endswith(WRITTEN[WRITTEN.index(', "age"') :])
    assert found.value["kind"] in ("cat", "dog")
    assert all(found.confidence.spans)


def test_a_cell_of_a_table_is_refined_between_its_pipes(opened: Callable[..., Any]) -> None:
    table = Table((Column("a"), Column("n", "integer")))
    text = "| a | n |\n| --- | --- |\n| one \\| two | 1 |\n| three | 2 |"
    at = text.index("two")

    async def work(engine: Engine) -> Completion:
        return await engine.complete(request(table, Draft(text, spans=((at, at + 3),))))

    found = opened(work)
    assert found.text.startswith(text[:at])
    assert found.text.endswith(text[text.index(" | 1 |") :])


@pytest.mark.parametrize(
    ("output", "draft", "reason"),
    [
        (Text(), Draft("abc", spans=((2, 9),)), "characters 0 to 3, not the span 2 to 9"),
        (Text(), Draft("abc", ("/a",)), "has no fields"),
        (PERSON, Draft(WRITTEN, spans=((0, 3),)), "structure alone"),
        (PERSON, Draft(json.dumps(VALUE), spans=((12, 13),)), "differs from character"),
        (PERSON, Draft(WRITTEN, ("/name",), spans=((12, 13),)), "fields or spans, not both"),
        (Text(), Draft("abc", strength=0), "strength"),
    ],
)
def test_what_a_draft_does_not_have_is_refused(
    output: Contract, draft: Draft, reason: str, opened: Callable[..., Any]
) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(EngineRefused, match=reason):
            await engine.complete(request(output, draft))

    opened(work)


@pytest.mark.parametrize("kind", ["ar", "verified"])
def test_engines_that_write_from_left_to_right_refuse_other_drafts(
    kind: str, opened: Callable[..., Any]
) -> None:
    async def work(engine: Engine) -> None:
        for output, draft in ((Text(), Draft(LETTER)), (PERSON, Draft(WRITTEN, spans=((12, 13),)))):
            with pytest.raises(EngineRefused, match="takes no draft"):
                await engine.complete(request(output, draft))

    opened(work, kind)


@pytest.mark.parametrize("kind", ["diffusion", "ar", "verified"])
def test_every_local_engine_fills_holes(kind: str, opened: Callable[..., Any]) -> None:
    contract = Infill(
        (
            *("  Dear ", Hole(4), ",\nyou were born on ", Hole(12, Regex(r"\d{4}-\d\d-\d\d"))),
            *(" in ", Hole(4, Choice(("Rome", "Oslo", "Oslo city"))), ". It costs "),
            *(Hole(4, Json.of({"type": "number"})), ". ", Hole(3, Json.of({"type": "boolean"}))),
            *("; \U0001f600 ", Hole(3), " \n"),
        )
    )
    one = Request((Message("user", "fill"),), contract)

    async def work(engine: Engine) -> Completion:
        assert "infill" in engine.can
        assert engine.refusal(contract) is None
        return await engine.complete(one)

    found = opened(work, kind)
    assert contract.parse(found.text) == found.value
    assert found.text.startswith("  Dear ")
    assert found.text.endswith(" \n")
    assert set(found.confidence.fields) == {f"/{n}" for n in range(6)}

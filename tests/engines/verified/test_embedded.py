"""The engine on the embedded model: real prompts, every contract, the AR engine's text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.local import LocalModel
from carrara.engines.request import Limits, Message, Request
from carrara.engines.verified.engine import VerifiedEngine
from tests.engines.steadiness import products_are_steady

pytestmark = pytest.mark.weights

PERSON = Json.of(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "city": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["name", "age"],
    }
)


def ask(text: str, output: Contract, most: int = 40) -> Request:
    return Request((Message("user", text),), output, Limits(max_tokens=most))


REQUESTS = [
    ask("Write one sentence about the capital of France.", Text(), 10),
    ask("Extract the facts as JSON from: Anna Smith is 34 and lives in Berlin.", PERSON),
    ask("Which sea is near Carrara?", Choice(("the Ligurian Sea", "the Black Sea", "the Baltic"))),
    ask("Two fruits and their prices.", Table((Column("fruit"), Column("price", "number")), 1, 2)),
    ask("Two fruits.", Outline(1, 2, 2)),
    ask("When was the Pantheon built? Answer with a year.", Regex(r"in (the year )?\d+ (AD|BC)")),
]


def test_real_answers_are_those_of_the_ar_engine_in_any_company(smollm2_folder: Path) -> None:
    async def main() -> None:
        local = LocalModel.open(smollm2_folder, adapter=None)
        async with (
            AutoregressiveEngine(local) as ar,
            VerifiedEngine(local, ways=(1,)) as verified,
        ):
            wanted = [await ar.complete(request) for request in REQUESTS]
            found = await asyncio.gather(*map(verified.complete, REQUESTS))
            steady = products_are_steady(local.model)
            for one, other in zip(wanted, found, strict=True):
                if steady or one.text == other.text:
                    assert (one.text, one.value, one.stop) == (other.text, other.value, other.stop)
            assert verified.tally is not None
            assert verified.tally.accepted > 0
            if local.model.is_quick:
                for one, other in zip(wanted, found, strict=True):
                    if steady:
                        assert one.confidence == other.confidence
                    elif one.text == other.text:
                        near = pytest.approx(other.confidence.overall, abs=0.05)
                        assert one.confidence.overall == near

    asyncio.run(main())

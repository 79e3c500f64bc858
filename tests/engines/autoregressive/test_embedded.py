"""The engine on the embedded model: real answers, held contracts, the same in every batch."""

import asyncio
from pathlib import Path

import pytest

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Table, Text
from carrara.engines.local import LocalModel
from carrara.engines.request import Limits, Message, Request
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


def ask(text: str, output: Contract | None = None, most: int = 60) -> Request:
    return Request((Message("user", text),), output or Text(), Limits(max_tokens=most))


REQUESTS = [
    ask("Write one sentence about the capital of France.", most=12),
    ask("Extract the facts as JSON from: Anna Smith is 34 and lives in Berlin.", PERSON),
    ask("Is a tomato an animal? Answer yes or no.", Choice(("yes", "no"))),
    ask("Two fruits and their prices.", Table((Column("fruit"), Column("price", "number")), 1, 2)),
    ask("Two fruits.", Outline(1, 1, 2)),
]


def test_real_answers_hold_their_contracts_and_do_not_depend_on_the_batch(
    smollm2_folder: Path,
) -> None:
    async def main() -> None:
        async with AutoregressiveEngine(LocalModel.open(smollm2_folder, adapter=None)) as engine:
            together = await asyncio.gather(*map(engine.complete, REQUESTS))
            assert together[1].value["name"] == "Anna Smith"
            assert together[1].value["age"] == 34
            for request, found in zip(REQUESTS, together, strict=True):
                assert found.value is None or request.output.parse(found.text) == found.value
                assert found.value is not None or found.stop == "length"
            if not engine.local.model.is_quick:
                pytest.skip(
                    "without int8 products only float32 texts are the same in nearly every batch"
                )
            for request, found in zip(REQUESTS[:3], together, strict=False):
                alone = await engine.complete(request)
                if products_are_steady(engine.local.model):
                    assert (alone.text, alone.confidence) == (found.text, found.confidence)
                elif alone.text == found.text:
                    assert alone.confidence.overall == pytest.approx(
                        found.confidence.overall, abs=0.05
                    )

    asyncio.run(main())

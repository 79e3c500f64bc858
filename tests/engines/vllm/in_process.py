"""The engine `vllm` with a real vLLM: `python -m tests.engines.vllm.in_process MODEL`, with vLLM's interpreter.

No part of the suite, for vLLM is not among its packages. Prints what it saw; an assertion fails where it is wrong.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from carrara.engines.contract import Choice, Column, Json, Regex, Table, Text
from carrara.engines.errors import ContextOverflow
from carrara.engines.request import Limits, Message, Request
from carrara.engines.vllm.engine import VllmEngine, VllmSettings

PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 40}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
TYPED = (
    ("Ada Lovelace is 36 years old. Extract name and age.", PERSON),
    ("Is 'I love it' positive or negative?", Choice(("positive", "negative"))),
    ("A code.", Regex(r"[a-f]{3}-\d{2}")),
    ("Two fruits.", Table((Column("fruit"),), 1, 2)),
)


def asking(text: str, output: Any = None, most: int = 60) -> Request:
    return Request((Message("user", text),), output or Text(), Limits(max_tokens=most))


async def main(model: str) -> None:
    settings = VllmSettings(1024, {"enforce_eager": True, "max_num_seqs": 8})
    async with VllmEngine(model, settings=settings) as engine:
        print(engine.health().line)
        for text, output in TYPED:
            found = await engine.complete(asking(text, output))
            print(repr(found.text), found.usage, found.confidence.fields)
            assert found.value is not None
        seen: list[str] = []
        found = await engine.complete(asking("Hello!", most=12), lambda p: seen.append(p.text))
        assert seen[-1] == found.text
        begun = asyncio.Event()
        story = asking("Tell a story.", most=900)
        task = asyncio.create_task(engine.complete(story, lambda _: begun.set()))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        try:
            await engine.complete(asking("word " * 2000))
        except ContextOverflow as error:
            print(error)
        else:
            raise AssertionError("too long a prompt was taken")
    print("all well")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

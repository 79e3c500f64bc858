"""A real vLLM server, named by VLLM_URL: run by `make test-vllm`, not by the suite."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from carrara.engines.contract import Choice, Json, Regex, Text
from carrara.engines.errors import ContextOverflow
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import find_key
from carrara.engines.remote.preset import presets
from carrara.engines.remote.probe import probe
from carrara.engines.request import Limits, Message, Request

PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 40}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)


def asked(text: str, output: Any, most: int = 60, watch: Any = None) -> Any:
    url = os.environ.get("VLLM_URL", "")
    assert url, "set VLLM_URL to the base URL of a vLLM server, such as http://127.0.0.1:8000/v1"

    async def main() -> Any:
        preset = presets()["vllm-server"].but({"base_url": url}, "live")
        async with RemoteEngine("vllm-server", preset) as engine:
            request = Request((Message("user", text),), output, Limits(max_tokens=most))
            return await engine.complete(request, watch)

    return asyncio.run(main())


def test_contracts_are_held_with_confidence() -> None:
    found = asked("Ada Lovelace is 36 years old. Extract name and age.", PERSON)
    assert set(found.value) == {"name", "age"}
    assert set(found.confidence.fields) == {"/name", "/age"}
    assert asked("Is 'I love it' positive or negative?", Choice(("positive", "negative"))).value
    assert asked("A code.", Regex(r"[a-f]{3}-\d{2}")).value


def test_text_is_streamed() -> None:
    seen: list[str] = []
    found = asked("Say hello.", Text(), 12, lambda progress: seen.append(progress.text))
    assert seen[-1] == found.text
    assert found.usage.completion_tokens > 0


def test_too_long_a_prompt_is_refused() -> None:
    with pytest.raises(ContextOverflow):
        asked("word " * 400_000, Text())


def test_probing_agrees_with_the_preset() -> None:
    base = presets()["vllm-server"].but({"base_url": os.environ.get("VLLM_URL", "")}, "live")
    found = asyncio.run(probe(base, find_key(base.key_env))).preset
    assert (found.schema, found.pattern, found.logprobs) == ("full", "structured_outputs", True)
    assert found.stream

"""What the tests of Python workflows share: engines that answer from a script."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine


@pytest.fixture
def answers() -> Callable[..., dict[str, ScriptedEngine]]:
    """`answers({"apple": "red"})`: engines whose reply is the value of the first key found in the prompt;
    values that are no text are written as JSON."""

    def make(replies: dict[str, Any]) -> dict[str, ScriptedEngine]:
        def reply(request: Request) -> str:
            prompt = request.messages[-1].content
            for key, value in replies.items():
                if key in prompt:
                    return value if isinstance(value, str) else json.dumps(value)
            raise AssertionError(f"no reply for {prompt!r}")

        return {"ar": ScriptedEngine("ar", reply)}

    return make

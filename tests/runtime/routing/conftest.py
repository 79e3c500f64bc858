"""A stand-in for the runtime's step context, and answers run to their end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.engine import Engine
from carrara.engines.request import Message, Request
from carrara.runtime.events import Event, StepEvent
from carrara.runtime.routing.answer import LlmCall, answer


class FakeContext:
    def __init__(self, *engines: Engine, path: str = "flow/step", **resources: Any) -> None:
        self.path = path
        self.rank = 2.5
        self.node = 0
        self.listening = True
        self.resources: dict[str, Any] = {"engines": {e.name: e for e in engines}, **resources}
        self.events: list[Event] = []

    def tell(self, kind: type[StepEvent], /, **fields: Any) -> None:
        self.events.append(kind("run", 0.0, self.path, 0, **fields))

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def story(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@pytest.fixture(scope="session")
def context() -> type[FakeContext]:
    return FakeContext


@pytest.fixture(scope="session")
def ask() -> Callable[..., Any]:
    """Run one call: ask(ctx, output=..., ...) gives its value."""

    def run(ctx: FakeContext, text: str = "Say it.", **call: Any) -> Any:
        return asyncio.run(answer(LlmCall((Message("user", text),), **call), ctx))

    return run


def after(seconds: float, reply: Any) -> Any:
    """A scripted engine's answer that takes its time."""

    async def wait(request: Request) -> Any:
        await asyncio.sleep(seconds)
        return reply

    return wait

"""A server on loopback that does exactly what a test tells it, down to the byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pytest

from carrara.engines.contract import Contract, Text
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import Key
from carrara.engines.remote.preset import Preset
from carrara.engines.request import Completion, Limits, Message, Request, Watch

SECRET = "sk-test-0123456789abcdef-the-secret"


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: Any


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers each request by the next of `behaviours`, the last one for all that follow. `met` is set by
    the first connection, `came` by the first request, `left` when a client closes its connection
    before the answer is whole."""

    behaviours: list[Behaviour]
    at: int = 0
    """The port, 0 for any."""
    asked: list[Asked] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    met: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.at)
        self.port = self._server.sockets[0].getsockname()[1]
        self._open: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await _turns()  # who was just accepted comes to its task
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        for writer in self._writers:  # what is still to be written to clients that have gone
            writer.transport.abort()
        await _turns()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.met.set()
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self._writers.add(writer)
        try:
            while (asked := await _request(reader)) is not None:
                at = min(len(self.asked), len(self.behaviours) - 1)
                self.asked.append(asked)
                self.came.set()
                work = asyncio.ensure_future(self.behaviours[at](asked, writer))
                gone = asyncio.ensure_future(reader.read(1))
                await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    self.left.set()
                    work.cancel()
                gone.cancel()
                await asyncio.gather(work, gone, return_exceptions=True)
                break  # one request a connection: simple, and every client can do it
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


async def _turns() -> None:
    """Let the loop finish what it has begun: accepting takes it several turns, one of them through the selector."""
    for _ in range(8):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)


async def _request(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines if line)
    }
    size = int(headers.get("content-length", 0))
    body = json.loads(await reader.readexactly(size)) if size else None
    return Asked(first.split(" ")[1], headers, body)


def answer(
    data: Any,
    status: int = 200,
    *,
    kind: str = "application/json",
    **headers: str,
) -> Behaviour:
    """A whole answer: JSON data, or text as it is."""
    raw = data.encode() if isinstance(data, str) else json.dumps(data).encode()

    async def behave(_: Asked, writer: asyncio.StreamWriter) -> None:
        _head(writer, status, {"Content-Type": kind, "Content-Length": str(len(raw)), **headers})
        writer.write(raw)
        await writer.drain()

    return behave


def pieces(
    parts: Iterable[bytes | None],
    *,
    kind: str = "text/event-stream",
    status: int = 200,
    cut: bool = False,
) -> Behaviour:
    """A chunked answer, each part a chunk of its own; None stalls for ever. `cut` drops the connection at the end
    instead of ending the answer."""
    listed = list(parts)

    async def behave(_: Asked, writer: asyncio.StreamWriter) -> None:
        _head(writer, status, {"Content-Type": kind, "Transfer-Encoding": "chunked"})
        for part in listed:
            if part is None:
                await asyncio.Event().wait()
            elif part:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
                await asyncio.sleep(0)
        if cut:
            writer.transport.abort()
        else:
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    return behave


async def stall(_: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hang_up(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write(
        ("\r\n".join([f"HTTP/1.1 {status} X", *lines, "Connection: close", "", ""])).encode()
    )


def chat(text: str, reason: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    return {
        "id": "c1",
        "object": "chat.completion",
        "model": "small-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
            | more
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 8},
        },
    }


def deltas(*texts: str, reason: str | None = "stop", usage: bool = True) -> list[str]:
    """The data of the events of a chat stream."""
    head = {"id": "c1", "object": "chat.completion.chunk", "model": "small-1"}
    found: list[Any] = [
        head | {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        for text in texts
    ]
    if reason is not None:
        found.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    if usage:
        told = {"prompt_tokens": 12, "completion_tokens": 3}
        found.append(head | {"choices": [], "usage": told})
    return [json.dumps(one, ensure_ascii=False) for one in found]


def events(datas: Iterable[str], end: str = "\n", done: bool = True) -> bytes:
    listed = [*datas, *(["[DONE]"] if done else [])]
    return "".join(f"data: {data}{end}{end}" for data in listed).encode()


PLAIN = Preset("test", "A test server", "", model="small-1", key_env="TEST_KEY", key_required=False)


def complete(
    behaviours: Behaviour | list[Behaviour],
    text: str = "Say it.",
    *,
    output: Contract | None = None,
    watch: Watch | None = None,
    preset: Preset = PLAIN,
    limits: Limits = Limits(max_tokens=32),  # noqa: B008 - frozen
    **request: Any,
) -> tuple[Completion, Server, RemoteEngine]:
    """One request to a server that behaves so."""

    async def run() -> tuple[Completion, Server, RemoteEngine]:
        listed = behaviours if isinstance(behaviours, list) else [behaviours]
        async with Server(listed) as server:
            engine = RemoteEngine(
                "test", preset.but({"base_url": server.url}, "test"), key=Key(SECRET)
            )
            async with engine:
                asked = Request((Message("user", text),), output or Text(), limits, **request)
                return await engine.complete(asked, watch), server, engine

    return asyncio.run(run())


class Tools:
    """What the tests of this folder share, for `importlib` has no modules beside each other."""

    Server = Server
    PLAIN = PLAIN
    SECRET = SECRET
    answer = staticmethod(answer)
    chat = staticmethod(chat)
    complete = staticmethod(complete)
    deltas = staticmethod(deltas)
    events = staticmethod(events)
    hang_up = staticmethod(hang_up)
    pieces = staticmethod(pieces)
    stall = staticmethod(stall)


@pytest.fixture(scope="session")
def net() -> type[Tools]:
    return Tools

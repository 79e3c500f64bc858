"""A chat-completions server on loopback that answers after a drawn time, fails some of its calls and stalls others.

It speaks the OpenAI wire format, one request a connection. Failing is one of: status 500; status 503, with or without
Retry-After; a connection that is reset; a body cut in the middle; broken JSON; HTML. Stalling is silence before the
first byte, or in the middle of the body, until the client leaves.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

FAILURES = ("500", "503", "503 in a moment", "reset", "cut", "broken JSON", "HTML")


@dataclass
class FaultServer:
    """`reply` gives the text of an answer to the last message. `usual_s` is the median time of an answer (lognormal,
    sigma 0.35); the shares `fails` and `stalls` of the calls are faulty. `met` counts calls by what became of them,
    "left" those that the client gave up."""

    reply: Callable[[str], str]
    usual_s: float
    fails: float = 0.0
    stalls: float = 0.0
    seed: int = 0
    met: Counter[str] = field(default_factory=Counter)
    open: int = 0

    async def __aenter__(self) -> Self:
        self._draw = random.Random(self.seed)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            body = json.loads(await reader.readexactly(size)) if size else {}
            await self._answered(body, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answered(
        self, body: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Behave in one of the ways until the answer is out or the client leaves."""
        work = asyncio.ensure_future(self._behave(body, writer))
        gone = asyncio.ensure_future(reader.read(1))
        self.open += 1
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.met["left"] += 1
        finally:
            self.open -= 1
            for one in (work, gone):
                one.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _behave(self, body: Any, writer: asyncio.StreamWriter) -> None:
        draw = self._draw
        fate, takes_s = draw.random(), self.usual_s * draw.lognormvariate(0, 0.35)
        text = self.reply(body["messages"][-1]["content"])
        raw = json.dumps(_completion(text)).encode()
        half = len(raw) // 2
        if fate < self.stalls:
            self.met["stalled"] += 1
            if draw.random() < 0.5:
                _send(writer, 200, raw[:half], len(raw))
            await asyncio.Event().wait()
        elif fate < self.stalls + self.fails:
            how = draw.choice(FAILURES)
            self.met[how] += 1
            await asyncio.sleep(takes_s * draw.random())
            match how:
                case "500" | "503":
                    _send(writer, int(how), b'{"error": {"message": "server error"}}')
                case "503 in a moment":
                    wait = f"Retry-After: {round(self.usual_s, 2)}"
                    _send(writer, 503, b'{"error": {"message": "busy"}}', more=wait)
                case "reset":
                    writer.transport.abort()
                case "cut":
                    _send(writer, 200, raw[:half], len(raw))
                    await writer.drain()
                    writer.transport.abort()
                case "broken JSON":
                    _send(writer, 200, raw[:half])
                case _:
                    _send(writer, 200, b"<html>Bad gateway</html>", kind="text/html")
        else:
            self.met["answered"] += 1
            await asyncio.sleep(takes_s)
            _send(writer, 200, raw)
        with suppress(ConnectionError):
            await writer.drain()


def _send(
    writer: asyncio.StreamWriter,
    status: int,
    raw: bytes,
    size: int | None = None,
    kind: str = "application/json",
    more: str = "X-From: fault-server",
) -> None:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {len(raw) if size is None else size}",
        more,
        "Connection: close",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + raw)


def _completion(text: str) -> dict[str, Any]:
    words = len(text.split())
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "model": "drawn",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": words},
    }


__all__ = ["FAILURES", "FaultServer"]

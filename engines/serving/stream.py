"""An answer as a stream of events. Text goes out when it is settled: a canvas that still changes is not shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from carrara.engines.request import Completion, Progress, Request
from carrara.engines.serving.answers import error_event, event
from carrara.engines.serving.bodies import chunk
from carrara.engines.serving.turn import Turn


class Streamed:
    """A request that is being answered, and the text that was settled so far."""

    def __init__(self, turn: Turn, request: Request, call_id: str) -> None:
        self._turn, self._call_id = turn, call_id
        self._shown: asyncio.Queue[str] = asyncio.Queue()
        self._first = ""
        self._work = asyncio.ensure_future(turn.complete(request, self._watch))
        self._work.add_done_callback(lambda _: self._shown.put_nowait(""))

    def _watch(self, progress: Progress) -> None:
        if progress.settled == 1.0:
            self._shown.put_nowait(_whole_characters(progress.text))

    async def begin(self) -> bool:
        """Wait for the first text, or the end; True.

        Raises:
            Exception: the engine's, where it gave no text at all.
        """
        self._first = await self._shown.get()
        if not self._first and self._work.done():
            self._work.result()
        return True

    def response(self) -> StreamingResponse:
        """The stream, once it has begun."""
        return _Ending(self)

    async def end(self) -> None:
        """Cancel the request, if it is not answered yet."""
        self._work.cancel()
        with suppress(BaseException):
            await self._work

    async def events(self) -> AsyncIterator[bytes]:
        sent = ""
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            text = self._first
            while True:
                if len(text) > len(sent) and text.startswith(sent):
                    yield self._chunk({"content": text[len(sent) :]})
                    sent = text
                if self._work.done():
                    break
                text = await self._shown.get()
            completion = self._work.result()
        except Exception as error:
            yield error_event(error)
            return
        rest = completion.text[len(sent) :] if completion.text.startswith(sent) else ""
        if rest:
            yield self._chunk({"content": rest})
        yield self._chunk({}, completion)
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], completion: Completion | None = None) -> bytes:
        model = self._turn.name if completion is None else completion.model
        return event(chunk(self._call_id, model, delta, completion))


class _Ending(StreamingResponse):
    """A client that leaves cancels its request, also before the first event is sent."""

    def __init__(self, streamed: Streamed) -> None:
        super().__init__(streamed.events(), media_type="text/event-stream")
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._streamed.end()


def _whole_characters(text: str) -> str:
    """Without the first half of a character at the end, whose other half may follow."""
    return text[:-1] if "\ud800" <= text[-1:] <= "\udbff" else text


__all__ = ["Streamed"]

"""The server: `/v1/chat/completions`, `/v1/models`, `/health`, over engines that are already open.

A model is an engine by name; "auto" is the first that is open and can be reached. A client that leaves cancels its
request. With a token every call but `/health` needs it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from carrara.engines.engine import Engine
from carrara.engines.errors import (
    CarraraError,
    ContextOverflow,
    EngineBusy,
    EngineFailed,
    EngineRefused,
)
from carrara.engines.request import Completion, Progress, Request, Watch
from carrara.engines.serving.bodies import ChatBody, chunk, fault, read_body, whole

_MOST_BYTES = 16 << 20


Opened = Callable[[str], Awaitable[None]]
"""Awaited with the name of an engine before it is asked: opens it again where it has failed.

Raises CarraraError where that fails, too."""


async def _is_open(name: str) -> None:
    return None


def app_of(engines: Mapping[str, Engine], token: str = "", opened: Opened = _is_open) -> Starlette:
    """The application. The engines are opened and closed by the caller."""
    served = _Served(engines, token, opened)
    return Starlette(
        routes=[
            Route("/health", served.health),
            Route("/v1/models", served.models),
            Route("/v1/chat/completions", served.chat, methods=["POST"]),
        ]
    )


class _Served:
    def __init__(self, engines: Mapping[str, Engine], token: str, opened: Opened) -> None:
        self._engines, self._token, self._opened = engines, token, opened

    async def health(self, http: HttpRequest) -> Response:
        found = {name: engine.health() for name, engine in self._engines.items()}
        ready = all(one.ready for one in found.values())
        lines = {name: one.line for name, one in found.items()}
        return JSONResponse({"ready": ready, "engines": lines}, 200 if ready else 503)

    async def models(self, http: HttpRequest) -> Response:
        if (refused := self._refused(http)) is not None:
            return refused
        listed = [
            {
                "id": name,
                "object": "model",
                "owned_by": "carrara",
                "context_tokens": engine.context_tokens,
                "can": sorted(engine.can),
            }
            for name, engine in self._engines.items()
            if not engine.facts.is_closed
        ]
        return JSONResponse({"object": "list", "data": listed})

    async def chat(self, http: HttpRequest) -> Response:
        if (refused := self._refused(http)) is not None:
            return refused
        try:
            body = read_body(await _json(http))
            names = self._names(body.model)
            request = body.request()
        except EngineRefused as error:
            return JSONResponse(fault(str(error), "invalid_request_error", "model_not_found"), 404)
        except CarraraError as error:
            return JSONResponse(fault(str(error), "invalid_request_error"), 400)
        try:
            await self._opened(names[0])
        except CarraraError as error:
            return JSONResponse(fault(str(error), "server_error"), 503)
        turn = _Turn([self._engines[name] for name in names])
        call_id = f"chatcmpl-{uuid.uuid4().hex}"
        if body.stream:
            events = _events(turn, request, body, call_id)
            return StreamingResponse(events, media_type="text/event-stream")
        try:
            completion = await _unless_left(http, turn, request)
        except CarraraError as error:
            return _answer_of(error)
        return JSONResponse(whole(call_id, completion))

    def _names(self, model: str) -> list[str]:
        """The engines to ask, one after the other until one can be reached."""
        if model == "auto":
            names = list(self._engines)
            is_open = [n for n in names if not self._engines[n].facts.is_closed]
            return is_open or names[:1]
        if model not in self._engines:
            known = ", ".join(self._engines)
            raise EngineRefused(f"no model is called {model!r}; there are: auto, {known}")
        return [model]

    def _refused(self, http: HttpRequest) -> Response | None:
        given = http.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not self._token or hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return JSONResponse(fault("the token is missing or wrong", "authentication_error"), 401)


class _Turn:
    """A request at the first of `engines` that can be reached; `engine` is the one that is asked now."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        self.engine = engines[0]

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Raises what the engine raises that was asked last."""
        for engine in self._engines[:-1]:
            self.engine = engine
            try:
                return await engine.complete(request, watch)
            except EngineFailed as error:
                if not error.is_unreachable:
                    raise
        self.engine = self._engines[-1]
        return await self.engine.complete(request, watch)


async def _json(http: HttpRequest) -> Any:
    read = bytearray()
    async for part in http.stream():
        read += part
        if len(read) > _MOST_BYTES:
            raise CarraraError(f"the body is longer than {_MOST_BYTES:,} bytes")
    try:
        return json.loads(read)
    except (ValueError, RecursionError) as error:
        raise CarraraError(f"the body is no JSON: {error}") from error


async def _unless_left(http: HttpRequest, turn: _Turn, request: Request) -> Completion:
    """The completion; a client that leaves cancels it."""
    work = asyncio.ensure_future(turn.complete(request))
    left = asyncio.ensure_future(_left(http))
    try:
        await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise asyncio.CancelledError
        return work.result()
    finally:
        for task in (work, left):
            task.cancel()
        with suppress(BaseException):
            await work


async def _left(http: HttpRequest) -> None:
    while not await http.is_disconnected():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.1)


async def _events(
    turn: _Turn, request: Request, body: ChatBody, call_id: str
) -> AsyncIterator[str]:
    """The stream. Text goes out when it is settled: a canvas that still changes is not shown."""
    shown: asyncio.Queue[str] = asyncio.Queue()

    def watch(progress: Progress) -> None:
        if progress.settled == 1.0:
            shown.put_nowait(progress.text)

    work = asyncio.ensure_future(turn.complete(request, watch))
    work.add_done_callback(lambda _: shown.put_nowait(""))
    sent = ""
    try:
        yield _event(chunk(call_id, turn.engine.name, {"role": "assistant", "content": ""}))
        while not work.done():
            text = await shown.get()
            if len(text) > len(sent) and text.startswith(sent):
                yield _event(chunk(call_id, turn.engine.name, {"content": text[len(sent) :]}))
                sent = text
        completion = work.result()
        rest = completion.text[len(sent) :] if completion.text.startswith(sent) else ""
        if rest:
            yield _event(chunk(call_id, turn.engine.name, {"content": rest}))
        yield _event(chunk(call_id, completion.model, {}, completion))
        yield "data: [DONE]\n\n"
    except CarraraError as error:
        status, told = _status(error)
        told["error"]["code"] = status
        yield _event(told)
    finally:
        work.cancel()
        with suppress(BaseException):
            await work


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _answer_of(error: CarraraError) -> Response:
    status, told = _status(error)
    headers = {}
    if isinstance(error, EngineBusy) and error.retry_after_s is not None:
        headers["Retry-After"] = f"{error.retry_after_s:g}"
    return JSONResponse(told, status, headers)


def _status(error: CarraraError) -> tuple[int, dict[str, Any]]:
    match error:
        case EngineBusy():
            return 429, fault(str(error), "rate_limit_error")
        case ContextOverflow():
            return 400, fault(str(error), "invalid_request_error", "context_length_exceeded")
        case EngineRefused():
            return 400, fault(str(error), "invalid_request_error")
        case EngineFailed() if error.is_unreachable:
            return 503, fault(str(error), "server_error")
        case _:
            return 500, fault(str(error), "server_error")


__all__ = ["app_of"]

"""The server: `/v1/chat/completions`, `/v1/models`, `/health`, over engines that are already open.

A model is an engine by name; "auto" is the first that is open, can be reached and does not fail (`turn`). A client that
leaves cancels its request. With a token every call but `/health` needs it.
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
from carrara.engines.request import Completion, Progress, Request
from carrara.engines.serving.bodies import ChatBody, chunk, fault, read_body, whole
from carrara.engines.serving.turn import Forgetful, Outages, Turn

_MOST_BYTES = 16 << 20


Opened = Callable[[Sequence[str]], Awaitable[None]]
"""Awaited with the names of the engines that may be asked: opens those again that have failed, and waits for that only
where none of them is open.

Raises CarraraError where none can be opened."""


async def _are_open(names: Sequence[str]) -> None:
    return None


def app_of(
    engines: Mapping[str, Engine],
    token: str = "",
    opened: Opened = _are_open,
    outages: Outages | None = None,
) -> Starlette:
    """The application. The engines are opened and closed by the caller. `outages` is what "auto" remembers of engines
    that gave no answer; None: nothing."""
    served = _Served(engines, token, opened, outages or Forgetful())
    return Starlette(
        routes=[
            Route("/health", served.health),
            Route("/v1/models", served.models),
            Route("/v1/chat/completions", served.chat, methods=["POST"]),
        ]
    )


class _Served:
    def __init__(
        self, engines: Mapping[str, Engine], token: str, opened: Opened, outages: Outages
    ) -> None:
        self._engines, self._token, self._opened, self._outages = engines, token, opened, outages

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
            names = self._named(body.model)
            request = body.request()
        except EngineRefused as error:
            return JSONResponse(fault(str(error), "invalid_request_error", "model_not_found"), 404)
        except CarraraError as error:
            return JSONResponse(fault(str(error), "invalid_request_error"), 400)
        try:
            await self._opened(names)
        except CarraraError as error:
            return JSONResponse(fault(str(error), "server_error"), 503)
        turn = Turn(self._open_ones(names), self._outages)
        call_id = f"chatcmpl-{uuid.uuid4().hex}"
        if body.stream:
            events = _events(turn, request, body, call_id)
            return StreamingResponse(events, media_type="text/event-stream")
        try:
            completion = await _unless_left(http, turn, request)
        except CarraraError as error:
            return _answer_of(error)
        return JSONResponse(whole(call_id, completion))

    def _named(self, model: str) -> list[str]:
        """The engines that a client means."""
        if model == "auto":
            return list(self._engines)
        if model not in self._engines:
            known = ", ".join(self._engines)
            raise EngineRefused(f"no model is called {model!r}; there are: auto, {known}")
        return [model]

    def _open_ones(self, names: Sequence[str]) -> dict[str, Engine]:
        """Those of the engines that are open, or one that says why it is not."""
        found = {name: self._engines[name] for name in names}
        is_open = {name: engine for name, engine in found.items() if not engine.facts.is_closed}
        return is_open or {names[0]: found[names[0]]}

    def _refused(self, http: HttpRequest) -> Response | None:
        given = http.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not self._token or hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return JSONResponse(fault("the token is missing or wrong", "authentication_error"), 401)


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


async def _unless_left(http: HttpRequest, turn: Turn, request: Request) -> Completion:
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


async def _events(turn: Turn, request: Request, body: ChatBody, call_id: str) -> AsyncIterator[str]:
    """The stream. Text goes out when it is settled: a canvas that still changes is not shown."""
    shown: asyncio.Queue[str] = asyncio.Queue()

    def watch(progress: Progress) -> None:
        if progress.settled == 1.0:
            shown.put_nowait(progress.text)

    work = asyncio.ensure_future(turn.complete(request, watch))
    work.add_done_callback(lambda _: shown.put_nowait(""))
    sent = ""
    try:
        yield _event(chunk(call_id, turn.name, {"role": "assistant", "content": ""}))
        while not work.done():
            text = await shown.get()
            if len(text) > len(sent) and text.startswith(sent):
                yield _event(chunk(call_id, turn.name, {"content": text[len(sent) :]}))
                sent = text
        completion = work.result()
        rest = completion.text[len(sent) :] if completion.text.startswith(sent) else ""
        if rest:
            yield _event(chunk(call_id, turn.name, {"content": rest}))
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

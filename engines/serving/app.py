"""The server: `/v1/chat/completions`, `/v1/models`, `/health`, over engines that are already open.

A model is an engine by name; "auto" is the first that is open, can hold the contract, can be reached and does not fail
(`turn`). A client that leaves cancels its request. With a token every call but `/health` needs it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError, EngineRefused
from carrara.engines.serving.answers import Json, error_answer
from carrara.engines.serving.bodies import fault, read_body, whole
from carrara.engines.serving.stream import Streamed
from carrara.engines.serving.turn import Forgetful, Outages, Turn

_MOST_BYTES = 16 << 20
_LEFT = 499
"""The status of a request whose client has left, as servers log it; nobody gets it."""

T = TypeVar("T")

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
        return Json({"ready": ready, "engines": lines}, 200 if ready else 503)

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
        return Json({"object": "list", "data": listed})

    async def chat(self, http: HttpRequest) -> Response:
        if (refused := self._refused(http)) is not None:
            return refused
        try:
            body = read_body(await _json(http))
            names = self._named(body.model)
            request = body.request()
        except ClientDisconnect:
            return Response(status_code=_LEFT)
        except EngineRefused as error:
            return Json(fault(str(error), "invalid_request_error", "model_not_found"), 404)
        except CarraraError as error:
            return Json(fault(str(error), "invalid_request_error"), 400)
        try:
            await self._opened(names)
        except CarraraError as error:
            return Json(fault(str(error), "server_error"), 503)
        call_id = f"chatcmpl-{uuid.uuid4().hex}"
        try:
            turn = Turn(self._open_ones(names), request.output, self._outages)
            if body.stream:
                return await _streamed(http, Streamed(turn, request, call_id))
            completion = await _unless_left(http, turn.complete(request))
        except Exception as error:
            return error_answer(error)
        return (
            Response(status_code=_LEFT) if completion is None else Json(whole(call_id, completion))
        )

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
        return Json(fault("the token is missing or wrong", "authentication_error"), 401)


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


async def _streamed(http: HttpRequest, streamed: Streamed) -> Response:
    """The stream, once there is something to send: what fails before is answered with its status."""
    has_begun = False
    try:
        has_begun = await _unless_left(http, streamed.begin()) or False
    finally:
        if not has_begun:
            await streamed.end()
    return streamed.response() if has_begun else Response(status_code=_LEFT)


async def _unless_left(http: HttpRequest, work: Awaitable[T]) -> T | None:
    """What comes of `work`; a client that leaves cancels it, then None."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(http))
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, left):
            one.cancel()
        with suppress(BaseException):
            await task


async def _left(http: HttpRequest) -> bool:
    while not await http.is_disconnected():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.1)
    return True


__all__ = ["app_of"]

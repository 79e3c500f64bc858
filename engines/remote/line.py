"""The line to one server: a pool of HTTP connections, whole answers and streams, every fault an error of ours.

httpx2 is imported when a line is opened. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY), certificates
those of the system. Leaving a call, by cancellation too, closes its connection: the server sees that nobody waits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from carrara.engines.errors import BadReply, EngineError, StreamCut
from carrara.engines.remote.faults import (
    SILENCE,
    error_of,
    error_of_exception,
    placed,
)
from carrara.engines.remote.keys import Key, bare_url
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.reply import Reply
from carrara.engines.remote.told import Told, quoted, tells_error, told
from carrara.engines.surrogates import paired

if TYPE_CHECKING:
    import ssl

    import httpx2

_MOST_BYTES = 64 << 20  # of an answer: a server gone wild must not fill the memory


class StatusError(Exception):
    """The server answered with an error: by its status, or inside an answer that began with 200. The engine looks
    whether something can be left out, else raises `error_of(told)`."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.message)
        self.told = told
        self.reply = Reply()
        """What had come of the answer."""


class Line(Protocol):
    """How questions get to a model and answers back, for one engine."""

    @property
    def where(self) -> str:
        """The place, as it may be shown."""
        ...

    async def post(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        """The JSON that came back. A path that begins with "~" stands beside "/v1", not below it.

        Raises:
            StatusError: the server answered with an error.
            EngineError: the call failed; carries its phase.
        """
        ...

    def stream(
        self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[str, Any], None]:
        """The events that come back: name and JSON, (“done”, None) for `[DONE]`, ("whole", JSON) for an answer that is
        no stream. Close the iterator to end the call.

        Raises:
            StatusError, EngineError: as `post`.
        """
        ...

    def explained(self, found: Told) -> EngineError:
        """The error for what the server told."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class HttpLine:
    """A `Line` over HTTP. `silence` names in errors what bounds the server's silence."""

    def __init__(self, engine: str, preset: Preset, key: Key, silence: str = SILENCE) -> None:
        self._engine, self._preset, self._key, self._silence = engine, preset, key, silence
        self._client: httpx2.AsyncClient | None = None

    @property
    def where(self) -> str:
        return bare_url(self._preset.base_url)

    def explained(self, found: Told) -> EngineError:
        return error_of(found, self._engine, self.where)

    async def open(self) -> None:
        import httpx2

        times, most = self._preset.timeouts, self._preset.concurrency
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(
                connect=times.connect_s, write=times.write_s, read=times.read_s, pool=times.pool_s
            ),
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
            headers={"User-Agent": "carrara", **self._preset.headers},
            verify=_certificates(),
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(self, path: str, headers: Mapping[str, str]) -> Any:
        """The JSON at a path; raises as `post`."""
        async with AsyncExitStack() as stack:
            response, until = await self._begun(stack, path, headers, None, "application/json")
            return await self._answer(response, until)

    async def post(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        async with AsyncExitStack() as stack:
            response, until = await self._begun(stack, path, headers, body, "application/json")
            return await self._answer(response, until)

    async def stream(
        self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[str, Any], None]:
        import httpx2

        async with AsyncExitStack() as stack:
            response, until = await self._begun(stack, path, headers, body, "text/event-stream")
            kind = _content_type(response)
            if not response.is_success or kind == "application/json":  # or it does not stream
                yield "whole", await self._answer(response, until)
                return
            if kind != "text/event-stream":
                self._raise_type(kind, await self._whole(response, until), "a stream of events")
            response.encoding = "utf-8-sig"  # a byte-order mark is no part of the first event
            events, read = aiter(httpx2.EventSource(response, _MOST_BYTES)), 0
            while (event := await self._next(response, events)) is not None:
                read += len(event.data)
                if read > _MOST_BYTES:
                    raise self._too_big(response)
                if event.data.strip() == "[DONE]":
                    yield "done", None
                else:
                    yield event.event, self._event(response, event)

    async def _begun(
        self,
        stack: AsyncExitStack,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
        accept: str,
    ) -> tuple[httpx2.Response, float]:
        """The answer once its head is there, and when (by the clock of the loop) a whole one has taken too long: that
        is counted from when the request was sent, and waiting for a connection is no part of it."""
        import httpx2

        if self._client is None:
            raise EngineError(f"engine {self._engine!r} is not open: enter it with `async with`")
        base = self._preset.base_url.rstrip("/")
        url = base.removesuffix("/v1") + path[1:] if path.startswith("~") else base + path
        kind = {} if body is None else {"Content-Type": "application/json"}
        loop, most_s = asyncio.get_running_loop(), self._preset.timeouts.read_s
        bound = asyncio.timeout(None)

        async def traced(event: str, _: Mapping[str, Any]) -> None:
            if event.endswith(".receive_response_headers.started"):
                bound.reschedule(loop.time() + most_s)

        try:
            request = self._client.build_request(
                "GET" if body is None else "POST",
                url,
                content=None if body is None else _written(body),
                headers={**headers, "Accept": accept, **kind},
                extensions={"trace": traced},
            )
            async with bound:
                response = await self._client.send(request, stream=True)
        except TimeoutError as error:
            raise self._error(httpx2.ReadTimeout("silence"), reading=False) from error
        except httpx2.HTTPError as error:
            raise self._error(error, reading=False) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            bad = EngineError(f"engine {self._engine!r}: base_url {self.where} is no URL: {error}")
            raise placed(bad, self._engine, "connect") from error
        stack.push_async_callback(response.aclose)
        until = bound.when()
        return response, loop.time() + most_s if until is None else until

    async def _answer(self, response: httpx2.Response, until: float) -> Any:
        """The JSON of an answer that comes whole, by `until` of the loop's clock.

        Raises:
            StatusError, EngineError: as `post`.
        """
        text = await self._whole(response, until)
        if not response.is_success:
            raise StatusError(told(response.status_code, response.headers, text, self._key))
        found = self._json(response, text)
        if tells_error(found):
            raise StatusError(told(None, response.headers, text, self._key))
        return found

    async def _next(
        self, response: httpx2.Response, events: AsyncIterator[httpx2.ServerSentEvent]
    ) -> httpx2.ServerSentEvent | None:
        """The next event, None at the end. Comments and pings, which only keep a connection alive, are silence."""
        import httpx2

        try:
            async with asyncio.timeout(self._preset.timeouts.read_s):
                async for event in events:
                    if event.data and event.event != "ping":
                        return event
        except httpx2.SSEError as error:  # one event alone is too long
            raise self._too_big(response) from error
        except httpx2.HTTPError as error:
            raise self._error(error, reading=True) from error
        except TimeoutError as error:
            raise self._error(httpx2.ReadTimeout("silence"), reading=True) from error
        return None

    async def _whole(self, response: httpx2.Response, until: float) -> str:
        import httpx2

        read = bytearray()
        try:
            async with asyncio.timeout_at(until):
                async for chunk in response.aiter_bytes():
                    read += chunk
                    if len(read) > _MOST_BYTES:
                        raise self._too_big(response)
        except (httpx2.HTTPError, TimeoutError) as error:
            is_late = isinstance(error, TimeoutError)
            cause = httpx2.ReadTimeout("too slow") if is_late else error
            broken = self._error(cause, reading=True, whole=True)
            broken.text = self._key.scrub(bytes(read).decode("utf-8", "replace"))
            raise broken from error
        return bytes(read).decode("utf-8-sig", "replace")

    def _json(self, response: httpx2.Response, text: str) -> Any:
        kind = _content_type(response)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if kind != "application/json":
                self._raise_type(kind, text, "JSON")
            bad = BadReply(
                f"engine {self._engine!r}: {self.where} sent broken JSON ({error}): "
                f"{quoted(text, self._key)}"
            )
            bad.text = self._key.scrub(text)
            raise placed(bad, self._engine, "parse", response.status_code) from error

    def _event(self, response: httpx2.Response, event: httpx2.ServerSentEvent) -> Any:
        """The JSON of an event. An error has that name, or is one by its fields."""
        is_error = event.event == "error"
        try:
            found = None if is_error else json.loads(event.data)
        except (ValueError, RecursionError) as error:
            bad = BadReply(
                f"engine {self._engine!r}: {self.where} sent an event that is no JSON ({error}): "
                f"{quoted(event.data, self._key)}"
            )
            raise placed(bad, self._engine, "parse") from error
        if is_error or tells_error(found):
            raise StatusError(told(None, response.headers, event.data, self._key))
        return found

    def _too_big(self, response: httpx2.Response) -> EngineError:
        big = BadReply(f"engine {self._engine!r}: {self.where} sent over {_MOST_BYTES:,} bytes")
        return placed(big, self._engine, "read", response.status_code)

    def _raise_type(self, kind: str, text: str, wanted: str) -> None:
        bad = BadReply(
            f"engine {self._engine!r}: {self.where} sent {kind or 'no content type'} instead of {wanted}: "
            f"{quoted(text, self._key)}. Is base_url that of an API?"
        )
        raise placed(bad, self._engine, "parse")

    def _error(self, error: BaseException, *, reading: bool, whole: bool = False) -> EngineError:
        return error_of_exception(
            error,
            self._engine,
            self.where,
            self._key,
            reading=reading,
            whole=whole,
            silence=self._silence,
        )


@cache
def _certificates() -> ssl.SSLContext:
    """The system's certificates; reading them takes a tenth of a second, so all engines share them."""
    import httpx2

    return httpx2.create_ssl_context()


def _written(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD, as for local engines."""
    text = json.dumps(dict(body), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return paired(text).encode()


def cut_off(engine: str, where: str, text: str, reason: str = "") -> StreamCut:
    """The error for an answer that ended before its end. `reason` is the server's word for that without keys, "" for
    none."""
    told = f" ({reason!r})" if reason else ""
    error = StreamCut(
        f"engine {engine!r}: {where} ended its answer in the middle, after {len(text):,} characters{told}",
        text=text,
    )
    placed(error, engine, "read")
    return error


def _content_type(response: httpx2.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


__all__ = ["HttpLine", "Line", "StatusError", "cut_off"]

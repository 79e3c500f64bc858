"""A `Line` into llama.cpp's server in this process: the package xllamacpp, no HTTP between.

The server has slots and batches what is in flight in them; each call waits in a thread of its own. The HTTP port that
the server opens on loopback takes only calls with a key that nobody is told.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrara.engines.errors import BadReply, EngineError, EngineFailed, LoadingError
from carrara.engines.remote.faults import error_of, placed
from carrara.engines.remote.keys import NO_KEY
from carrara.engines.remote.line import StatusError
from carrara.engines.remote.told import Told, tells_error, told


@dataclass(frozen=True, slots=True)
class Size:
    """`slots` answers at once, each with `context_tokens` for prompt and answer. `threads` None: half the processors,
    since spinning threads are slow on a machine that others use too. `gpu_layers` None: all that fit, where the wheel
    has a GPU."""

    slots: int = 8
    context_tokens: int = 2048
    threads: int | None = None
    gpu_layers: int | None = None


class LlamaLine:
    """See `carrara.engines.remote.line.Line`. Only chat completions are known."""

    def __init__(self, engine: str, model: Path, size: Size) -> None:
        self._engine, self._model, self._size = engine, model, size
        self._server: Any = None
        self._threads: ThreadPoolExecutor | None = None

    @property
    def where(self) -> str:
        return f"llama.cpp with {self._model.name}"

    def explained(self, found: Told) -> EngineError:
        return error_of(found, self._engine, self.where)

    async def open(self) -> None:
        threads = ThreadPoolExecutor(self._size.slots, thread_name_prefix="carrara-llamacpp")
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.run_in_executor(threads, self._started)
        except BaseException:
            threads.shutdown(wait=False)
            raise
        self._threads = threads

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        server, self._server = self._server, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        # Its destructor ends the server's threads; off the loop, for it waits for them.
        if server is not None:
            held = [server]
            del server
            await asyncio.to_thread(held.clear)

    async def post(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        """A whole answer. It is taken as a stream, so that cancelling ends the work in its slot."""
        from carrara.engines.llamacpp.whole import Whole

        whole = Whole()
        async for event, data in self.stream(path, headers, {**body, "stream": True}):
            if event == "whole":
                return data
            whole.add(data)
        return whole.body()

    async def stream(
        self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[str, Any], None]:
        if self._threads is None or path != "/chat/completions":
            raise EngineFailed(f"engine {self._engine!r} is not open, or has no {path}")
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        left = threading.Event()
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}

        def tell(event: str, data: Any) -> None:
            loop.call_soon_threadsafe(events.put_nowait, (event, data))

        def on_chunk(chunk: Any) -> bool:
            if not left.is_set():
                tell("message", chunk)
            return left.is_set()

        def work() -> None:
            try:
                found = (
                    None if left.is_set() else self._server.handle_chat_completions(asked, on_chunk)
                )
                tell("done" if found is None else "whole", found)
            except BaseException as error:
                tell("raised", error)

        call = loop.run_in_executor(self._threads, work)
        try:
            while True:
                event, data = await events.get()
                if event == "done":
                    return
                if event == "raised":
                    raise self._broken(data) from data
                for part in data if isinstance(data, list) else [data]:
                    self._check(part)
                    yield ("whole" if event == "whole" else "message"), part
        finally:
            left.set()
            if not call.done():
                # The slot is free when its next token comes; nobody waits for that.
                call.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _check(self, chunk: Any) -> None:
        if not isinstance(chunk, dict):
            bad = BadReply(
                f"engine {self._engine!r}: {self.where} gave {type(chunk).__name__}, no object"
            )
            raise placed(bad, self._engine, "parse")
        if tells_error(chunk):
            raise StatusError(told(None, {}, json.dumps(chunk), NO_KEY))

    def _broken(self, error: BaseException) -> EngineError:
        return placed(
            EngineFailed(f"engine {self._engine!r}: {self.where} failed: {error}"),
            self._engine,
            "wait",
        )

    def _started(self) -> Any:
        import os

        import xllamacpp

        size = self._size
        params = xllamacpp.CommonParams()
        params.model.path = str(self._model)
        params.n_parallel = size.slots
        params.n_ctx = size.slots * size.context_tokens
        threads = size.threads or max(1, (os.cpu_count() or 2) // 2)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [secrets.token_urlsafe(32)]
        params.warmup = False
        params.verbosity = -1
        params.endpoint_slots = False
        if size.gpu_layers is not None:
            params.n_gpu_layers = size.gpu_layers
        try:
            return xllamacpp.Server(params)
        except (RuntimeError, ValueError, OSError) as error:
            raise LoadingError(f"{self._model}: llama.cpp cannot load it: {error}") from error


__all__ = ["LlamaLine", "Size"]

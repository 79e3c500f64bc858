"""The decoders that are compared, behind one call: our engines, and llama.cpp inside this process.

vLLM, which needs packages of its own, is in `vllm_server`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from benchmarks.diffusion.work import Ask
from carrara.engines.engine import Engine
from carrara.engines.model.pace import Made, Pace


@dataclass(frozen=True, slots=True)
class Told:
    """An answer and what it took. `passes` after the prompt, None where the decoder does not say."""

    text: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    passes: int | None


class Decoder(Protocol):
    name: str

    async def answer(self, ask: Ask) -> Told: ...

    def cpu_s(self) -> float:
        """Processor seconds so far of the processes that it decodes in."""

    def made(self) -> Made | None:
        """The passes over answers so far, None where it does not say."""


@dataclass(frozen=True, slots=True)
class Ours:
    """One of our engines. `drafted`: it refines drafts. `pace` counts its model's passes, those over answers are of
    `kind`."""

    name: str
    engine: Engine
    drafted: bool = False
    pace: Pace | None = None
    kind: str = "canvas"

    async def answer(self, ask: Ask) -> Told:
        if ask.draft is not None and not self.drafted:
            ask = Ask(ask.kind, ask.with_draft)
        found = await self.engine.complete(ask.request(self.drafted))
        usage = found.usage
        return Told(
            found.text,
            usage.completion_tokens,
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.passes,
        )

    def cpu_s(self) -> float:
        return time.process_time()

    def made(self) -> Made | None:
        return None if self.pace is None else self.pace.made(self.kind)


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp with its server's scheduler, prompt cache and grammar, called without HTTP. `threads` are those that
    wait for answers, one for each of its slots."""

    name: str
    server: Any
    threads: ThreadPoolExecutor

    async def answer(self, ask: Ask) -> Told:
        body = {
            "messages": [{"role": "user", "content": ask.with_draft}],
            "max_tokens": 160,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": ask.schema},
            },
        }
        chunks: list[dict[str, Any]] = []
        given_up = Event()

        def take(chunk: dict[str, Any]) -> bool:
            chunks.append(chunk)
            return given_up.is_set()  # ends the call

        call = self.threads.submit(self.server.handle_chat_completions, body, take)
        try:
            await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            given_up.set()
            if not call.cancelled():
                await asyncio.wrap_future(call)  # up to its next token: nobody is to be slowed down
            raise
        *parts, last = chunks
        if "usage" not in last:
            raise RuntimeError(f"llama.cpp refused: {json.dumps(last)[:300]}")
        usage = last["usage"]
        tokens = int(usage["completion_tokens"])
        cached = int(usage.get("prompt_tokens_details", {}).get("cached_tokens", 0))
        text = "".join(part["choices"][0]["delta"].get("content") or "" for part in parts)
        return Told(text, tokens, int(usage["prompt_tokens"]), cached, tokens)

    def cpu_s(self) -> float:
        return time.process_time()

    def made(self) -> Made:
        told = self.server.handle_metrics()
        passes, busy = (
            float(re.findall(rf"^llamacpp:{name} (\S+)$", told, re.MULTILINE)[0])
            for name in ("n_decode_total", "n_busy_slots_per_decode")
        )
        answers = round(passes * busy)
        return Made(round(passes), answers, answers)


@asynccontextmanager
async def llama_cpp(gguf: Path, name: str, threads: int, slots: int) -> AsyncIterator[LlamaCpp]:
    """llama.cpp on `gguf` with `slots` requests at once.

    Raises:
        ModuleNotFoundError: xllamacpp is not installed.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx, params.n_parallel = 1024 * slots, slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, -1
    params.endpoint_metrics = True
    server = await asyncio.to_thread(xllamacpp.Server, params)
    try:
        with ThreadPoolExecutor(slots) as waiting:
            yield LlamaCpp(name, server, waiting)
    finally:
        del server

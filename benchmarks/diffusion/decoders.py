"""The decoders that are compared, behind one call: our engines, and llama.cpp inside this process.

vLLM, which needs packages of its own, is in `vllm_server`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.diffusion.work import Ask
from carrara.engines.engine import Engine


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


@dataclass(frozen=True, slots=True)
class Ours:
    """One of our engines. `drafted`: it refines drafts."""

    name: str
    engine: Engine
    drafted: bool = False

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


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp with its server's scheduler, prompt cache and grammar, called without HTTP."""

    name: str
    server: Any

    async def answer(self, ask: Ask) -> Told:
        body = {
            "messages": [{"role": "user", "content": ask.with_draft}],
            "max_tokens": 160,
            "temperature": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": ask.schema},
            },
        }
        found = await asyncio.to_thread(self.server.handle_chat_completions, body)
        if "choices" not in found:
            raise RuntimeError(f"llama.cpp refused: {json.dumps(found)[:300]}")
        usage = found["usage"]
        tokens = int(usage["completion_tokens"])
        cached = int(usage.get("prompt_tokens_details", {}).get("cached_tokens", 0))
        text = found["choices"][0]["message"]["content"]
        return Told(text, tokens, int(usage["prompt_tokens"]), cached, tokens)

    def cpu_s(self) -> float:
        return time.process_time()


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
    server = await asyncio.to_thread(xllamacpp.Server, params)
    try:
        yield LlamaCpp(name, server)
    finally:
        del server

"""The engine "ar": the local model writing one token after the other, for many requests at once.

Requests in flight share forward passes (`batch` says which), the prefix cache and the one model thread.
This file is the protocol: what is accepted and refused, and the life of the engine. `rounds` serves,
`decode` computes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carrara.engines.autoregressive.infill_grammar import with_room
from carrara.engines.checks import check_numbers
from carrara.engines.contract import Contract, Infill, Text
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import EngineError, EngineRefused, LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.local_engine import LocalEngine
from carrara.engines.prompt import prompt_tokens
from carrara.engines.refining import refining
from carrara.engines.request import Completion, Request, Watch

if TYPE_CHECKING:
    from carrara.engines.autoregressive.answer import Answer
    from carrara.engines.autoregressive.batch import BatchLimits
    from carrara.engines.autoregressive.guide import Guides
    from carrara.engines.autoregressive.rounds import Rounds

ABILITIES: frozenset[Ability] = frozenset(
    ("schema", "choice", "regex", "table", "outline", "infill", "logprobs", "stream")
)
_CPU_CACHE_BYTES = 1 << 30
_GPU_CACHE_BYTES = 8 << 30
# A longer prompt is prepared on another thread: it would be felt on the event loop (1 ms for 4,000
# characters).
_INLINE_CHARACTERS = 4000


@dataclass(slots=True)
class OpenEngine:
    """What exists while the engine is open."""

    rounds: Rounds
    guides: Guides
    loop: asyncio.Task[None]


class AutoregressiveEngine(LocalEngine[OpenEngine]):
    """See `carrara.engines.engine.Engine`. `limits` None: 16 rows and 1 GiB of cache on a CPU, 128 and 8
    GiB on a GPU.

    Where the model's adapter was not trained on free text, that is written by the weights without it, which are
    opened when they are first needed: as much memory again."""

    def __init__(
        self,
        local: LocalModel,
        name: str = "ar",
        limits: BatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(local, name, clock)
        self._limits = limits
        self._plain: AutoregressiveEngine | None = None

    @property
    def can(self) -> frozenset[Ability]:
        return ABILITIES

    @property
    def fingerprint(self) -> str:
        return f"ar-{self.local.fingerprint}"

    def refusal(self, contract: Contract) -> str | None:
        from carrara.engines.autoregressive.guide import usable_grammar

        try:
            usable_grammar(contract, longest_string(512))
        except EngineRefused as error:
            return str(error)
        return None

    def health(self) -> Health:
        if self._open is None:
            return Health(False, f"{self._name}: {self.local.line}")
        rounds, stats = self._open.rounds, self.local.prefix_cache.stats()
        if rounds.trouble is not None:
            return Health(False, f"{self._name}: {self.local.line}; {rounds.trouble}")
        return Health(
            True,
            f"{self._name}: {self.local.line}; {rounds.seated} answering, {rounds.waiting} waiting, "
            f"{stats.found_tokens:,} of {stats.asked_tokens:,} prompt tokens from the prefix cache",
        )

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol.

        A JSON string without a bound of its own ends at `longest_string` characters, because a small
        model may never close one. An answer in which that happened has its value, and `stop` "length".
        """
        now = self._now()
        if self._is_for_plain(request):
            return await (await self._opened_plain()).complete(request, watch)
        submitted = self._clock()
        tokenizer = self.local.tokenizer
        try:
            check_numbers(request, self._name)
            if request.draft is not None and request.draft.spans:
                refined = refining(request, tokenizer.encode, tokenizer.vocabulary)
                if refined is not None:
                    return refined.completion(await self.complete(refined.request, watch))
            answer = await self._prepared(request, now.guides)
        except EngineError as error:
            error.engine = error.engine or self._name
            raise
        return await self._answered(now, answer, watch, submitted)

    async def _end(self) -> None:
        plain, self._plain = self._plain, None
        try:
            await super()._end()
        finally:
            if plain is not None:
                await plain.__aexit__(None, None, None)

    def _is_for_plain(self, request: Request) -> bool:
        is_free = isinstance(request.output, Text) and request.adapter is None
        return is_free and not self.local.writes_free_text

    async def _opened_plain(self) -> AutoregressiveEngine:
        """The same engine on the weights without the adapter."""
        async with self._gate:
            if self._plain is None:
                local = self.local.without_adapter()
                plain = AutoregressiveEngine(local, self._name, self._limits, self._clock)
                self._plain = await plain.__aenter__()
            return self._plain

    def _started(self) -> OpenEngine:
        from carrara.engines.autoregressive.decode import Decoder
        from carrara.engines.autoregressive.guide import Guides
        from carrara.engines.autoregressive.rounds import Rounds

        config = self.local.config
        if config.denoising is not None and config.denoising.attention is not None:
            raise LoadingError(
                f"engine {self._name!r}: {self.local.source} ({config.model_type}) was trained to denoise and "
                "predicts no next token. Give it to the engine 'diffusion'."
            )
        limits = self._limits or default_limits(self.local)
        rounds = Rounds(self._name, self.local, Decoder(self.local), limits, self._clock)
        loop = asyncio.create_task(rounds.run(), name=f"{self._name} rounds")
        return OpenEngine(rounds, Guides(self.local.tokenizer), loop)

    async def _prepared(self, request: Request, guides: Guides) -> Answer:
        """Check the request and make its tokens and its grammar, on another thread where that takes
        long."""
        if request.draft is not None:
            raise EngineRefused(
                f"engine {self._name!r} writes from left to right and takes no draft, but to refine spans of free "
                "text. Ask an engine that can 'drafts'."
            )
        size = sum(len(message.content) for message in request.messages)
        if size <= _INLINE_CHARACTERS and isinstance(request.output, Text):
            return self._answer(request, guides)
        return await asyncio.to_thread(self._answer, request, guides)

    def _answer(self, request: Request, guides: Guides) -> Answer:
        local = self.local
        adapted = local.uses_adapter(request.adapter)
        if isinstance(request.output, Infill):
            # It has its limits in itself, as far as the prompt leaves room.
            least = replace(request, limits=replace(request.limits, max_tokens=1))
            bare = prompt_tokens(least, local.tokenizer, self.context_tokens, self._name)
            request = with_room(request, local.tokenizer.encode, self.context_tokens - len(bare))
        prompt = prompt_tokens(request, local.tokenizer, self.context_tokens, self._name)
        longest = longest_string(request.limits.max_tokens)
        guide = guides.start(request.output, longest)
        kind = self._answer_kind()
        return kind(request, prompt, guide, local.tokenizer, longest=longest, adapted=adapted)

    def _answer_kind(self) -> type[Answer]:
        from carrara.engines.autoregressive.answer import Answer

        return Answer


def longest_string(max_tokens: int) -> int:
    """The bound of JSON strings that have none: about half of `max_tokens`, in characters, and at least
    64."""
    return max(64, 2 * max_tokens)


def default_limits(local: LocalModel) -> BatchLimits:
    """What suits the device: how many rows, how much cache, how long a chunk of prompt."""
    from carrara.engines.autoregressive.batch import BatchLimits
    from carrara.engines.model.kv import slot_bytes

    each = slot_bytes(local.config, local.dtype)
    if local.device.type == "cuda":
        cells = _GPU_CACHE_BYTES // each
        return BatchLimits(rows=128, cells=cells, chunk=1024, quiet_chunk=4096, padding=1024)
    return BatchLimits(cells=_CPU_CACHE_BYTES // each)

"""The engine "diffusion": whole answers refined in parallel, under any contract, many canvases in each pass.

This file is the protocol: what is accepted and refused, and the life of the engine. `rounds` serves, `decode`
computes, `prepare` makes the canvases. Nothing heavy is imported before the engine is opened.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Self

from carrara.engines.contract import Contract, Infill, Text
from carrara.engines.diffusion.settings import Settings
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import EngineError, EngineFailed, EngineRefused, LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.refining import refining
from carrara.engines.request import Completion, Request, Watch

if TYPE_CHECKING:
    from carrara.engines.diffusion.batch import BatchLimits
    from carrara.engines.diffusion.job import Job
    from carrara.engines.diffusion.prepare import CanvasMaker
    from carrara.engines.diffusion.rounds import Rounds

ABILITIES: frozenset[Ability] = frozenset(
    ("schema", "choice", "regex", "table", "outline", "infill", "drafts", "logprobs", "stream")
)
_NO_FREE_TEXT = (
    "its adapter was trained on contracts alone and denoises no free text; ask the engine 'ar'"
)
_CPU_CACHE_BYTES = 1 << 30
_GPU_CACHE_BYTES = 8 << 30


@dataclass(slots=True)
class _Open:
    """What exists while the engine is open."""

    rounds: Rounds
    maker: CanvasMaker
    settings: Settings
    loop: asyncio.Task[None]


class DiffusionEngine:
    """See `carrara.engines.engine.Engine`.

    `settings` None: those of the model's adapter, without one those of its checkpoint. `limits` None: 16
    canvases and 1 GiB of cache on a CPU, 64 and 8 GiB on a GPU.
    """

    def __init__(
        self,
        local: LocalModel,
        name: str = "diffusion",
        settings: Settings | None = None,
        limits: BatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.local = local
        self._name = name
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._tickets = count()
        self._users = 0
        self._open: _Open | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def can(self) -> frozenset[Ability]:
        return ABILITIES

    @property
    def fingerprint(self) -> str:
        parts = f"{self.local.fingerprint}\n{self._usual_settings().line}"
        return f"diffusion-{hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()}"

    def checked_settings(self) -> Settings:
        """How the model, which is open, is denoised here.

        Raises:
            LoadingError: diffusion.json is damaged or names other tokens than the tokenizer uses.
        """
        settings = self._usual_settings()
        self._check_ids(settings)
        return settings

    @property
    def context_tokens(self) -> int:
        return self.local.config.max_positions

    def refusal(self, contract: Contract) -> str | None:
        from carrara.engines.diffusion.scaffold.compile import refusal

        if isinstance(contract, Text) and self.local.is_loaded and not self.local.writes_free_text:
            return _NO_FREE_TEXT
        return refusal(contract)

    def health(self) -> Health:
        line = f"{self._name}: {self.local.line}"
        if self._open is None:
            return Health(False, line)
        if self.local.adapter is None and self.local.config.denoising is None:
            line += (
                "; no diffusion adapter: plain AR weights, a poor denoiser, expect low confidence"
            )
        rounds, stats = self._open.rounds, self.local.prefix_cache.stats()
        return Health(
            True,
            f"{line}; {rounds.seated} canvases, {rounds.waiting} waiting, "
            f"{stats.found_tokens:,} of {stats.asked_tokens:,} prompt tokens from the prefix cache",
        )

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol.

        The answer holds to its contract whatever the weights. `stop` is "length" where `max_tokens` kept a list from
        going on or a string from being longer. `watch` gets the canvas after each pass.
        """
        now = self._open
        if now is None:
            raise EngineFailed(
                f"engine {self._name!r} is not open: enter it with `async with`", engine=self._name
            )
        submitted = self._clock()
        tokenizer = self.local.tokenizer
        try:
            refined = refining(request, tokenizer.encode, tokenizer.vocabulary)
            if refined is not None:
                return refined.completion(await self.complete(refined.request, watch))
            if isinstance(request.output, Infill):
                request = await self.local.run(now.maker.roomy, request)
            prompt = await self._prompt(request)
            job = await self.local.run(self._job, request, prompt, now)
        except EngineError as error:
            error.engine = error.engine or self._name
            raise
        from carrara.engines.diffusion.rounds import Live

        done: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        live = Live(next(self._tickets), job, watch, submitted, done)
        if job.is_finished:  # the contract leaves nothing to decide
            return now.rounds.completion(live)
        return await now.rounds.answer(live)

    async def __aenter__(self) -> Self:
        await self.local.__aenter__()
        try:
            # Others may have entered meanwhile: the first to come here starts the loop.
            if self._open is None:
                self._open = self._started()
        except BaseException:
            await self.local.__aexit__(None, None, None)
            raise
        self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._users -= 1
        try:
            if self._users == 0 and self._open is not None:
                now, self._open = self._open, None
                now.rounds.close()
                await now.loop
        finally:
            await self.local.__aexit__(kind, error, trace)

    def _started(self) -> _Open:
        from carrara.engines.diffusion.decode import Decoder
        from carrara.engines.diffusion.prepare import CanvasMaker
        from carrara.engines.diffusion.rounds import Rounds
        from carrara.engines.diffusion.scaffold.lexicon import Lexicon

        settings = self.checked_settings()
        limits = self._limits or default_limits(self.local)
        rounds = Rounds(self._name, self.local, Decoder(self.local), limits, self._clock)
        maker = CanvasMaker.of(Lexicon(self.local.tokenizer))
        loop = asyncio.create_task(rounds.run(), name=f"{self._name} rounds")
        return _Open(rounds, maker, settings, loop)

    def _usual_settings(self) -> Settings:
        if self._settings is not None:
            return self._settings
        adapter = self.local.adapter
        return self._bare_settings() if adapter is None else Settings.of_adapter(adapter.folder)

    def _bare_settings(self) -> Settings:
        """Those of the weights without an adapter."""
        return Settings.of_checkpoint(self.local.config.denoising)

    def _check_ids(self, settings: Settings) -> None:
        tokenizer = self.local.tokenizer
        for wanted, found, what in (
            (settings.mask_token_id, tokenizer.mask_id, "mask_token_id"),
            (settings.slot_pad_id, tokenizer.slot_pad_id, "slot_pad_id"),
        ):
            if wanted is not None and wanted != found:
                raise LoadingError(
                    f"diffusion.json names {what} {wanted}, the tokenizer uses {found}. "
                    f"Name it in adapter_config.json too ({_ADAPTER_KEYS[what]})."
                )

    async def _prompt(self, request: Request) -> list[int]:
        """The prompt's tokens, made on another thread.

        Raises:
            EngineRefused: prompt and canvas are longer than the context, or the adapter knows no free text.
        """
        tokenizer, most = self.local.tokenizer, request.limits.max_tokens
        if isinstance(request.output, Text) and not self.local.writes_free_text:
            raise EngineRefused(_NO_FREE_TEXT)
        if most < 1:
            raise EngineRefused(f"max_tokens is {most}, it must be at least 1")
        longest = max(map(len, tokenizer.vocabulary))
        size = sum(len(message.content) for message in request.messages)
        if size > self.context_tokens * longest:  # no need to count: it cannot fit
            raise EngineRefused(self._too_long(f"a prompt of {size:,} characters", most))
        prompt = await asyncio.to_thread(tokenizer.encode_chat, request.messages)
        if len(prompt) + most > self.context_tokens:
            raise EngineRefused(self._too_long(f"{len(prompt):,} prompt tokens", most))
        return prompt

    def _too_long(self, prompt: str, most: int) -> str:
        return (
            f"engine {self._name!r} refused {prompt} and a canvas of {most:,} tokens, its context holds "
            f"{self.context_tokens:,}. Shorten the input or lower max_tokens."
        )

    def _job(self, request: Request, prompt: list[int], now: _Open) -> Job:
        from carrara.engines.diffusion.job import Job
        from carrara.engines.diffusion.noise import Uniform

        adapted = self.local.uses_adapter(request.adapter)
        bare = not adapted and self.local.adapter is not None
        settings = self._bare_settings() if bare else now.settings
        canvas = now.maker.canvas(request, settings, len(prompt))
        noise = None
        if settings.noise == "uniform":
            tokenizer, seed = self.local.tokenizer, request.sampling.seed or 0
            noise = Uniform(tokenizer.mask_id, self.local.config.vocab_size, random.Random(seed))
        return Job(request, prompt, canvas, settings, adapted, self.local.device, noise)


_ADAPTER_KEYS = {"mask_token_id": "mask_token_id", "slot_pad_id": "slot_pad_token_id"}


def default_limits(local: LocalModel) -> BatchLimits:
    """What suits the device: how many rows, how much cache, how long a chunk of prompt."""
    from carrara.engines.diffusion.batch import BatchLimits
    from carrara.engines.model.kv import slot_bytes

    each = slot_bytes(local.config, local.dtype)
    if local.device.type == "cuda":
        return BatchLimits(64, cells=_GPU_CACHE_BYTES // each, chunk=4096, quiet_chunk=16384)
    return BatchLimits(cells=_CPU_CACHE_BYTES // each)

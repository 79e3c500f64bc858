"""The engine "diffusion": whole answers refined in parallel, under any contract, many canvases in each pass.

This file is the protocol: what is accepted and refused, and the life of the engine. `rounds` serves, `decode`
computes, `prepare` makes the canvases. Nothing heavy is imported before the engine is opened.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from carrara.engines.checks import check_numbers
from carrara.engines.contract import Contract, Text
from carrara.engines.diffusion.settings import FILE, Settings
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import (
    CarraraError,
    EngineError,
    EngineFailed,
    EngineRefused,
    LoadingError,
)
from carrara.engines.facts import EngineFacts
from carrara.engines.local import LocalModel
from carrara.engines.local_engine import LocalEngine
from carrara.engines.prompt import bare_prompt, check_room
from carrara.engines.refining import refining
from carrara.engines.request import Completion, Request, Watch
from carrara.engines.watchdog import Sleep, Watchdog

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
_CPU_BYTES = 2 << 30
_GPU_SHARE = 0.6


@dataclass(slots=True)
class _Open:
    """What exists while the engine is open."""

    rounds: Rounds
    maker: CanvasMaker
    settings: Settings
    loop: asyncio.Task[None]


class DiffusionEngine(LocalEngine[_Open]):
    """See `carrara.engines.engine.Engine`.

    `settings` None: those of the model's adapter, without one those of its checkpoint and its folder. `limits` None: 16
    canvases and 2 GiB of cache and workspace on a CPU, on a GPU 64 and six tenths of the memory that is free when it
    is opened. A pass that takes longer than `pass_bound_s` is reported.
    """

    def __init__(
        self,
        local: LocalModel,
        name: str = "diffusion",
        settings: Settings | None = None,
        limits: BatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        pass_bound_s: float = 600.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(local, name, clock)
        self._settings = settings
        self._limits = limits
        self._pass_bound_s, self._sleep = pass_bound_s, sleep

    @property
    def can(self) -> frozenset[Ability]:
        return ABILITIES

    @property
    def fingerprint(self) -> str:
        parts = f"{self.local.fingerprint}\n{self._usual_settings().line}"
        return f"diffusion-{hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()}"

    @property
    def facts(self) -> EngineFacts:
        """Once it is open, with its seats, how full they were, and how many of its answers are likely to be taken."""
        device = self.local.device_kind
        if self._open is None:
            return EngineFacts(device=device)
        rounds = self._open.rounds
        return EngineFacts(
            device=device,
            accepted=self._open.settings.accepted,
            seats=rounds.seats,
            occupancy=rounds.occupancy,
        )

    def checked_settings(self) -> Settings:
        """How the model, which is open, is denoised here.

        Raises:
            LoadingError: diffusion.json is damaged or names other tokens than the tokenizer uses.
        """
        settings = self._usual_settings()
        self._check_ids(settings)
        return settings

    def refusal(self, contract: Contract) -> str | None:
        from carrara.engines.diffusion.scaffold.compile import refusal

        if isinstance(contract, Text) and self.local.is_loaded and not self.local.writes_free_text:
            return _NO_FREE_TEXT
        return refusal(contract)

    def health(self) -> Health:
        line = f"{self._name}: {self.local.line}"
        if self._open is None:
            return Health(False, line)
        if are_plain_weights(self.local):
            line += (
                "; no diffusion adapter: plain AR weights, a poor denoiser, expect low confidence"
            )
        rounds, stats = self._open.rounds, self.local.prefix_cache.stats()
        if rounds.trouble is not None:
            return Health(False, f"{line}; {rounds.trouble}")
        if rounds.is_crowded:
            line += "; a pass ran out of memory, so passes take fewer canvases for a while"
        return Health(
            True,
            f"{line}; {rounds.seated} canvases, {rounds.waiting} waiting, {rounds.occupancy.line}, "
            f"{stats.found_tokens:,} of {stats.asked_tokens:,} prompt tokens from the prefix cache",
        )

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol.

        The answer holds to its contract whatever the weights. `stop` is "length" where `max_tokens` kept a list from
        going on or a string from being longer. `watch` gets the canvas after each pass.
        """
        now = self._now()
        submitted = self._clock()
        tokenizer = self.local.tokenizer
        try:
            now.rounds.check_open()
            check_numbers(request, self._name)
            way = self._way(request, now)
            refined = refining(request, tokenizer.encode, tokenizer.vocabulary)
            if refined is not None:
                return refined.completion(await self.complete(refined.request, watch))
            prompt = await self._prompt(request)
            make = partial(self.local.run, self._job, request, prompt, now, *way)
            job = await now.rounds.prepared(make, submitted, request.limits.deadline_s)
        except EngineError as error:
            error.engine = error.engine or self._name
            raise
        return await self._answered(now, job, watch, submitted)

    def _started(self) -> _Open:
        from carrara.engines.diffusion.decode import Decoder
        from carrara.engines.diffusion.gemma_decode import GemmaDecoder
        from carrara.engines.diffusion.prepare import CanvasMaker
        from carrara.engines.diffusion.rounds import Rounds
        from carrara.engines.diffusion.scaffold.lexicon import Lexicon

        settings = self.checked_settings()
        limits = self._limits or default_limits(self.local)
        watchdog = Watchdog(self._pass_bound_s, self._clock, self._sleep)
        decoder = Decoder(self.local) if self.local.gemma is None else GemmaDecoder(self.local)
        rounds = Rounds(self._name, self.local, decoder, limits, self._clock, watchdog)
        maker = CanvasMaker.of(Lexicon(self.local.tokenizer))
        loop = asyncio.create_task(rounds.run(), name=f"{self._name} rounds")
        return _Open(rounds, maker, settings, loop)

    def _usual_settings(self) -> Settings:
        if self._settings is not None:
            return self._settings
        adapter = self.local.adapter
        return self._bare_settings() if adapter is None else Settings.of_adapter(adapter.folder)

    def _bare_settings(self) -> Settings:
        """Those of the weights without an adapter: what they were trained as, and their folder's diffusion.json."""
        return Settings.of_checkpoint(self.local.config.denoising).read_over(self.local.folder)

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
        """The prompt's tokens, made on another thread, and the contract compiled there: that takes no tokenizer, and
        keeps no pass waiting.

        Raises:
            EngineRefused: the prompt alone is longer than the context, or together with a canvas of free text, or the
            adapter knows no free text, or no scaffold holds the contract.
        """
        from carrara.engines.diffusion.prepare import on_canvas, text_room

        free, context = request.output, self.context_tokens
        if isinstance(free, Text) and not self.local.writes_free_text:
            raise EngineRefused(_NO_FREE_TEXT)
        prompt, reason = await asyncio.to_thread(
            lambda: (
                bare_prompt(on_canvas(request), self.local.tokenizer, context, self._name),
                self.refusal(free),
            )
        )
        if isinstance(free, Text):  # all of its canvas is masks: it is not made to find that out
            room = text_room(free, request.limits.max_tokens)
            check_room(len(prompt), request, room, context, self._name)
        if reason is not None:
            raise EngineRefused(f"no scaffold holds this contract: {reason}")
        return prompt

    def _way(self, request: Request, now: _Open) -> tuple[bool, Settings]:
        """Whether the request goes through the adapter, and the settings that it is denoised with.

        Raises:
            EngineRefused: no such adapter, or no such commit rule.
        """
        from carrara.engines.diffusion.prepare import checked_rule

        adapted = self.local.uses_adapter(request.adapter)
        bare = not adapted and self.local.adapter is not None
        settings = self._bare_settings() if bare else now.settings
        checked_rule(request, settings)
        return adapted, settings

    def _job(
        self, request: Request, prompt: list[int], now: _Open, adapted: bool, settings: Settings
    ) -> Job:
        """Prompt and canvas, on the model's thread.

        Raises:
            EngineRefused: together they are longer than the context, or there is no canvas for the request.
            EngineFailed: making it broke.
        """
        from carrara.engines.diffusion.job import Job

        try:
            roomy = now.maker.roomy(request)
            canvas = now.maker.canvas(roomy, settings, len(prompt))
            check_room(len(prompt), request, canvas.room, self.context_tokens, self._name)
            return Job(roomy, prompt, canvas, settings, adapted, self.local.device)
        except CarraraError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise EngineFailed(f"engine {self._name!r} could make no canvas: {told}") from error


def are_plain_weights(local: LocalModel) -> bool:
    """Whether nothing says that a model, which is open, was trained to denoise."""
    trained = local.config.denoising is not None or (local.folder / FILE).is_file()
    return local.adapter is None and not trained


_ADAPTER_KEYS = {"mask_token_id": "mask_token_id", "slot_pad_id": "slot_pad_token_id"}


def default_limits(local: LocalModel) -> BatchLimits:
    """What suits the device: how many rows, how much memory, how long a chunk of prompt."""
    from carrara.engines.diffusion.batch import BatchLimits

    if local.device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(local.device)
        return BatchLimits(
            64, bytes=int(free * _GPU_SHARE), chunk=4096, quiet_chunk=16384, passes_per_sync=4
        )
    return BatchLimits(bytes=_CPU_BYTES)

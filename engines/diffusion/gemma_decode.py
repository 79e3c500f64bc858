"""The passes of DiffusionGemma for the served engine: clean tokens once, then each canvas over noise.

What is undecided are random tokens, drawn anew for every pass from a generator of the request: its seed, 0 without
one, so that equal requests have equal answers. Logits are divided by the temperature of the pass, as the model was
published, and told to the next pass (self-conditioning) while the canvas keeps its length. Canvases are computed one
after another, so company changes nothing; prompts are not shared.

Legend: N positions of the canvas, V vocabulary.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from carrara.engines.diffusion.batch import Plan
from carrara.engines.diffusion.decode import Decoder, Performed
from carrara.engines.diffusion.job import Job
from carrara.engines.diffusion.reader import MaskTable
from carrara.engines.errors import CarraraError
from carrara.engines.faults import is_device_lost
from carrara.engines.local import LocalModel
from carrara.engines.model.config import UniformNoise
from carrara.engines.model.gemma import GemmaCache

_CHUNK = 256


@dataclass(slots=True, eq=False)
class _Row:
    """A request: what is encoded, its noise, and where its block is. `said` [1, N, V] are the last pass's logits."""

    cache: GemmaCache
    generator: torch.Generator
    block: int = -1
    step: int = 0
    said: Tensor | None = None

    def begin_pass(self, block: int, width: int) -> None:
        if block != self.block:
            self.block, self.step, self.said = block, 0, None
        if self.said is not None and self.said.shape[1] != width:
            self.said = None


class GemmaDecoder(Decoder):
    """Performs plans as `Decoder` does. Rows of the plan are not used: each request has a cache of its own."""

    def __init__(self, local: LocalModel) -> None:
        if local.gemma is None or local.config.denoising is None:
            raise CarraraError(f"model {local.source!r} is no DiffusionGemma")
        self._local, self._gemma = local, local.gemma
        self._noise = local.config.denoising.noise or UniformNoise()
        self._table = MaskTable(local.device)
        self._open: dict[int, _Row] = {}

    @property
    def cache_bytes(self) -> int:
        return sum(
            layer.keys.nbytes + layer.values.nbytes
            for row in self._open.values()
            for layer in row.cache.cache.layers
        )

    def clear(self) -> None:
        self._open.clear()

    def perform(self, plan: Plan, jobs: Mapping[int, Job], passes: int = 1) -> Performed:
        begun = time.monotonic()
        self._open = {ticket: row for ticket, row in self._open.items() if ticket in jobs}
        for feed in plan.feeds:
            job = jobs[feed.ticket]
            if feed.ticket not in self._open:
                self._open[feed.ticket] = self._row(job)
            with self._local.pace.timed("prompt", feed.count, 1), _alone(job):
                self._encode_up_to(
                    job.tokens, feed.start + feed.count, self._open[feed.ticket].cache
                )
        encoded_s = time.monotonic() - begun
        for spot in plan.spots:
            job = jobs[spot.ticket]
            if job.is_sound:
                with self._local.pace.timed("canvas", 1, 1), _alone(job):
                    self._refine(job, self._open[spot.ticket])
        return Performed(encoded_s, None)

    def _row(self, job: Job) -> _Row:
        sampling = job.request.sampling
        seed = 0 if sampling.temperature <= 0 else random.getrandbits(62)
        generator = torch.Generator(self._local.device)
        generator.manual_seed((seed if sampling.seed is None else sampling.seed) % (1 << 62))
        return _Row(GemmaCache(self._gemma.network), generator)

    def _encode_up_to(self, tokens: Sequence[int], known: int, cache: GemmaCache) -> None:
        """Encode what may be read of tokens up to `known`: whole chunks, and the rest once all are known.

        Where a prompt is cut depends on company, and a last bit on where it is cut; so chunks are cut again here.
        """
        while cache.length < known:
            end = min(cache.length + _CHUNK, len(tokens))
            if end > known:
                return
            fed = torch.tensor([tokens[cache.length : end]], device=self._local.device)
            cache.encode(fed, torch.ones_like(fed, dtype=torch.bool))

    def _refine(self, job: Job, row: _Row) -> None:
        """One pass over one canvas."""
        view = job.view
        if view is None:
            return
        row.begin_pass(len(job.tokens), len(view.tokens))
        device = self._local.device
        shown = torch.tensor([view.tokens], device=device)
        noise = torch.randint(
            self._local.config.vocab_size, shown.shape, generator=row.generator, device=device
        )
        canvas = torch.where(shown == job.canvas.mask_id, noise, shown)
        how = self._noise
        left = max(1, how.steps - row.step) / how.steps
        raw = row.cache.denoise(canvas, row.said)
        row.said = raw / (how.t_min + (how.t_max - how.t_min) * left)
        row.step += 1
        self._settle(job, partial(job.take, row.said[0, view.offsets], self._table))


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """A pass over one request: what breaks in it is that request's own affair, unless the device is lost."""
    try:
        yield
    except Exception as error:
        if is_device_lost(error):
            raise
        job.fail(f"its pass broke: {error}", error)

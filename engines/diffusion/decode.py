"""The tensors of a batch: performs plans on the model's thread.

Legend: B rows, T token places a row, S slots looked at, K positions whose logits are wanted, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor

from carrara.engines.diffusion.batch import Plan
from carrara.engines.diffusion.canvas import Reading
from carrara.engines.diffusion.canvas_pass import (
    CanvasPasses,
    on_device,
    switch,
    zero_filled,
)
from carrara.engines.diffusion.job import Job
from carrara.engines.diffusion.reader import MaskTable
from carrara.engines.diffusion.run_ahead import Reader, RunAhead, can_run_ahead
from carrara.engines.diffusion.together import Glance, read_together, tile_rows
from carrara.engines.faults import Parts, in_parts, is_device_lost, is_out_of_memory
from carrara.engines.local import LocalModel
from carrara.engines.model.attention import visible_up_to
from carrara.engines.model.buckets import Canvases, Record, Run, padded
from carrara.engines.model.kv import KVCache, cache_rows
from carrara.engines.model.pattern import STEADY_TOKENS
from carrara.engines.seats import Feed, Spot

F = TypeVar("F", Feed, Spot)

_MOST_JOINED = 128
"""Tokens of a prompt that are computed with the canvas behind them: more of them are worth a pass of their own."""


@dataclass(frozen=True, slots=True)
class Performed:
    """`encoded_s` seconds until denoising began: those of the feeds. `full_at`: the fewest canvases with which a pass
    ran out of memory, None if none did."""

    encoded_s: float
    full_at: int | None


class NoRoom(Exception):
    """There is no memory for the cache that a plan asks for. What is in the cache is worth nothing any more."""


class Decoder:
    """The cache of one engine and its passes. Every method runs on the thread of `local`."""

    def __init__(self, local: LocalModel, record: Record | None = None) -> None:
        """`record`: how denoising passes are recorded, None for the device's own way (see `model.buckets`)."""
        self._local = local
        self._model = local.model
        self._cache = self._empty_cache()
        self._table = MaskTable(local.device)
        self._passes = CanvasPasses(local, record)
        self._tile = tile_rows(local.device, local.config.vocab_size)

    @property
    def cache_bytes(self) -> int:
        return self._cache.data.nbytes

    def clear(self) -> None:
        """Give the memory of the cache back; nobody may be seated."""
        self._cache = self._empty_cache()

    def perform(self, plan: Plan, jobs: Mapping[int, Job], passes: int = 1) -> Performed:
        """Do all that the plan says; the jobs go on, finish where they do, or say why they cannot.

        Up to `passes` denoising passes are made before the host reads one, where the canvases allow it (`run_ahead`). A
        pass that breaks is tried again over fewer of them, so that whoever it breaks with fails alone.

        Raises:
            NoRoom: no memory for the cache.
            Exception: the device was lost.
        """
        begun = time.monotonic()
        self._arrange(plan)
        if plan.can_be_one and passes == 1 and self._can_join(plan.feeds[0], jobs):
            joined = in_parts(plan.spots, lambda some: self._join(plan, jobs), self._release)
            return Performed(0.0, self._blame(joined, jobs))
        feeds = [feed for feed in plan.feeds if jobs[feed.ticket].settings.attention != "full"]
        full_at = None
        if feeds:
            with self._local.pace.timed("prompt", sum(feed.count for feed in feeds), len(feeds)):
                parts = in_parts(feeds, lambda some: self._encode(some, jobs), self._release)
            full_at = self._blame(parts, jobs)
            self._keep_prefixes(self._sound(feeds, jobs), jobs)
        encoded_s = time.monotonic() - begun
        self._passes.stale.keep([spot.ticket for spot in plan.spots])
        for group in plan.groups:
            spots = [spot for spot in group if jobs[spot.ticket].is_sound]
            told = [spot for spot in spots if jobs[spot.ticket].is_told]
            others = [spot for spot in spots if not jobs[spot.ticket].is_told]
            for broken in (
                in_parts(told, lambda some: self._take_told(some, jobs), self._release),
                in_parts(others, lambda some: self._denoise(some, jobs, passes), self._release),
            ):
                full_at = min(filter(None, (full_at, self._blame(broken, jobs))), default=None)
        return Performed(encoded_s, full_at)

    def _arrange(self, plan: Plan) -> None:
        """Bring the cache into the shape of a plan."""
        if plan.is_empty:
            self._forget_all()
        for move in plan.moves:
            length = max(move.length, self._passes.stale.moved(move.source, move.target))
            self._cache.put(move.target, 0, self._cache.take(move.source, 0, length))
        for is_last in (False, True):
            try:
                self._cache.resize(plan.rows, max(plan.slots, self._passes.least_slots))
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._passes.least_slots = 0
                if is_last:
                    self._forget_all()
                    raise NoRoom(str(error)) from None
            self._local.prefix_cache.clear()
            self._release()

    def _forget_all(self) -> None:
        """Begin with an empty cache."""
        self._cache, self._passes.least_slots = self._empty_cache(), 0
        self._passes.stale.keep([])

    def _release(self) -> None:
        """Hand memory that nothing holds any more back to the device."""
        if self._local.device.type == "cuda":
            torch.cuda.empty_cache()

    def _blame(self, parts: Parts[F], jobs: Mapping[int, Job]) -> int | None:
        for item, error in parts.failed:
            why = "there is no memory for its pass" if is_out_of_memory(error) else "its pass broke"
            jobs[item.ticket].fail(f"{why}: {error}", error)
            self._blank(item.ticket, item.row)
        return parts.full_at

    def _blank(self, ticket: int, row: int) -> None:
        """Leave nothing of a canvas in its row: masked numbers that are none would spread to the next one there."""
        self._cache.blank(row)
        self._passes.stale.forget(ticket)

    def _sound(self, feeds: Sequence[Feed], jobs: Mapping[int, Job]) -> list[Feed]:
        """The feeds that left numbers in the cache.

        What is no number in a layer is none in those above it, so the last layer is looked at. The fault may be that of
        a cached beginning: then that is dropped, and the job has to be encoded anew.
        """
        feeds = [feed for feed in feeds if jobs[feed.ticket].is_sound]
        if not feeds:
            return []
        last = self._cache.data[-1]
        finite = torch.stack(
            [last[:, f.row, :, f.start : f.start + f.count].isfinite().all() for f in feeds]
        )
        found = []
        for feed, is_finite in zip(feeds, finite.tolist(), strict=True):
            job = jobs[feed.ticket]
            if is_finite:
                found.append(feed)
                continue
            self._blank(feed.ticket, feed.row)
            if job.hit is not None and job.hit.tokens:
                key, known = job.prefix_key(self._local), job.tokens[: job.prompt]
                self._local.prefix_cache.forget(key, known)
                job.is_spoilt, job.hit = True, None
            else:
                job.fail("the model gave no finite numbers for its prompt")
        return found

    def _encode(self, feeds: Sequence[Feed], jobs: Mapping[int, Job]) -> None:
        """One pass over prompts and settled blocks; their keys and values stay."""
        self._load_prefixes(feeds, jobs)
        batch = [jobs[feed.ticket] for feed in feeds]
        feeds = [_from_border(feed, job) for feed, job in zip(feeds, batch, strict=True)]
        # Padded to a steady pass (see `model.llama`): what it leaves in the prefix cache has the bits that every
        # decoder would have computed.
        width = max(STEADY_TOKENS, *(feed.count for feed in feeds))
        tokens = [
            job.tokens[feed.start : feed.start + feed.count]
            for feed, job in zip(feeds, batch, strict=True)
        ]
        inputs, positions = self._inputs(tokens, [feed.start for feed in feeds], width)
        wanted = [
            job.settings.logit_shift and feed.start + feed.count == len(job.tokens)
            for feed, job in zip(feeds, batch, strict=True)
        ]
        ends = [[feed.count - 1] if any(wanted) else [] for feed in feeds]
        hidden = self._model(
            inputs,
            positions,
            self._sight(feeds, batch, positions),
            self._cache,
            rows=cache_rows([feed.row for feed in feeds], self._local.device),
            pick=torch.tensor(ends, dtype=torch.int64, device=self._local.device),
            switch=on_device(switch(batch), self._local.device),
            quick="canvas" if self._local.small_prompts else False,
            head=False,
        )
        for number, (job, is_wanted) in enumerate(zip(batch, wanted, strict=True)):
            if is_wanted:
                job.last = hidden[number, 0]

    def _can_join(self, feed: Feed, jobs: Mapping[int, Job]) -> bool:
        """Whether the end of a prompt and the canvas behind it can be computed in one pass, with the same bits as in
        two: both in int8, each attending by itself."""
        job = jobs[feed.ticket]
        steady = self._local.device.type == "cpu" and job.settings.attention == "causal"
        asks = job.view is not None and not job.is_told
        return self._local.small_prompts and steady and asks and feed.count <= _MOST_JOINED

    def _join(self, plan: Plan, jobs: Mapping[int, Job]) -> None:
        """One pass over the end of a prompt and the canvas behind it: it reads the weights once."""
        (feed,), (spot,) = plan.feeds, plan.spots
        job = jobs[spot.ticket]
        self._passes.stale.keep([])
        self._load_prefixes([feed], jobs)
        canvases = self._passes.canvases([spot], [job])
        with self._timed([job]):
            hidden = self._passes.joined(feed, job, canvases, self._cache)
            if not self._sound([feed], jobs):
                self._passes.stale.keep([])
                return
            job.last = hidden[0]
            self._keep_prefixes([feed], jobs)
            (said,) = self._read([job], [hidden[1:]])
        self._settle(job, partial(job.take, said, self._table))
        if not job.is_sound:
            self._blank(spot.ticket, spot.row)

    def _sight(
        self, feeds: Sequence[Feed], batch: Sequence[Job], positions: Tensor
    ) -> Tensor | None:
        """Who sees whom among clean tokens; None where all rows are causal, which makes a steady pass."""
        if all(job.settings.attention == "causal" for job in batch):
            return None
        limits = []
        for feed, job, row in zip(feeds, batch, positions, strict=True):
            block = 1 if job.settings.attention == "causal" else job.settings.attention_block_tokens
            last = feed.start + feed.count - 1
            limits.append((row // block * block + block - 1).clamp_max(last))
        return visible_up_to(torch.stack(limits), int(positions.max()) + 1)

    def _take_told(self, spots: Sequence[Spot], jobs: Mapping[int, Job]) -> None:
        """Read canvases of which all that is asked was predicted with the token before them: a choice, say, whose
        options part at their first token. That needs the head alone."""
        batch = [jobs[spot.ticket] for spot in spots]
        said = self._read(batch, [_last(job) for job in batch])
        for job, one in zip(batch, said, strict=True):
            self._settle(job, partial(job.take, one, self._table))

    def _denoise(self, spots: Sequence[Spot], jobs: Mapping[int, Job], passes: int) -> None:
        """One pass over all blocks, each seeing its row's cache and itself in both directions; or several of them.

        Clean tokens that see the block are computed with it. It writes the blocks behind the rows' lengths,
        where the next pass writes over them.
        """
        batch = [jobs[spot.ticket] for spot in spots]
        canvases = self._passes.canvases(spots, batch)
        most = min(passes, max(map(_most_passes, batch), default=1))
        takes: Sequence[Callable[[], None]]
        try:
            run = self._passes.opened(canvases, self._cache)
            if most > 1 and can_run_ahead(batch):
                takes = self._run_ahead(batch, canvases, run, most)
            else:
                with self._timed(batch):
                    hidden = run()
                    wanted = enumerate(map(len, canvases.wanted))
                    said = self._read(batch, [hidden[row, :count] for row, count in wanted])
                takes = [
                    partial(job.take, one, self._table)
                    for job, one in zip(batch, said, strict=True)
                ]
        except BaseException:
            self._passes.stale.keep([])  # nobody knows what was computed
            raise
        for spot, job, take in zip(spots, batch, takes, strict=True):
            self._settle(job, take)
            if not job.is_sound:
                self._blank(spot.ticket, spot.row)

    def _run_ahead(
        self,
        batch: Sequence[Job],
        canvases: Canvases,
        run: Run,
        passes: int,
    ) -> list[Callable[[], None]]:
        """Up to so many passes in which the device goes on by itself; how each job takes what came of them."""
        numbers = count()
        cells = [[next(numbers) for _ in tokens] for tokens in canvases.tokens]
        ahead = RunAhead(
            batch,
            canvases.tokens,
            [len(job.tokens) - job.context_start for job in batch],
            padded(cells, *self._passes.shape(canvases)),
            Reader(self._head, self._table, self._tile),
            self._local.device,
        )

        def forward(tokens: Tensor) -> Tensor:
            with self._timed(batch):
                return run(tokens)

        found = ahead.run(forward, passes)
        return [partial(job.take_committed, one) for job, one in zip(batch, found, strict=True)]

    def _timed(self, batch: Sequence[Job]) -> AbstractContextManager[None]:
        return self._local.pace.timed("canvas", len(batch), len(batch))

    def _read(self, batch: Sequence[Job], states: Sequence[Tensor]) -> list[Tensor | Reading]:
        """What each job takes: a reading, made for all of them together, or logits [K, V] where it needs them."""
        found: dict[int, Tensor | Reading] = {}
        glances: dict[int, Glance] = {}
        for number, (job, hidden) in enumerate(zip(batch, states, strict=True)):
            if job.needs_last:
                hidden = torch.cat((_last(job), hidden[1:]))
            if job.needs_logits or job.view is None:
                found[number] = self._head(hidden)
            else:
                glances[number] = Glance(job.view, hidden)
        readings = (
            read_together(
                list(glances.values()), self._head, self._model.head, self._table, self._tile
            )
            if glances
            else []
        )
        found |= dict(zip(glances, readings, strict=True))
        return [found[number] for number in range(len(batch))]

    def _head(self, hidden: Tensor) -> Tensor:
        return self._model.logits(hidden[None], "canvas")[0]

    def _settle(self, job: Job, take: Callable[[], None]) -> None:
        """Let one job take what came of a pass; what goes wrong there is its own affair, unless the device is lost."""
        for is_last in (False, True):
            try:
                take()
                return
            except Exception as error:
                if is_device_lost(error):
                    raise
                if is_last or not is_out_of_memory(error):
                    job.fail(f"a canvas could not be refined: {error}", error)
                    return
            self._release()

    def _inputs(
        self, tokens: Sequence[Sequence[int]], starts: Sequence[int], width: int
    ) -> tuple[Tensor, Tensor]:
        """Tokens and positions [B, T]; padding repeats token 0 at positions that go on counting."""
        device = self._local.device
        first = torch.tensor(starts, device=device)[:, None]
        return torch.tensor(zero_filled(tokens, width), device=device), first + torch.arange(
            width, device=device
        )

    def _load_prefixes(self, feeds: Sequence[Feed], jobs: Mapping[int, Job]) -> None:
        for feed in feeds:
            hit = jobs[feed.ticket].hit
            if hit is not None and hit.payloads and feed.start == hit.tokens:
                self._cache.put(feed.row, 0, torch.cat(hit.payloads, dim=3))

    def _keep_prefixes(self, feeds: Sequence[Feed], jobs: Mapping[int, Job]) -> None:
        """Prompts as far as they were encoded; they are computed causally, as every decoder does."""
        for feed in feeds:
            job = jobs[feed.ticket]
            known = job.tokens[: min(feed.start + feed.count, job.prompt)]
            take = partial(self._cache.take, feed.row)
            self._local.prefix_cache.insert(job.prefix_key(self._local), known, take)

    def _empty_cache(self) -> KVCache:
        return KVCache(self._model.config, 0, 0, self._local.dtype, self._local.device)


def _last(job: Job) -> Tensor:
    """The hidden state of the last token in its cache, [1, D]."""
    assert job.last is not None
    return job.last[None]


def _most_passes(job: Job) -> int:
    """How many passes its block may still take: each commits something."""
    sites = 0 if job.view is None else len(job.view.sites)
    return sites if job.passes_left is None else min(sites, job.passes_left)


def _from_border(feed: Feed, job: Job) -> Feed:
    """The feed from the border of its first block on: what it completes must be computed as a whole."""
    start = feed.start - _reach(feed, job)
    return Feed(feed.ticket, feed.row, start, feed.count + feed.start - start)


def _reach(feed: Feed, job: Job) -> int:
    """How many tokens before the feed belong to its first block."""
    if job.settings.attention != "block":
        return 0
    return feed.start - job.settings.context_start(feed.start)

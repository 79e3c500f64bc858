"""Denoising passes over the canvases of a batch: what is computed of each, and the pass with its inputs on the device.

Legend: B rows, K positions whose hidden states are wanted, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carrara.engines.diffusion.job import Job
from carrara.engines.diffusion.stale import Stale
from carrara.engines.local import LocalModel
from carrara.engines.model.attention import full
from carrara.engines.model.buckets import BucketPasses, Canvases, Record, Run, padded, recorder
from carrara.engines.model.kv import KVCache, cache_rows
from carrara.engines.model.pattern import Pattern, each_row, steady
from carrara.engines.seats import Feed, Spot


class CanvasPasses:
    """Those of one engine. `stale` knows what lies in its cache behind the rows' lengths, `least_slots` of which the
    recorded passes need. `record`: how they are recorded, None for the device's own way."""

    def __init__(self, local: LocalModel, record: Record | None = None) -> None:
        self._local, self._model = local, local.model
        record = record or recorder(local.device)
        self._buckets = None if record is None else BucketPasses(self._model, record)
        self.stale = Stale()
        self.least_slots = 0

    def canvases(self, spots: Sequence[Spot], batch: Sequence[Job]) -> Canvases:
        """What to compute of each block: all of it, or what is asked about and what changed (`stale`)."""
        tokens, positions, ends, wanted = [], [], [], []
        for spot, job in zip(spots, batch, strict=True):
            start = job.context_start
            fed, asked = _fed(job, start), _sources(job, start)
            refresh = job.settings.canvas_refresh_passes
            chosen = self.stale.offsets(spot.ticket, spot.row, start, fed, asked, refresh)
            places = {offset: number for number, offset in enumerate(chosen)}
            tokens.append([fed[offset] for offset in chosen])
            positions.append([start + offset for offset in chosen])
            ends.append(start + len(fed))
            wanted.append([places[offset] for offset in asked])
        rows = [spot.row for spot in spots]
        return Canvases(rows, tokens, positions, ends, wanted, switch(batch))

    def shape(self, canvases: Canvases) -> tuple[int, int]:
        """Width and rows of a pass with its padding."""
        if self._buckets is None:
            return canvases.width, len(canvases.rows)
        return canvases.bucket.width, canvases.bucket.rows

    def opened(self, canvases: Canvases, cache: KVCache) -> Run:
        """The pass over canvases, which gives hidden states [B, K, D] of the wanted places; recorded if it can be."""
        if self._buckets is not None:
            self.least_slots = max(self.least_slots, self._buckets.room(canvases))
            cache.reserve(cache.rows, self.least_slots)
            return self._buckets.opened(canvases, cache)
        (width, rows), device = self.shape(canvases), self._local.device
        most = max(map(len, canvases.wanted))
        given = torch.tensor(padded(canvases.tokens, width, rows), device=device)
        positions = torch.tensor(padded(canvases.positions, width, rows), device=device)
        pick = torch.tensor(zero_filled(canvases.wanted, most), device=device)
        visible, weights = self._visible(canvases, width), on_device(canvases.switch, device)

        def run(tokens: Tensor | None = None) -> Tensor:
            hidden: Tensor = self._model(
                given if tokens is None else tokens,
                positions,
                visible,
                cache,
                rows=cache_rows(canvases.rows, device),
                pick=pick,
                switch=weights,
                quick="canvas",
                head=False,
            )
            return hidden

        return run

    def joined(self, feed: Feed, job: Job, canvases: Canvases, cache: KVCache) -> Tensor:
        """Hidden states [1 + K, D] of a pass over the end of a prompt, causally, and the one canvas behind it: that of
        the prompt's last token, and those of the wanted places. On a CPU; all of it is kept in the cache."""
        count = feed.count
        fed = job.tokens[feed.start : feed.start + count]
        ends = list(range(feed.start, feed.start + count))
        tokens = torch.tensor([[*fed, *canvases.tokens[0]]])
        positions = torch.tensor([[*ends, *canvases.positions[0]]])
        pick = torch.tensor([[count - 1, *(count + place for place in canvases.wanted[0])]])
        group, dtype = self._model.config.group, self._local.dtype
        prompt = steady(positions[:, :count], cache.slots, group, dtype)
        hidden: Tensor = self._model(
            tokens,
            positions,
            prompt.before(canvases.ends[0], slice(count, tokens.shape[1])),
            cache,
            rows=cache_rows(canvases.rows, self._local.device),
            pick=pick,
            switch=on_device(canvases.switch, self._local.device),
            quick="canvas",
            head=False,
        )
        return hidden[0]

    def _visible(self, canvases: Canvases, width: int) -> Tensor | Pattern:
        """All that lies in a row is seen. On a CPU each row attends by itself: its bits are the same in any company."""
        ends, device = canvases.ends, self._local.device
        if device.type == "cpu":
            counts = [len(tokens) for tokens in canvases.tokens]
            return each_row(ends, counts)
        return full(torch.tensor(ends, device=device), width, max(ends))


def switch(batch: Sequence[Job]) -> list[float] | None:
    """Who goes through the adapter, None if nobody does."""
    if not any(job.adapted for job in batch):
        return None
    return [float(job.adapted) for job in batch]


def on_device(values: Sequence[float] | None, device: torch.device) -> Tensor | None:
    return None if values is None else torch.tensor(values, device=device)


def zero_filled(rows: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    return [[*row, *[0] * (width - len(row))] for row in rows]


def _fed(job: Job, start: int) -> list[int]:
    """What a denoising pass computes of a job: clean tokens from `start` on, and the block."""
    assert job.view is not None
    return [*job.tokens[start:], *job.view.tokens]


def _sources(job: Job, start: int) -> list[int]:
    """The places among what is fed whose logits say something about the wanted positions."""
    if job.view is None:
        return []
    context, shift = len(job.tokens) - start, int(job.settings.logit_shift)
    return [max(context + offset - shift, 0) for offset in job.view.offsets]

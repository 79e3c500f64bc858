"""The canvas of free text for models whose noise are random tokens: nothing is settled before its block is.

Masks mark what is noise on our side only; who computes puts random tokens there (`gemma_decode`). The published
sampler of DiffusionGemma, as a canvas of the served engine; `uniform_canvas` is the same for whole batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from carrara.engines.diffusion.canvas import Reading, Site, View
from carrara.engines.diffusion.commit import CommitRule
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.model.config import UniformNoise


@dataclass(slots=True, eq=False)
class NoiseCanvas(FreeCanvas):
    """What a pass does not accept is noise again in the next one, also what an earlier pass accepted.

    A block is over, with its best tokens, once these were the same for `how.stable` passes more and their mean entropy
    is below `how.sure`, or after `how.steps` passes. What was given stays.
    """

    how: UniformNoise = field(default_factory=UniformNoise)
    _passes: int = field(init=False, default=0)
    _best: list[list[int]] = field(init=False, default_factory=list)
    _chance: list[float] = field(init=False, default_factory=list)
    _is_over: bool = field(init=False, default=False)

    def view(self) -> View | None:
        while self.begin < len(self.tokens):
            current = self.tokens[self.begin : self.end]
            open_ = self._open()
            if open_ and not self._is_over:
                sites = tuple(Site(at - self.begin, self.row) for at in open_)
                return View(tuple(current), sites, ())
            self._take_best()
            self._pass_on(self.tokens[self.begin : self.end])
        return None

    def settle(self, reading: Reading, rule: CommitRule, step: int) -> None:
        sure = torch.tensor([list(reading.sure)], dtype=torch.float32)
        accepted = rule(sure, torch.ones_like(sure, dtype=torch.bool), step)[0].tolist()
        for at, token, accepts in zip(self._open(), reading.tokens, accepted, strict=True):
            self.tokens[at] = token if accepts else self.mask_id
        best = list(reading.tokens)
        same = len(self._best) >= self.how.stable and all(
            earlier == best for earlier in self._best[len(self._best) - self.how.stable :]
        )
        self._best = [*self._best, best]
        self._chance, self._passes = list(reading.chance), self._passes + 1
        entropy = [-math.log(max(value, 1e-30)) for value in reading.sure]
        calm = sum(entropy) / len(entropy) < self.how.sure
        self._is_over = (same and calm) or self._passes >= self.how.steps

    def finish(self) -> None:
        """The best tokens of the last pass; what was never looked at is no text."""
        self._take_best()
        FreeCanvas.finish(self)

    def _open(self) -> list[int]:
        """Where the block was noise when it began."""
        return [at for at in range(self.begin, self.end) if self.start[at] == self.mask_id]

    def _may_change(self, at: int) -> bool:
        """What was accepted becomes noise again where the next pass does not accept it."""
        return self.start[at] == self.mask_id and self.tokens[at] != self.mask_id

    def _take_best(self) -> None:
        if self._best:
            found = zip(self._open(), self._best[-1], self._chance, strict=True)
            for at, token, chance in list(found):
                self.tokens[at], self.sure[at] = token, chance
        self._best, self._chance, self._passes, self._is_over = [], [], 0, False
        self._cut_at_end()

"""One request in the making: its canvas, what is in the cache, and what becomes of it."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from carrara.engines.contract import Text
from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.commit import CommitRule, confidence_threshold
from carrara.engines.diffusion.confidence import of_text, of_tree
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.reader import MaskTable, read
from carrara.engines.diffusion.refine import within
from carrara.engines.diffusion.scaffold import read as reading
from carrara.engines.diffusion.scaffold_canvas import ScaffoldCanvas
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import EngineError
from carrara.engines.prefix_cache import Hit
from carrara.engines.request import Completion, Progress, Request, StopReason, Timings, Usage


@dataclass(slots=True, eq=False)
class Job:
    """Made when a request is accepted; afterwards only the model's thread changes it, between two passes.

    `tokens` belong into the cache: the prompt, then the clean tokens of settled blocks. `last` are the logits
    behind the last of them, which predict the first position of a block where logits are shifted.
    """

    request: Request
    prompt: int
    tokens: list[int]
    canvas: ScaffoldCanvas | FreeCanvas
    settings: Settings
    adapted: bool
    device: torch.device
    rule: CommitRule = field(init=False)
    generator: torch.Generator | None = field(init=False, default=None)
    hit: Hit[Tensor] | None = None
    last: Tensor | None = None
    passes: int = 0
    step: int = 0
    cut: bool = False
    failure: EngineError | None = None
    begun: list[float] = field(default_factory=lambda: [time.monotonic()])

    def __post_init__(self) -> None:
        self.rule = confidence_threshold(self.settings.threshold)
        sampling = self.request.sampling
        if sampling.temperature > 0:
            seed = random.getrandbits(62) if sampling.seed is None else sampling.seed
            self.generator = torch.Generator(self.device).manual_seed(seed % (1 << 62))

    def look(self) -> View | None:
        """The block to denoise, None once the answer is finished. Clean tokens of settled blocks join `tokens`."""
        limit = self.request.limits.max_steps
        view = self.canvas.view()
        if view is not None and limit is not None and self.passes >= limit:
            self.canvas.finish()
            self.cut, view = True, None
        clean = self.canvas.take_clean()
        if clean:
            self.step = 0
            self.tokens += clean
        return view

    def take(self, logits: Tensor, view: View, table: MaskTable) -> None:
        """Let the canvas settle what the logits [K, V] of its view say."""
        reading = read(logits, view, table, self.request.sampling, self.generator)
        limit = self.request.limits.max_steps
        left = None if limit is None else limit - self.passes
        self.canvas.settle(reading, within(self.rule, self.canvas, left), self.step)
        self.passes += 1
        self.step += 1

    def mark(self) -> None:
        """Note the time at which a phase begins: submitted, first encoded, first denoised."""
        self.begun.append(time.monotonic())

    def progress(self) -> Progress:
        return Progress(self.canvas.show(), self.canvas.settled_share, self.passes)

    def completion(self, engine: str, model: str) -> Completion:
        """The answer.

        Raises:
            ContractError: it does not hold to its contract, which would be a fault of the scaffold.
        """
        contract = self.request.output
        if isinstance(self.canvas, FreeCanvas):
            text, stop = self._free_text(self.canvas)
            confidence = of_text(self.canvas)
            value: Any = text
        else:
            text = reading.text(self.canvas.tree.root)
            value, confidence = contract.parse(text), of_tree(contract, self.canvas.tree)
            stop = "steps" if self.cut else "length" if self.canvas.is_cramped else "end"
        return Completion(
            text,
            value,
            confidence,
            self._usage(),
            self._timings(),
            stop,
            engine,
            model,
        )

    def _free_text(self, canvas: FreeCanvas) -> tuple[str, StopReason]:
        text = canvas.decode(canvas.answer)
        places = [at for stop in self.request.stop if (at := text.find(stop)) >= 0]
        if places:
            text = text[: min(places)]
        stop: StopReason = "stop" if places else "end" if canvas.ended else "length"
        return Text().parse(text), "steps" if self.cut else stop

    def _usage(self) -> Usage:
        cached = self.hit.tokens if self.hit else 0
        return Usage(self.prompt, cached, len(self.tokens) - self.prompt, self.passes)

    def _timings(self) -> Timings:
        now = time.monotonic()
        marks = [*self.begun, now, now][:3]
        return Timings(marks[1] - marks[0], marks[2] - marks[1], now - marks[2])


def seeded(texts: Sequence[str]) -> random.Random:
    """A source of chance that is the same for the same texts on every machine."""
    digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))

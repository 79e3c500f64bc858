"""DiffusionGemma: transformers' native model, decoded by the loop of this engine.

Clean tokens are encoded once, a canvas is denoised in some passes (`carrara.engines.model.gemma`). Its noise is uniform
(`uniform_canvas`), and each pass is told what the last one said (self-conditioning).

Legend: B rows, N positions of the canvas, T tokens of prompt and answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from carrara.engines.diffusion.commit import entropy_bounded
from carrara.engines.diffusion.reader import NOT_FINITE
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.uniform_canvas import Denoised, Noisy, UniformCanvas
from carrara.engines.model.gemma import GemmaCache, GemmaSettings


class Noise(Protocol):
    """All that is random in decoding. Canvases are [B, N] int64."""

    def canvas(self) -> Tensor:
        """A canvas to begin with."""
        ...

    def renoise(self) -> Tensor:
        """Tokens for what was not accepted."""
        ...

    def draw(self, shares: Tensor) -> Tensor:
        """One token for each position by its probabilities [B, N, V]."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """Noise from a generator, None for torch's own. `greedy` takes the best token instead of drawing one."""

    rows: int
    length: int
    vocab_size: int
    generator: torch.Generator | None = None
    greedy: bool = False
    device: torch.device | str = "cpu"

    def canvas(self) -> Tensor:
        size = (self.rows, self.length)
        return torch.randint(self.vocab_size, size, generator=self.generator, device=self.device)

    def renoise(self) -> Tensor:
        return self.canvas()

    def draw(self, shares: Tensor) -> Tensor:
        """As `Noise.draw`.

        Raises:
            FloatingPointError: there are no shares to draw by.
        """
        if not shares.isfinite().all():  # a GPU does not survive drawing by them
            raise FloatingPointError(NOT_FINITE)
        if self.greedy:
            return shares.argmax(-1)
        drawn = shares.flatten(0, 1).multinomial(1, generator=self.generator)
        return drawn.view(shares.shape[:2])


@dataclass(frozen=True, slots=True)
class GemmaPass:
    """One denoising pass as it happened. `accepted` [B, N] took the drawn tokens, the others `renoised` ones."""

    start: int
    before: Noisy
    said: Denoised
    raw: Tensor
    accepted: Tensor
    after: Tensor
    finished: Tensor


@dataclass(frozen=True, slots=True)
class Written:
    """All tokens [B, T], and how many denoising passes each row took part in [B]."""

    tokens: Tensor
    passes: Tensor
    encoded: int


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    new: int,
    settings: GemmaSettings,
    noise: Noise,
    trace: Callable[[GemmaPass], None] | None = None,
) -> Written:
    """Write ceil(new / canvas length) canvases behind prompts, fewer where all rows end before.

    Prompts are padded on the left. Behind the first of `eos_ids` a row is padding.
    """
    device, width = model.device, max(map(len, prompts))
    pad = settings.pad_id
    tokens = torch.tensor(
        [[*[pad] * (width - len(prompt)), *prompt] for prompt in prompts], device=device
    )
    real = torch.tensor(
        [[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts],
        device=device,
    )
    cache, unread, encoded = GemmaCache(model), tokens, 0
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    passes = torch.zeros(len(prompts), dtype=torch.int64, device=device)
    for _ in range(-(-new // model.config.canvas_length)):
        cache.encode(unread, real)
        encoded += 1
        best, made = _denoised(cache, settings, noise, ended, trace)
        passes += made
        unread, ended = _ended(best, ended, settings)
        real = torch.ones_like(unread, dtype=torch.bool)
        tokens = torch.cat((tokens, unread), 1)
        if bool(ended.all()):
            break
    return Written(tokens, passes, encoded)


def _denoised(
    cache: GemmaCache,
    settings: GemmaSettings,
    noise: Noise,
    ended: Tensor,
    trace: Callable[[GemmaPass], None] | None,
) -> tuple[Tensor, Tensor]:
    """Refine one canvas: its best tokens [B, N], and the passes that rows took part in [B]."""
    canvas = UniformCanvas(
        noise.canvas(), noise.renoise, settings.steps, settings.stable, settings.sure
    )
    passes = torch.zeros_like(ended, dtype=torch.int64)
    seen: list[tuple[Noisy, Denoised, Tensor]] = []

    def look(clean: Sequence[int], view: Noisy) -> Denoised:
        passes.add_(~(canvas.finished | ended))
        raw = cache.denoise(view.tokens, view.logits)
        left = (settings.steps - view.step) / settings.steps
        logits = raw / (settings.t_min + (settings.t_max - settings.t_min) * left)
        shares = logits.softmax(-1)
        entropy = -(shares * logits.log_softmax(-1)).sum(-1)
        said = Denoised(noise.draw(shares), logits.argmax(-1), entropy, logits)
        seen[:] = [(view, said, raw)]
        return said

    def watch(number: int) -> None:
        if trace is not None:
            view, said, raw = seen[0]
            trace(
                GemmaPass(
                    cache.length, view, said, raw, canvas.accepted, canvas.tokens, canvas.finished
                )
            )

    refine(canvas, look, entropy_bounded(settings.entropy_bound), watch=watch)
    return canvas.best, passes


def _ended(best: Tensor, ended: Tensor, settings: GemmaSettings) -> tuple[Tensor, Tensor]:
    """A finished canvas with padding behind ends of text, and which rows have ended."""
    ends = torch.isin(best, torch.tensor(settings.eos_ids, dtype=torch.int64, device=best.device))
    behind = (ends.cumsum(1) - ends.int() > 0) | ended[:, None]
    return best.masked_fill(behind, settings.pad_id), ended | ends.any(1)

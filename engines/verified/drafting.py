"""Making drafts: canvases behind the answers' own tokens, denoised together in one pass.

The pass only reads the cache (`keep=False` in `model.llama`): what the verifying passes left there stays as it is, so
that a draft, however wrong, never shows in the answer.

Legend: B rows, T token places a row, S slots of the cache looked at, K positions whose logits are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from carrara.engines.diffusion.prepare import CanvasMaker
from carrara.engines.diffusion.reader import MaskTable
from carrara.engines.diffusion.settings import Settings
from carrara.engines.local import LocalModel
from carrara.engines.model.kv import KVCache
from carrara.engines.request import Sampling
from carrara.engines.seats import Spot
from carrara.engines.verified.answer import VerifiedAnswer
from carrara.engines.verified.draft import Draft
from carrara.engines.verified.sketch import Sketch
from carrara.engines.verified.worth import Way


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a row of a draft pass reads: `context` cached tokens are seen, then come `given` tokens of the answer, each
    seeing what is before it, then the block, which sees everything."""

    context: int
    given: Sequence[int]
    block: Sequence[int]
    offsets: Sequence[int]

    @property
    def width(self) -> int:
        return len(self.given) + len(self.block)


class Drafter:
    """Every method runs on the thread of `local`. `failed` counts answers for which no draft could be made."""

    def __init__(self, local: LocalModel, maker: CanvasMaker, settings: Settings, plain: Settings):
        self._local, self._maker = local, maker
        self._settings, self._plain = settings, plain
        self._table = MaskTable(local.device)
        self.failed = 0

    def begin(self, answer: VerifiedAnswer, way: Way) -> None:
        """Put a new canvas behind the tokens of an answer; where that cannot be done, the answer goes on without."""
        settings = self._settings_for(answer)
        most = answer.room
        if answer.is_text:
            most = min(most, settings.text_block_tokens)
        rule = answer.request.rule
        request = replace(
            answer.request,
            limits=replace(answer.request.limits, max_tokens=most),
            sampling=Sampling(),
            rule=None if rule is not None and rule.name == "verified" else rule,
        )
        steps = [s for s in (way, answer.request.limits.max_steps, settings.most_steps) if s]
        vocabulary = self._local.tokenizer.vocabulary
        answer.draft = Draft(self._local.tokenizer.encode, vocabulary)
        answer.canvas_from = len(answer.tokens) if answer.is_text else answer.prompt
        if not answer.is_text:
            answer.draft.follow(answer.raw, len(answer.raw))
        with self._risking(answer):  # there may be no scaffold for the contract, or none so short
            canvas = self._maker.canvas(request, settings)
            most_passes = min(steps, default=None)
            answer.sketch = Sketch(canvas, settings, vocabulary, most_passes, request.rule)
            self._hand_over(answer, answer.sketch, answer.draft)

    def go_on(self, answer: VerifiedAnswer) -> None:
        """Denoise the next window of the canvas, behind what the answer has come to."""
        assert answer.draft is not None
        answer.canvas_from = answer.token_at(len(answer.raw) - answer.draft.over)
        answer.is_drafting = True

    def places(self, spots: Sequence[Spot], batch: Sequence[VerifiedAnswer]) -> int:
        """Token places of a draft pass, padding included."""
        scenes = [_scene(spot, answer) for spot, answer in zip(spots, batch, strict=True)]
        return len(scenes) * max(scene.width for scene in scenes)

    def denoise(
        self, spots: Sequence[Spot], batch: Sequence[VerifiedAnswer], cache: KVCache
    ) -> None:
        """One pass over all canvases; a window that settles becomes part of its answer's draft."""
        scenes = [_scene(spot, answer) for spot, answer in zip(spots, batch, strict=True)]
        width = max(scene.width for scene in scenes)
        cached = max(scene.context for scene in scenes)
        device = self._local.device
        rows = [[*s.given, *s.block, *[0] * (width - s.width)] for s in scenes]
        starts = torch.tensor([[scene.context] for scene in scenes], device=device)
        most = max(len(scene.offsets) for scene in scenes)
        logits = self._local.model(
            torch.tensor(rows, device=device),
            starts + torch.arange(width, device=device),
            _seen(scenes, width, cached, device),
            cache,
            keep=False,
            rows=torch.tensor([spot.row for spot in spots], device=device),
            pick=torch.tensor(
                [[*s.offsets, *[0] * (most - len(s.offsets))] for s in scenes], device=device
            ),
            switch=self._switch(batch),
        )
        for number, (scene, answer) in enumerate(zip(scenes, batch, strict=True)):
            self._settle(answer, logits[number, : len(scene.offsets)])

    def _settle(self, answer: VerifiedAnswer, logits: Tensor) -> None:
        assert answer.sketch is not None
        assert answer.draft is not None
        with self._risking(answer):
            if answer.sketch.take(logits, self._table):
                self._hand_over(answer, answer.sketch, answer.draft)

    def _hand_over(self, answer: VerifiedAnswer, sketch: Sketch, draft: Draft) -> None:
        """Add what the canvas has settled to the draft. Nothing settled: it is to be denoised."""
        pieces = sketch.new_pieces()
        draft.extend(pieces, answer.raw)
        answer.is_drafting = not pieces and sketch.view is not None

    @contextmanager
    def _risking(self, answer: VerifiedAnswer) -> Iterator[None]:
        """Whatever goes wrong with a draft costs the draft, not the answer; it is counted."""
        try:
            yield
        except Exception:
            self.failed += 1
            answer.sketch, answer.is_drafting = None, False

    def _settings_for(self, answer: VerifiedAnswer) -> Settings:
        usual = answer.adapted or self._local.adapter is None
        return self._settings if usual else self._plain

    def _switch(self, batch: Sequence[VerifiedAnswer]) -> Tensor | None:
        if not any(answer.adapted for answer in batch):
            return None
        return torch.tensor([float(answer.adapted) for answer in batch], device=self._local.device)


def _scene(spot: Spot, answer: VerifiedAnswer) -> _Scene:
    sketch = answer.sketch
    assert sketch is not None
    assert sketch.view is not None
    shift = int(sketch.settings.logit_shift)
    # With shifted logits the token before the block is read again: it predicts the block's first.
    context = min(spot.length, answer.canvas_from - shift)
    given = answer.tokens[context : answer.canvas_from]
    offsets = [len(given) + offset - shift for offset in sketch.view.offsets]
    return _Scene(context, given, sketch.view.tokens, offsets)


def _seen(scenes: Sequence[_Scene], width: int, cached: int, device: torch.device) -> Tensor:
    """Who sees whom, [B, 1, T, S + T]; padding is seen by nobody and sees what a block does."""
    place = torch.arange(width, device=device)
    context = torch.tensor([scene.context for scene in scenes], device=device)[:, None, None]
    given = torch.tensor([len(scene.given) for scene in scenes], device=device)[:, None, None]
    real = torch.tensor([scene.width for scene in scenes], device=device)[:, None, None]
    old = (torch.arange(cached, device=device) < context).expand(-1, width, -1)
    in_order = place[None, None] <= place[None, :, None]
    new = (place < real) & (in_order | (place[:, None] >= given))
    return torch.cat((old, new), dim=2)[:, None]

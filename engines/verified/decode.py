"""The passes of a round: verifying ones by the AR engine's own kernels, then one that denoises all drafts.

A verifying pass is an answer pass of the AR engine over more tokens. With int8 weights on a CPU each of them gets the
bits that it would have got alone (see `model.llama`), so each decision is the one the AR engine takes, confidence
included. Elsewhere products may round otherwise for more tokens, as they do for more rows in the AR engine itself.

Legend: B rows, T token places a row, K decisions a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from carrara.engines.autoregressive.answer import Answer
from carrara.engines.autoregressive.batch import Pass
from carrara.engines.autoregressive.decode import Decoder, blaming
from carrara.engines.autoregressive.sampling import choose
from carrara.engines.local import LocalModel
from carrara.engines.model.kv import cache_rows
from carrara.engines.seats import Feed
from carrara.engines.verified.ahead import Point
from carrara.engines.verified.answer import VerifiedAnswer
from carrara.engines.verified.batch import VerifyingPlan
from carrara.engines.verified.course import Course
from carrara.engines.verified.drafting import Drafter


@dataclass(slots=True)
class Tally:
    """Counts since the engine was opened. `drafted` decisions were guessed by drafts that a pass verified, `accepted`
    of them were right; `draft_passes` and `verifying_passes` are counted for each answer in them."""

    drafted: int = 0
    accepted: int = 0
    draft_passes: int = 0
    verifying_passes: int = 0


class VerifyingDecoder(Decoder):
    """See `Decoder`. `clock` measures what passes cost, for `course` to weigh."""

    def __init__(
        self, local: LocalModel, drafter: Drafter, course: Course, clock: Callable[[], float]
    ) -> None:
        super().__init__(local)
        self.tally = Tally()
        self.drafter = drafter
        self._course, self._clock = course, clock

    def serve(self, plan: VerifyingPlan, answers: Mapping[int, VerifiedAnswer]) -> None:
        """Do all that the plan says, and decide for each answer how it goes on."""
        self.perform(plan, answers)
        if plan.spots:
            begun = self._clock()
            batch = [answers[spot.ticket] for spot in plan.spots]
            with self._local.pace.timed(
                "draft", self.drafter.places(plan.spots, batch), len(batch)
            ):
                self.drafter.denoise(plan.spots, batch, self._cache)
            self._count(batch, begun)
            self.tally.draft_passes += len(batch)
        for answer in answers.values():
            if answer.failure is None:
                with blaming(answer):
                    self._course.go_on(answer)

    def _forward(self, part: Pass, answers: Mapping[int, Answer]) -> None:
        batch = [a for feed in part.feeds if isinstance(a := answers[feed.ticket], VerifiedAnswer)]
        if part.kind == "prompt":
            super()._forward(part, answers)
            for feed, answer in zip(part.feeds, batch, strict=True):
                answer.valid = feed.start + feed.count
                answer.is_read = answer.valid >= answer.opening
            return
        begun = self._clock()
        self._verify(part, batch)
        self._count(batch, begun)
        self.tally.verifying_passes += len(batch)

    def _verify(self, part: Pass, batch: Sequence[VerifiedAnswer]) -> None:
        """Read answers and drafts in one causal pass, and take all decisions up to the first that was not drafted."""
        sequences = [answer.sequence for answer in batch]
        points = [_due(feed, answer) for feed, answer in zip(part.feeds, batch, strict=True)]
        most = max(map(len, points))
        rows = [
            [*tokens[feed.start : feed.start + feed.count], *[0] * (part.width - feed.count)]
            for feed, tokens in zip(part.feeds, sequences, strict=True)
        ]
        picks = [
            [len(answer.tokens) - 1 + point.at - feed.start for point in due]
            for feed, answer, due in zip(part.feeds, batch, points, strict=True)
        ]
        device = self._local.device
        starts = torch.tensor([[feed.start] for feed in part.feeds], device=device)
        logits = self._model(
            torch.tensor(rows, device=device),
            starts + torch.arange(part.width, device=device),
            cache=self._cache,
            rows=cache_rows([feed.row for feed in part.feeds], device),
            pick=torch.tensor(
                [[*found, *[0] * (most - len(found))] for found in picks],
                dtype=torch.int64,
                device=device,
            ),
            switch=self._switch(batch),
            quick=True,
            allowed=self._allowed_at(points, most) if most else None,
        )
        for number, (feed, answer) in enumerate(zip(part.feeds, batch, strict=True)):
            due = points[number]
            if due:
                self._take(answer, logits[number, : len(due)], due, sequences[number])
            answer.valid = _agreeing(answer.tokens, sequences[number], feed)

    def _take(
        self,
        answer: VerifiedAnswer,
        logits: Tensor,
        points: Sequence[Point],
        sequence: Sequence[int],
    ) -> None:
        """Take the decisions of one answer, one after the other, while the draft was right."""
        logits, before = logits.float(), len(answer.tokens)
        greedy = choose(logits, [None] * len(points)) if answer.warmth is None else None
        self.tally.drafted += len(points) - 1
        for number in range(len(points)):
            if greedy is not None:
                token, chance = greedy[0][number], greedy[1][number]
            else:
                [token], [chance] = choose(logits[number : number + 1], [answer.warmth])
            with blaming(answer):
                answer.decide(token, chance)
            if answer.failure is not None or answer.stop is not None:
                return
            written = len(answer.tokens)
            follows = number + 1 < len(points) and written == before + points[number + 1].at
            if not follows or answer.tokens[before:] != sequence[before:written]:
                return
            self.tally.accepted += 1

    def _allowed_at(self, points: Sequence[Sequence[Point]], most: int) -> Tensor:
        """The tokens allowed at each decision: [B, K, V] bool, or [1, 1, V] where no row has a grammar."""
        if not any(point.mask is not None for due in points for point in due):
            return self._speakable
        size = self._model.config.vocab_size
        bits = np.full((len(points), most, -(-size // 32)), -1, dtype=np.int32)
        for row, due in enumerate(points):
            for number, point in enumerate(due):
                if point.mask is not None:
                    bits[row, number] = point.mask
        flags = np.unpackbits(bits.view(np.uint8), axis=-1, bitorder="little")
        found = torch.from_numpy(flags[..., :size].view(np.bool_))
        return found.to(self._local.device) & self._speakable

    def _count(self, batch: Sequence[VerifiedAnswer], begun: float) -> None:
        each = (self._clock() - begun) / len(batch)
        for answer in batch:
            answer.passes += 1
            answer.seconds += each


def _due(feed: Feed, answer: VerifiedAnswer) -> list[Point]:
    """The decisions whose tokens are all in the pass."""
    if answer.ahead is None:
        return []
    last = feed.start + feed.count - len(answer.tokens)
    return [point for point in answer.ahead.points if point.at <= last]


def _agreeing(tokens: Sequence[int], sequence: Sequence[int], feed: Feed) -> int:
    """How many tokens from the beginning are in the cache and the answer's own."""
    end = min(feed.start + feed.count, len(tokens))
    for at in range(feed.start, end):
        if tokens[at] != sequence[at]:
            return at
    return end

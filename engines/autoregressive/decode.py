"""The tensors of a batch: performs plans on the model's thread.

Legend: B rows, T token places a row, S slots looked at, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from carrara.engines.autoregressive.answer import Answer
from carrara.engines.autoregressive.batch import Pass, Plan
from carrara.engines.autoregressive.sampling import choose
from carrara.engines.errors import EngineError
from carrara.engines.local import LocalModel
from carrara.engines.model.kv import KVCache
from carrara.engines.model.pattern import STEADY_TOKENS
from carrara.engines.seats import Feed


class Decoder:
    """The cache of one engine and its passes. Every method runs on the thread of `local`."""

    def __init__(self, local: LocalModel) -> None:
        self._local = local
        self._model = local.model
        self._cache = self._empty_cache()

    @property
    def cache_bytes(self) -> int:
        return self._cache.data.nbytes

    def clear(self) -> None:
        """Give the memory of the cache back; nobody may be seated."""
        self._cache = self._empty_cache()

    def perform(self, plan: Plan, answers: Mapping[int, Answer]) -> None:
        """Do all that the plan says; the answers grow, and end where they do."""
        self._cache.reserve(plan.rows, plan.slots + STEADY_TOKENS)
        for swap in plan.exchanges:
            self._cache.exchange(swap.a, swap.b, swap.length_a, swap.length_b)
        for part in plan.passes:
            if part.kind == "prompt":
                self._load_prefixes(part.feeds, answers)
            with self._local.pace.timed(part.kind, part.width * len(part.feeds), len(part.feeds)):
                self._forward(part, answers)
            self._clean_up(part.feeds, answers)
            if part.kind == "prompt":
                self._keep_prefixes(part.feeds, answers)

    def _clean_up(self, feeds: Sequence[Feed], answers: Mapping[int, Answer]) -> None:
        """Where an answer failed because of numbers that are none, they must not reach the next one in its row, nor one
        with the same prompt: masked NaN count, too."""
        for feed in feeds:
            answer = answers[feed.ticket]
            if answer.failure is None or self._cache.data[-1, :, feed.row].isfinite().all():
                continue
            self._cache.blank(feed.row)
            key = self._local.prefix_key(answer.adapted)
            self._local.prefix_cache.forget(key, answer.tokens[: answer.prompt])

    def _forward(self, part: Pass, answers: Mapping[int, Answer]) -> None:
        """Feed one pass, and decide a token in each row that has nothing more to feed."""
        batch = [answers[feed.ticket] for feed in part.feeds]
        due = [
            feed.start + feed.count == len(answer.tokens)
            for feed, answer in zip(part.feeds, batch, strict=True)
        ]
        tokens, positions = self._inputs(part, batch)
        first = part.feeds[0].row
        ends = [[feed.count - 1] for feed in part.feeds] if any(due) else [[] for _ in batch]
        logits = self._model(
            tokens,
            positions,
            cache=self._cache,
            rows=slice(first, first + len(batch)),
            pick=torch.tensor(ends, dtype=torch.int64, device=self._local.device),
            switch=self._switch(batch),
            quick=part.kind == "answer" or "head",
            allowed=self._allowed(batch, due) if any(due) else None,
        )
        for answer in batch:
            answer.passes += part.kind == "answer"
        if any(due):
            self._decide(logits[:, 0], batch, due)

    def _decide(self, logits: Tensor, batch: Sequence[Answer], due: Sequence[bool]) -> None:
        chosen, chances = choose(
            logits.float(),
            [answer.warmth if d else None for answer, d in zip(batch, due, strict=True)],
        )
        for answer, is_due, token, chance in zip(batch, due, chosen, chances, strict=True):
            if is_due and answer.failure is None:
                with blaming(answer):
                    answer.decide(token, chance)

    def _inputs(self, part: Pass, batch: Sequence[Answer]) -> tuple[Tensor, Tensor]:
        """Tokens and positions [B, T] of a pass; padding repeats token 0 at positions that go on
        counting."""
        # Few prompt tokens are padded for a steady pass, see `model.llama`.
        width = max(part.width, STEADY_TOKENS) if part.kind == "prompt" else part.width
        rows = [
            answer.tokens[feed.start : feed.start + feed.count] + [0] * (width - feed.count)
            for feed, answer in zip(part.feeds, batch, strict=True)
        ]
        device = self._local.device
        starts = torch.tensor([[feed.start] for feed in part.feeds], device=device)
        return torch.tensor(rows, device=device), starts + torch.arange(width, device=device)

    def _allowed(self, batch: Sequence[Answer], due: Sequence[bool]) -> Tensor:
        """The tokens that each row may take next: [B, 1, V] bool, or [1, 1, V] where no row has a
        grammar."""
        guides = [a.guide if d else None for a, d in zip(batch, due, strict=True)]
        if not any(guides):
            return self._speakable
        words = -(-self._model.config.vocab_size // 32)
        bits = np.full((len(batch), words), -1, dtype=np.int32)
        for row, guide in enumerate(guides):
            if guide is not None:
                with blaming(batch[row]):
                    guide.allowed(bits[row])
        flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
        found = torch.from_numpy(flags[:, : self._model.config.vocab_size].view(np.bool_))
        return found[:, None].to(self._local.device) & self._speakable

    @cached_property
    def _speakable(self) -> Tensor:
        """[1, 1, V] bool: every token but those that write nothing; the ends of the text are among the
        allowed."""
        tokenizer = self._local.tokenizer
        flags = torch.tensor([bool(piece) for piece in tokenizer.vocabulary])
        flags[sorted(tokenizer.eos_ids)] = True
        return flags[None, None].to(self._local.device)

    def _switch(self, batch: Sequence[Answer]) -> Tensor | None:
        if not any(answer.adapted for answer in batch):
            return None
        return torch.tensor([float(answer.adapted) for answer in batch], device=self._local.device)

    def _load_prefixes(self, feeds: Sequence[Feed], answers: Mapping[int, Answer]) -> None:
        for feed in feeds:
            answer = answers[feed.ticket]
            if answer.hit is not None and answer.hit.payloads and feed.start == answer.hit.tokens:
                self._cache.put(feed.row, 0, torch.cat(answer.hit.payloads, dim=3))

    def _keep_prefixes(self, feeds: Sequence[Feed], answers: Mapping[int, Answer]) -> None:
        """Prompts as far as they were fed. The answer is not kept: it comes back as the text of a later
        prompt at most."""
        for feed in feeds:
            answer = answers[feed.ticket]
            if answer.failure is not None:
                continue
            known = answer.tokens[: min(feed.start + feed.count, answer.prompt)]
            take = partial(self._cache.take, feed.row)
            self._local.prefix_cache.insert(self._local.prefix_key(answer.adapted), known, take)

    def _empty_cache(self) -> KVCache:
        return KVCache(self._model.config, 0, 0, self._local.dtype, self._local.device)


@contextmanager
def blaming(answer: Answer) -> Iterator[None]:
    """An engine error here is this answer's alone; the others in the pass go on."""
    try:
        yield
    except EngineError as error:
        answer.failure = error

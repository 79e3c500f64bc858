"""One answer in the making: its tokens, its text, where it stands in its grammar, and why it ended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from carrara.engines.answer_text import AnswerText
from carrara.engines.autoregressive.confidence import Written, confidence_of, mean
from carrara.engines.autoregressive.guide import Guide
from carrara.engines.autoregressive.narrow import was_cut
from carrara.engines.autoregressive.sampling import Warmth
from carrara.engines.contract import Json, Text
from carrara.engines.errors import ContractError, EngineError, EngineFailed
from carrara.engines.pieces import Piece, of_tokens, progress
from carrara.engines.prefix_cache import Hit
from carrara.engines.request import Confidence, Progress, Request, StopReason
from carrara.engines.tokenizer import Tokenizer


class Answer:
    """Made when a request is accepted; afterwards only the thread that decodes changes it.

    `tokens` are all there are to feed: the prompt, what the grammar forces at the beginning (fed
    together with the prompt: `opening` counts both), then the answer token by token. `adapted`: it goes
    through the adapter. `stop` is None until it ends, `failure` unless it cannot go on.
    """

    def __init__(
        self,
        request: Request,
        prompt: Sequence[int],
        guide: Guide | None,
        tokenizer: Tokenizer,
        *,
        longest: int,
        adapted: bool = False,
    ) -> None:
        self.request = request
        self.prompt = len(prompt)
        self.tokens = list(prompt)
        self.guide = guide
        self.adapted = adapted
        self.warmth = Warmth.of(request.sampling)
        self.hit: Hit[Tensor] | None = None
        self.stop: StopReason | None = None
        self.failure: EngineError | None = None
        self.passes = 0
        self._vocabulary = tokenizer.vocabulary
        self._eos = tokenizer.eos_ids
        self._longest = longest
        self._written: list[Written] = []
        self._ending: float | None = None
        # Stop strings are for free text: they would cut a structured answer in the middle.
        free = request.output
        self._text = AnswerText(request.stop, free) if isinstance(free, Text) else AnswerText()
        if guide is not None:
            self._go_on(guide.forced(), guide)
        self.opening = len(self.tokens)

    @property
    def is_finished(self) -> bool:
        return self.stop is not None

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens) - self.prompt + (self._ending is not None)

    @property
    def standing(self) -> str:
        most = self.request.limits.max_tokens
        return f"with {self.completion_tokens} of at most {most} tokens written"

    def decide(self, token: int, chance: float) -> None:
        """Take the next token and its probability, and all that the grammar forces after it.

        Raises:
            EngineFailed: the probability is no number, so the token means nothing.
        """
        if not math.isfinite(chance):
            raise EngineFailed("the model gave no finite logits")
        if token in self._eos:
            self._ending = chance
            self.stop = "end"
            return
        self._write(token, chance)
        if self._text.is_stopped:
            self.stop = "stop"
        elif self._text.is_full:
            self.stop = "length"
        elif self.guide is not None:
            self._go_on(self.guide.take(token), self.guide)
        if self.stop is None and self._room == 0:
            self.stop = "length"

    def shown(self) -> str:
        """The text so far without anything that may still change."""
        return self._text.shown()

    def progress(self) -> Progress:
        """What to show now: the text so far, with the probability of each token."""
        found = progress([*self._pieces(), *self._guessed()], 1.0, self.passes)
        settled = sum(span.stop - span.start for span in found.final) / max(1, len(found.text))
        return replace(found, settled=settled)

    def _pieces(self) -> Iterator[Piece]:
        """The text that is shown, token by token."""
        room = len(self.shown())
        written = zip(self.tokens[self.prompt :], self._written, strict=True)
        pairs = ((token, known.chance) for token, known in written)
        for piece in of_tokens(pairs, self._decoded):
            text = piece.text[:room]
            room -= len(text)
            yield Piece(text, piece.sure)

    def _guessed(self) -> Sequence[Piece]:
        """What may follow; here nobody guesses."""
        return ()

    def _decoded(self, ids: Sequence[int]) -> str:
        return b"".join(self._vocabulary[i] for i in ids).decode("utf-8", "replace")

    def finish(self) -> tuple[str, Any, StopReason, Confidence]:
        """Text, value, the reason for the end, and confidence.

        Where the limit cut a grammar off there is no value: what stands may look whole, as a list whose
        last word is half does. A whole JSON answer in which a string reached the bound that `narrowed`
        set keeps its value, but says "length" too.
        """
        text, stop = self._text.final(), self.stop or "length"
        value = None if self.guide is not None and stop == "length" else self._parsed(text)
        if isinstance(self.request.output, Json) and was_cut(value, self._longest):
            stop = "length"
        return text, value, stop, self._confidence(value)

    def _parsed(self, text: str) -> Any:
        try:
            return self.request.output.parse(text)
        except ContractError:
            return None

    def _confidence(self, value: Any) -> Confidence:
        """Per token and, where the answer holds to its contract, per field."""
        if value is None:
            decided = tuple(w.chance for w in self._written if w.chance is not None)
            return Confidence(mean(decided), {}, decided)
        return confidence_of(self.request.output, self._text.raw, self._written, self._ending)

    @property
    def _room(self) -> int:
        return max(self.request.limits.max_tokens - len(self._written), 0)

    def _go_on(self, forced: Sequence[int], guide: Guide) -> None:
        room = self._room
        for token in forced[:room]:
            self._write(token, None)
        if len(forced) > room:
            self.stop = "length"
        elif guide.is_finished:
            self.stop = "end"

    def _write(self, token: int, chance: float | None) -> None:
        piece = self._vocabulary[token]
        self.tokens.append(token)
        self._text.add(piece)
        self._written.append(Written(len(piece), chance))

"""One answer in the making, with its draft and the account of what the draft costs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from carrara.engines.answer_text import whole_characters
from carrara.engines.autoregressive.answer import Answer
from carrara.engines.autoregressive.guide import Guide
from carrara.engines.contract import Text
from carrara.engines.pieces import Piece
from carrara.engines.request import Request
from carrara.engines.tokenizer import Tokenizer
from carrara.engines.verified.ahead import Ahead
from carrara.engines.verified.draft import Draft
from carrara.engines.verified.sketch import Sketch


class VerifiedAnswer(Answer):
    """An answer of the AR engine, token for token, and beside it what guesses how it goes on.

    `sketch` is the canvas that the draft comes from, `is_drafting` whether it is being denoised now: then the answer
    itself waits. `ahead` goes into the next pass; None until the prompt has been read. `way` is the way to go on that
    was chosen last (None: none yet), `seconds` and `decisions` what it took since then. The canvas stands behind the
    first `canvas_from` tokens. `valid` tokens are in the cache, and `is_read` says that the prompt is.
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
        self.draft: Draft | None = None
        self.sketch: Sketch | None = None
        self.ahead: Ahead | None = None
        self.is_drafting = False
        self.canvas_from = len(prompt)
        self.way: int | None = None
        self.seconds, self.decisions = 0.0, 0
        self.valid, self.is_read = 0, False
        self.raw = b""
        self._ends: list[int] = []
        super().__init__(request, prompt, guide, tokenizer, longest=longest, adapted=adapted)

    @property
    def is_text(self) -> bool:
        return isinstance(self.request.output, Text)

    @property
    def room(self) -> int:
        """Tokens that may still be written."""
        return self._room

    @property
    def sequence(self) -> list[int]:
        """All tokens that the next pass may read: the answer's, and behind them the draft's."""
        return self.tokens if self.ahead is None else [*self.tokens, *self.ahead.tokens]

    def decide(self, token: int, chance: float) -> None:
        self.decisions += 1
        super().decide(token, chance)

    def _guessed(self) -> Sequence[Piece]:
        """The rest of the draft, as long as the answer agrees with it."""
        draft, written = self.draft, sum(known.size for known in self._written)
        if draft is None or draft.cursor is None or written != len(self.raw):
            return ()
        return (Piece(whole_characters(draft.raw[draft.cursor :]), is_final=False),)

    def catch_up(self) -> None:
        """Let the draft follow what was written since the last call."""
        before = len(self.raw)
        pieces = [self._vocabulary[token] for token in self.tokens[self.prompt + len(self._ends) :]]
        for piece in pieces:
            before += len(piece)
            self._ends.append(before)
        written = b"".join(pieces)
        self.raw += written
        if self.draft is not None and written:
            self.draft.follow(self.raw, len(written))

    def token_at(self, size: int) -> int:
        """How many tokens there are up to byte `size` of the answer, the prompt's included."""
        return self.prompt + bisect_right(self._ends, size)

"""How an answer goes on: write a token, denoise a draft, or have a draft verified.

Free text drafts block after block, each behind what is certain. An answer with a form drafts all of it at once, on its
scaffold, and comes back to that draft wherever its own text meets it again.
"""

from __future__ import annotations

from collections.abc import Sequence

from carrara.engines.local import LocalModel
from carrara.engines.verified.ahead import look_ahead
from carrara.engines.verified.answer import VerifiedAnswer
from carrara.engines.verified.drafting import Drafter
from carrara.engines.verified.worth import Way, Worth

TEXT_WAYS: Sequence[Way] = (0, 1, 3, None)
FORM_WAYS: Sequence[Way] = (0, 2, None)

_LEAST_ROOM = 3  # tokens that an answer must still have room for, or a draft cannot pay


class Course:
    """Decides by what was measured for answers of the same kind. `width`: tokens that a row reads in a pass at most.

    `ways` None: those of this module. A single one is taken always, for tests and measurements.
    """

    def __init__(
        self, local: LocalModel, drafter: Drafter, width: int, ways: Sequence[Way] | None = None
    ) -> None:
        self._local, self._drafter, self._width, self._ways = local, drafter, width, ways
        self._worth: dict[tuple[str, bool], Worth] = {}

    def go_on(self, answer: VerifiedAnswer) -> None:
        """Set what the answer does in the next round. On the model's thread, between passes.

        Raises:
            EngineRefused: its grammar failed.
        """
        answer.catch_up()
        if answer.stop is not None:
            self._settle_account(answer)
        elif answer.is_read and not answer.is_drafting:
            self._draft_on(answer)
            if not answer.is_drafting:
                self._look_ahead(answer)

    def _draft_on(self, answer: VerifiedAnswer) -> None:
        """Begin a draft, or its next window, where that is due: never twice without a decision in between, since a
        draft may come to nothing."""
        draft, sketch = answer.draft, answer.sketch
        if draft is not None and draft.is_ahead:
            return
        if answer.way is None or (answer.is_text and answer.decisions):
            self._settle_account(answer)
            self._choose(answer)
        elif draft is not None and draft.is_used_up and sketch is not None and sketch.view:
            self._drafter.go_on(answer)

    def _choose(self, answer: VerifiedAnswer) -> None:
        answer.way = answer.draft = answer.sketch = None
        if answer.room < _LEAST_ROOM:
            return
        worth = self._worth_of(answer)
        answer.way = worth.choose()
        if worth.ways[answer.way] != 0:
            self._drafter.begin(answer, worth.ways[answer.way])

    def _look_ahead(self, answer: VerifiedAnswer) -> None:
        own = len(answer.tokens) - answer.valid
        most = max(0, min(self._width - own, answer.room - 1))
        vocabulary = self._local.tokenizer.vocabulary
        answer.ahead = look_ahead(answer.guide, answer.draft, vocabulary, most)

    def _settle_account(self, answer: VerifiedAnswer) -> None:
        if answer.way is not None:
            self._worth_of(answer).took(answer.way, answer.seconds, answer.decisions)
        answer.seconds, answer.decisions = 0.0, 0

    def _worth_of(self, answer: VerifiedAnswer) -> Worth:
        key = (answer.request.output.kind, answer.adapted)
        if key not in self._worth:
            ways = self._ways or (TEXT_WAYS if answer.is_text else FORM_WAYS)
            trained = answer.adapted and len(ways) > 1
            self._worth[key] = Worth(ways, best=int(trained))
        return self._worth[key]

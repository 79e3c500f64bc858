"""The engine "verified": the AR engine's text, token for token, in fewer passes.

The diffusion passes draft a block of text, or a whole answer on its scaffold; one causal pass of the same weights
accepts the longest beginning that the AR engine would have written, and one token more. After speculative decoding
(arXiv 2211.17192), with the model's own diffusion mode as the draft model. This file is the life of the engine:
`rounds` serves, `course` decides, `drafting` and `decode` compute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from carrara.engines.autoregressive.local import AutoregressiveEngine, OpenEngine, default_limits
from carrara.engines.diffusion.engine import DiffusionEngine, are_plain_weights
from carrara.engines.diffusion.rule_table import check_drafting
from carrara.engines.diffusion.settings import PLAIN, Settings
from carrara.engines.engine import Health
from carrara.engines.errors import EngineRefused
from carrara.engines.local import LocalModel
from carrara.engines.request import Request

if TYPE_CHECKING:
    from carrara.engines.autoregressive.answer import Answer
    from carrara.engines.autoregressive.batch import BatchLimits
    from carrara.engines.autoregressive.guide import Guides
    from carrara.engines.diffusion.prepare import CanvasMaker
    from carrara.engines.verified.answer import VerifiedAnswer
    from carrara.engines.verified.decode import Tally
    from carrara.engines.verified.drafting import Drafter
    from carrara.engines.verified.rounds import VerifyingRounds
    from carrara.engines.verified.worth import Way


class VerifiedEngine(AutoregressiveEngine):
    """See `carrara.engines.engine.Engine`. It can, accepts and refuses what the AR engine does.

    With int8 answer tokens, the default on a CPU, the text is equal to the last bit of its confidences. Without them a
    wider pass rounds otherwise: in bfloat16, 90 of 100 answers of up to 20 tokens were equal. `health` says so.

    `settings` None: those of the model's adapter, as the diffusion engine reads them. `limits`: see the AR engine.
    `ways`: how drafts are made (`worth`); None finds out while working which one is worth its time. A request's commit
    rule is that of its drafts; the rule "verified" is this engine, with the drafts of its settings.
    """

    def __init__(
        self,
        local: LocalModel,
        name: str = "verified",
        settings: Settings | None = None,
        limits: BatchLimits | None = None,
        ways: Sequence[Way] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(local, name, limits, clock)
        self._settings, self._ways = settings, ways
        self._rounds: VerifyingRounds | None = None

    @property
    def fingerprint(self) -> str:
        """Drafts do not change the text, so their settings are not part of it."""
        return f"verified-{self.local.fingerprint}"

    @property
    def tally(self) -> Tally | None:
        """What became of the drafts since the engine was opened, None before."""
        return None if self._rounds is None else self._rounds.decoder.tally

    def health(self) -> Health:
        found, tally = super().health(), self.tally
        if not found.ready or tally is None:
            return found
        line = (
            f"{found.line}; {tally.accepted:,} of {tally.drafted:,} drafted tokens accepted, "
            f"{tally.draft_passes:,} passes drafted and {tally.verifying_passes:,} verified"
        )
        failed = self._rounds.decoder.drafter.failed if self._rounds else 0
        if failed:
            line += f", {failed:,} answers could not be drafted"
        if not self.local.model.is_quick:
            line += "; without int8 answer tokens near ties may fall otherwise than for ar"
        if are_plain_weights(self.local):
            line += "; no diffusion adapter: drafts are poor, it mostly writes token by token"
        return Health(True, line)

    def _started(self) -> OpenEngine:
        from carrara.engines.autoregressive.guide import Guides
        from carrara.engines.diffusion.prepare import CanvasMaker
        from carrara.engines.diffusion.scaffold.lexicon import Lexicon
        from carrara.engines.verified.course import Course
        from carrara.engines.verified.decode import VerifyingDecoder
        from carrara.engines.verified.rounds import VerifyingRounds

        local = self.local
        settings = DiffusionEngine(local, settings=self._settings).checked_settings()
        limits = self._limits or default_limits(local)
        drafter = self._drafter(CanvasMaker.of(Lexicon(local.tokenizer)), settings)
        course = Course(local, drafter, limits.width, self._ways)
        decoder = VerifyingDecoder(local, drafter, course, time.perf_counter)
        self._rounds = VerifyingRounds(self._name, local, decoder, limits, self._clock)
        loop = asyncio.create_task(self._rounds.run(), name=f"{self._name} rounds")
        return OpenEngine(self._rounds, Guides(local.tokenizer), loop)

    def _drafter(self, maker: CanvasMaker, settings: Settings) -> Drafter:
        """Where drafts come from; another source may guess in another way, the text stays the same."""
        from carrara.engines.verified.drafting import Drafter

        return Drafter(self.local, maker, settings, PLAIN)

    def _answer(self, request: Request, guides: Guides) -> Answer:
        if request.rule is not None:
            try:
                check_drafting(request.rule)
            except ValueError as error:
                raise EngineRefused(str(error)) from error
        return super()._answer(request, guides)

    def _answer_kind(self) -> type[VerifiedAnswer]:
        from carrara.engines.verified.answer import VerifiedAnswer

        return VerifiedAnswer

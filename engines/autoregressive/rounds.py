"""The loop of the engine "ar": its plans, and what it tells its batcher; the rest is `carrara.engines.rounds`."""

from __future__ import annotations

from collections.abc import Callable

from carrara.engines import rounds
from carrara.engines.autoregressive.answer import Answer
from carrara.engines.autoregressive.batch import Batcher, BatchLimits
from carrara.engines.autoregressive.decode import Decoder
from carrara.engines.live import Live
from carrara.engines.local import LocalModel
from carrara.engines.request import Progress


class Rounds(rounds.Rounds[Answer]):
    """The requests of one open engine and the loop that serves them."""

    _seats_are = "requests answering"
    _batch: Batcher
    _decoder: Decoder

    def __init__(
        self,
        name: str,
        local: LocalModel,
        decoder: Decoder,
        limits: BatchLimits,
        clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        super().__init__(name, local, decoder, clock)

    async def _round(self) -> None:
        plan = self._batch.plan(self._find_prefix)
        feeds = [feed for part in plan.passes for feed in part.feeds]
        served = [self._live[ticket] for ticket in dict.fromkeys(feed.ticket for feed in feeds)]
        now = self._clock()
        for live in served:
            live.started = now if live.started is None else live.started
        answers = {live.ticket: live.job for live in served}
        await self._local.run(self._decoder.perform, plan, answers)
        for feed in feeds:
            self._batch.fed(feed)
        for live in served:
            self._account(live)

    def _account(self, live: Live[Answer]) -> None:
        """Tell the batcher how far an answer came, and its caller when it ended or grew."""
        grown = len(live.job.tokens) - live.known
        live.known += grown
        self._batch.grew(live.ticket, grown)
        if live.prefilled is None and (grown or live.job.is_finished):
            live.prefilled = self._clock()
        self._tell(live)

    def _is_news(self, live: Live[Answer], draft: Progress) -> bool:
        """A pass may add what cannot be shown yet: half a character, the beginning of a stop string."""
        before = live.shown
        if before is None:
            return draft.text != ""
        return (draft.text, draft.settled) != (before.text, before.settled)

    def _empty_batch(self) -> Batcher:
        return Batcher(self._limits)

    def _offer(self, live: Live[Answer]) -> bool:
        answer = live.job
        need = answer.prompt + answer.request.limits.max_tokens
        return self._batch.offer(live.ticket, answer.opening, need, answer.request.priority)

    def _find_prefix(self, ticket: int) -> int:
        answer = self._live[ticket].job
        key = self._local.prefix_key(answer.adapted)
        answer.hit = self._local.prefix_cache.find(key, answer.tokens, most=answer.opening - 1)
        return answer.hit.tokens

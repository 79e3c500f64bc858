"""The loop of the engine "verified": that of the AR engine, with the drafts planned in.

As there, tensors, answers and drafts are touched only on the model's thread, while the loop waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from carrara.engines.autoregressive.batch import BatchLimits
from carrara.engines.autoregressive.rounds import Rounds
from carrara.engines.local import LocalModel
from carrara.engines.verified.answer import VerifiedAnswer
from carrara.engines.verified.batch import VerifyingBatcher
from carrara.engines.verified.decode import VerifyingDecoder


class VerifyingRounds(Rounds):
    """The requests of one open engine and the loop that serves them."""

    _batch: VerifyingBatcher

    def __init__(
        self,
        name: str,
        local: LocalModel,
        decoder: VerifyingDecoder,
        limits: BatchLimits,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name, local, decoder, limits, clock)
        self.decoder = decoder

    def _empty_batch(self) -> VerifyingBatcher:
        return VerifyingBatcher(self._limits)

    async def _round(self) -> None:
        plan = self._batch.plan(self._find_prefix)
        feeds = [feed for part in plan.passes for feed in part.feeds]
        tickets = [feed.ticket for feed in feeds] + [spot.ticket for spot in plan.spots]
        served = {ticket: self._live[ticket] for ticket in dict.fromkeys(tickets)}
        now = self._clock()
        for live in served.values():
            live.started = now if live.started is None else live.started
        answers = {ticket: _verified(live.job) for ticket, live in served.items()}
        await self._local.run(self.decoder.serve, plan, answers)
        for feed in feeds:
            # What the draft got wrong is in the cache beyond the row's length, where it is written over.
            valid = min(feed.start + feed.count, answers[feed.ticket].valid)
            self._batch.fed(replace(feed, count=valid - feed.start))
        for ticket, live in served.items():
            answer = answers[ticket]
            self._account(live)
            ahead = 0 if answer.ahead is None else len(answer.ahead.tokens)
            if ticket in self._live:
                self._batch.goes_on(ticket, ahead, answer.is_drafting)


def _verified(answer: object) -> VerifiedAnswer:
    assert isinstance(answer, VerifiedAnswer)
    return answer

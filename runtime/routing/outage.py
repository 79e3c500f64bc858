"""A call that waits for the only engine that can answer it: until it works again, or is down, or the fault turns out to
be the call's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from carrara.engines.errors import EngineBusy, EngineDown, EngineError, EngineFailed
from carrara.runtime.attempt_clock import uncounted
from carrara.runtime.routing.asking import Answered, Asking
from carrara.runtime.routing.bill import Bill, is_server_fault
from carrara.runtime.routing.breaker import FIRST_PAUSE_S, Breakers, Recovering
from carrara.runtime.routing.budget import Reserved, Spending


class _Outage:
    """What one call has met at one engine so far.

    A server that tells of a fault of its own may be passing away, or may break at this one prompt. If it answers others
    meanwhile, it is the prompt; so it is if it answered before and has failed no call but this one.
    """

    def __init__(self, breakers: Breakers, engine: str) -> None:
        self._breakers, self._engine = breakers, engine
        self._answers_before = breakers.answers(engine)
        self._faults = 0
        self._last: EngineError | None = None

    def is_of_the_call(self, error: EngineError) -> EngineError | None:
        """The error that ends the call after `error`, whose fault is its own; None where the engine's is."""
        if isinstance(error, EngineDown):
            alone = self._faults == self._breakers.in_a_row(self._engine)
            return self._last if self._faults and self._answers_before and alone else None
        answered_others = self._breakers.answers(self._engine) != self._answers_before
        return error if is_server_fault(error) and self._faults > 1 and answered_others else None

    def note(self, error: EngineError) -> None:
        """The engine was asked and gave no answer."""
        if is_server_fault(error):
            self._faults, self._last = self._faults + 1, error
            if self._faults == 1:
                self._answers_before = self._breakers.answers(self._engine)

    @property
    def pause_s(self) -> float:
        """The wait before the next try where the engine is not yet known to keep failing: none before the first."""
        return FIRST_PAUSE_S if self._faults > 1 else 0.0


async def answer_in_the_end(
    asking: Asking,
    bill: Bill,
    breakers: Breakers,
    rejected: Callable[[EngineError], None],
    used: Callable[[Spending], None],
) -> tuple[Answered, float]:
    """The answer, and when it was asked for, by the clock of the loop: as soon as the budget has room beside the calls
    under way, and an engine without which nothing can be had is back. `rejected` is told of each try in vain, `used`
    what it has cost.

    Raises:
        EngineDown: it is not back in time.
        PassedOver, EngineError: as `Asking.answer`.
    """
    now = asyncio.get_running_loop().time
    outage = _Outage(breakers, bill.engine)
    while True:
        asked_at = now()
        try:
            return await asking.answer(), asked_at
        except Reserved:
            await bill.room()
        except Recovering:
            with uncounted():
                await bill.recovery(now())
        except (EngineBusy, EngineFailed) as error:
            if (own := outage.is_of_the_call(error)) is not None:
                raise own from None
            if not bill.is_waited_out(error):
                raise
            if bill.is_asked:  # else it joined a call that another step made
                outage.note(error)
                rejected(error)
            used(bill.failed(error, now()))
            if outage.pause_s > 0 and not bill.is_held_off(now()):
                with uncounted():
                    await asyncio.sleep(outage.pause_s)


__all__ = ["answer_in_the_end"]

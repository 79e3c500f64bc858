"""A call that waits for its engine: for as short a while as it asks for, and, if no other can answer, until it works
again, or is down, or the fault turns out to be the call's own. Nothing else makes the same call again by itself; the
moves of the router and the attempts of the step are new calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from carrara.engines.errors import EngineBusy, EngineDown, EngineError, EngineFailed
from carrara.runtime.attempt_clock import uncounted
from carrara.runtime.routing.asking import Answered, Asking
from carrara.runtime.routing.bill import Bill, is_server_fault
from carrara.runtime.routing.breaker import FIRST_PAUSE_S, Breakers, Recovering
from carrara.runtime.routing.budget import Reserved, Spending

_WAITS = 3  # Retry-After answers taken in a row before it is left to others to decide


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
    max_wait_s: float,
    rejected: Callable[[EngineError], None],
    broke_off: Callable[[Spending], None],
    put_off: Callable[[EngineError, float], None],
) -> tuple[Answered, float]:
    """The answer, and when it was asked for, by the clock of the loop: as soon as the budget has room beside the calls
    under way, a pause that the engine asked for is over (of `max_wait_s` at most, and not time and again), and an
    engine without which nothing can be had is back; one without which something can be had meanwhile is not waited for
    any longer. `broke_off` is told what each try has cost that gave no answer, `rejected` of those that failed, and
    `put_off` of those that asked for a pause, and for how many seconds.

    Raises:
        EngineDown: it is not back in time.
        PassedOver, EngineError: as `Asking.answer`.
    """
    now = asyncio.get_running_loop().time
    outage, waits = _Outage(breakers, bill.engine), 0
    asked_at, last = now(), None
    while True:
        try:
            return await asking.answer(), asked_at
        except Reserved:
            await bill.room()
        except Recovering:
            with uncounted():
                await bill.patience.through(bill.recovery(now()))
        except (EngineBusy, EngineFailed) as error:
            busy, asked_s = isinstance(error, EngineBusy), error.retry_after_s
            if busy and asked_s is not None and asked_s <= max_wait_s and waits < _WAITS:
                waits += 1
                put_off(error, asked_s)
                broke_off(bill.put_off(error, now(), asked_s))
                asking.hold_off(asked_s)
                with uncounted():
                    await asyncio.sleep(asked_s)
                continue  # it is late from the first time on
            waits = 0
            if (own := outage.is_of_the_call(error)) is not None:
                raise own from None
            if not bill.is_waited_out(error):
                raise
            if bill.is_asked:  # else it joined a call that another step made
                outage.note(error)
                rejected(error)
            broke_off(bill.failed(error, now()))
            last = error
            pause_s = max(outage.pause_s, min(error.retry_after_s or 0.0, max_wait_s))
            if pause_s > 0 and not bill.is_held_off(now()):
                with uncounted():
                    await bill.patience.through(asyncio.sleep(pause_s))
        if last is not None and not bill.patience.lasts():
            raise last
        asked_at = now()


__all__ = ["answer_in_the_end"]

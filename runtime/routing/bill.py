"""One call on the books: of the budget, of the breaker, of the evidence."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import inf

from carrara.engines.errors import (
    EngineBusy,
    EngineDown,
    EngineError,
    EngineFailed,
    EngineRefused,
)
from carrara.engines.request import Usage
from carrara.runtime.routing.breaker import Recovering
from carrara.runtime.routing.budget import OverBudget, Reserved, Spending, spending_of
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.estimate import estimated_text_tokens
from carrara.runtime.routing.patience import Patience

_log = logging.getLogger(__name__)


class Bill:
    """What one call to one engine may cost and did. Settle it once, however the call ended. While its `patience` lasts,
    an engine that keeps failing is waited for until it is down; `hurried`: somebody waits for the run."""

    def __init__(
        self,
        router: Router,
        engine: str,
        prompt_tokens: int,
        max_tokens: int,
        patience: Patience,
        hurried: bool = False,
    ) -> None:
        self._router, self.engine, self.prompt_tokens = router, engine, prompt_tokens
        self._max_tokens = max_tokens
        self._expected = router.purse.expected(engine, prompt_tokens, max_tokens)
        self.patience, self._hurried = patience, hurried
        self.is_asked = self._is_probe = False

    def admit(self, now: float) -> str | None:
        """The call's turn has come; why it is not to be made, None if it is.

        Raises:
            OverBudget: it could cost more than is left.
            Reserved: it could not cost more, were it not for others under way; `room` waits for them.
            Recovering: the engine keeps failing, and it is too early to try it again; `recovery` waits.
            EngineDown: it has failed for so long that it is not waited for.
        """
        router = self._router
        purse = router.purse
        broke = purse.objection(self.engine, self._expected, beside_others=False)
        if broke is not None:
            raise OverBudget(f"the budget is spent: {broke}", engine=self.engine)
        if self.patience.lasts():
            self._check_whole(now)
        elif objection := router.breakers.objection(self.engine, now, router.policy.break_s):
            return objection
        if (held := purse.objection(self.engine, self._expected)) is not None:
            raise Reserved(held)
        purse.reserve(self._expected)
        self.is_asked, self._is_probe = True, router.breakers.asked(self.engine)
        return None

    def _check_whole(self, now: float) -> None:
        breakers, break_s = self._router.breakers, self._router.policy.break_s
        if breakers.pause_s(self.engine, now, break_s) <= 0:
            return
        if (down := breakers.down(self.engine, now, break_s, self._hurried)) is not None:
            raise EngineDown(down, engine=self.engine)
        raise Recovering(self.engine)

    def is_held_off(self, now: float) -> bool:
        """Whether the engine is known to keep failing, so that `recovery` waits before the next try."""
        breakers = self._router.breakers
        return breakers.pause_s(self.engine, now, self._router.policy.break_s) > 0

    async def recovery(self, now: float) -> None:
        """Wait until the engine may be tried again, another call has tried it, or it is down while one tries it."""
        breakers, break_s = self._router.breakers, self._router.policy.break_s
        wait_s = breakers.pause_s(self.engine, now, break_s)
        if wait_s == inf:
            wait_s = breakers.left_s(self.engine, now, break_s, self._hurried)
        if wait_s > 0:
            await breakers.changed(self.engine, wait_s)

    async def room(self) -> None:
        """Wait until the call fits into the budget beside those under way, or never will."""
        await self._router.purse.room(self.engine, self._expected)

    def settle(self, usage: Usage) -> float:
        """The engine answered; what the call cost in US dollars."""
        spent = spending_of(usage, self._router.purse.prices.get(self.engine))
        self._close(spent)
        self._router.breakers.worked(self.engine)
        return spent.cost

    def is_waited_out(self, error: EngineError) -> bool:
        """Whether the call waits until the engine works again: no other could answer, and it cannot be reached, is busy
        (for no longer than `max_wait_s`, if it says for how long), or its server fails."""
        if not self.patience.lasts():
            return False
        if isinstance(error, EngineBusy):
            return (error.retry_after_s or 0.0) <= self._router.policy.max_wait_s
        return isinstance(error, EngineFailed) and (error.is_unreachable or is_server_fault(error))

    def put_off(self, error: EngineError, now: float, wait_s: float) -> Spending:
        """The engine asks for the call so many seconds later: nothing is reserved for it until then, and where it tried
        the engine, the first that comes by then does. What it had used."""
        spent = self._used_until(error) if self.is_asked else Spending()
        self._close(spent)
        if self._is_probe:
            self._is_probe = False
            self._router.breakers.put_off(self.engine, now, wait_s)
        return spent

    def failed(self, error: EngineError, now: float) -> Spending:
        """The engine gave no answer; what it had used for it until then. Nothing is counted where it was not asked, as
        one that is down."""
        if not self.is_asked:
            return Spending()
        spent = self._used_until(error)
        self._close(spent)
        self._count(error, now)
        return spent

    def _used_until(self, error: EngineError) -> Spending:
        """What a call that broke off has cost: as the server told, else the prompt and the text that came."""
        if not error.has_worked:
            return Spending()
        usage = error.usage or Usage(prompt_tokens=self.prompt_tokens)
        written = min(estimated_text_tokens(error.text), self._max_tokens)
        usage = replace(usage, completion_tokens=max(usage.completion_tokens, written))
        return spending_of(usage, self._router.purse.prices.get(self.engine))

    def _count(self, error: EngineError, now: float) -> None:
        """Count the failure for the breaker of the engine."""
        busy = isinstance(error, EngineBusy)
        waited_out = self.is_waited_out(error)
        if isinstance(error, EngineRefused) or (busy and not waited_out):
            self._let_others_try()
            return
        # Where nothing listens or there is no room, and no other engine is there, more calls would learn nothing new.
        unreachable = isinstance(error, EngineFailed) and error.is_unreachable
        policy, breakers = self._router.policy, self._router.breakers
        opened = breakers.failed(
            self.engine,
            now,
            1 if waited_out and (unreachable or busy) else policy.break_after,
            str(error),
            unreachable=unreachable,
            told=(error.status or 0) >= 500 and is_server_fault(error),
            probe=self._is_probe,
            asked_s=min(error.retry_after_s or 0.0, policy.max_wait_s),
        )
        self._is_probe = False
        bound_s = breakers.bound_s(self.engine, policy.break_s, self._hurried)
        if opened and waited_out and bound_s:
            told = "%s; no other engine can answer, so it is tried again for up to %.0f s"
            if not self.patience.is_alone():
                told = "%s; it is tried again for up to %.0f s while another engine is asked"
            _log.warning(told, error, bound_s)

    def cancelled(self) -> Spending:
        """The call was taken back; its prompt is paid for, if it was asked. What that is."""
        if not self.is_asked:
            return Spending()
        usage = Usage(prompt_tokens=self.prompt_tokens)
        price = self._router.purse.prices.get(self.engine)
        spent = spending_of(usage, price)
        self._close(spent)
        self._let_others_try()
        return spent

    def take_over(self, other: Bill) -> None:
        """The step of `other` has left a call that goes on for this one: what it costs is paid here, and what it
        tells of the engine is told here."""
        if not other.is_asked:
            return
        other._close(Spending())
        self._router.purse.reserve(self._expected)
        self.is_asked, self._is_probe = True, other._is_probe
        other._is_probe = False

    def _let_others_try(self) -> None:
        if self._is_probe:
            self._is_probe = False
            self._router.breakers.gave_up(self.engine)

    def _close(self, spent: Spending) -> None:
        if self.is_asked:
            self._router.purse.settle(self._expected, spent)
            self.is_asked = False


def is_server_fault(error: EngineError) -> bool:
    """Whether it is the fault of the engine's server."""
    return isinstance(error, EngineFailed) and error.is_server_fault


__all__ = ["Bill", "is_server_fault"]

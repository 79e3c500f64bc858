"""One call on the books: of the budget, of the breaker, of the evidence."""

from __future__ import annotations

from carrara.engines.errors import EngineBusy, EngineError, EngineRefused
from carrara.engines.request import Completion, Usage
from carrara.runtime.routing.budget import OverBudget, Reserved, Spending, spending_of
from carrara.runtime.routing.desk import Router


class Bill:
    """What one call to one engine may cost and did. Settle it once, however the call ended."""

    def __init__(self, router: Router, engine: str, prompt_tokens: int, max_tokens: int) -> None:
        self._router, self._engine, self._prompt_tokens = router, engine, prompt_tokens
        self._expected = router.purse.expected(engine, prompt_tokens, max_tokens)
        self._asked = False

    def admit(self, now: float, firm: bool) -> str | None:
        """The call's turn has come; why it is not to be made, None if it is.

        Raises:
            OverBudget: it could cost more than is left.
            Reserved: it could not cost more, were it not for others under way; `room` waits for them.
            EngineBusy: the engine keeps failing, and no other could be asked (`firm`).
        """
        router = self._router
        if self._asked:
            return None
        purse = router.purse
        broke = purse.objection(self._engine, self._expected, beside_others=False)
        if broke is not None:
            raise OverBudget(f"the budget is spent: {broke}", engine=self._engine)
        policy = router.policy
        objection = router.breakers.objection(self._engine, now, policy.break_s)
        if objection is not None:
            if firm:
                wait_s = router.breakers.wait_s(self._engine, now, policy.break_s)
                raise EngineBusy(objection, engine=self._engine, retry_after_s=wait_s)
            return objection
        if (held := purse.objection(self._engine, self._expected)) is not None:
            raise Reserved(held)
        purse.reserve(self._expected)
        router.breakers.asked(self._engine)
        self._asked = True
        return None

    async def room(self) -> None:
        """Wait until the call fits into the budget beside those under way, or never will."""
        await self._router.purse.room(self._engine, self._expected)

    def settle(self, completion: Completion) -> float:
        """The engine answered; what the call cost in US dollars."""
        spent = spending_of(completion.usage, self._router.purse.prices.get(self._engine))
        self._close(spent)
        self._router.breakers.worked(self._engine)
        return spent.cost

    def failed(self, error: EngineError, now: float) -> None:
        """The engine gave no answer."""
        self._close(Spending())
        if isinstance(error, EngineRefused | EngineBusy):
            self._router.breakers.gave_up(self._engine)
        else:
            break_after = self._router.policy.break_after
            self._router.breakers.failed(self._engine, now, break_after, str(error))

    def cancelled(self) -> None:
        """The call was taken back; its prompt is paid for."""
        usage = Usage(prompt_tokens=self._prompt_tokens)
        price = self._router.purse.prices.get(self._engine)
        self._close(spending_of(usage, price) if self._asked else Spending())
        self._router.breakers.gave_up(self._engine)

    def _close(self, spent: Spending) -> None:
        if self._asked:
            self._router.purse.settle(self._expected, spent)
            self._asked = False


__all__ = ["Bill"]

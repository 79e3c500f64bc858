"""What a session has spent on engines and may still spend: checked before a call, settled after it.

The sums are pure; a call that only the reservations of others keep back can wait for the next of them to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from carrara.engines.engine import Engine
from carrara.engines.errors import EngineRefused
from carrara.engines.facts import REMOTE
from carrara.engines.request import Usage
from carrara.runtime.dollars import as_given, told_apart
from carrara.runtime.routing.policy import Budget, Price

_MILLION = 1_000_000


class OverBudget(EngineRefused):
    """No engine can be asked without spending more than the budget. Trying again does not help."""


class Reserved(Exception):
    """The budget has room for a call, but not beside what is reserved for those under way: when one of them ends, it
    may be tried again."""


@dataclass(frozen=True, slots=True)
class Spending:
    """Tokens of prompts and answers together, and US dollars."""

    tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Spending) -> Spending:
        return Spending(self.tokens + other.tokens, self.cost + other.cost)

    def __sub__(self, other: Spending) -> Spending:
        return Spending(self.tokens - other.tokens, self.cost - other.cost)


def spending_of(usage: Usage, price: Price | None) -> Spending:
    """What a call with this usage costs."""
    tokens = usage.prompt_tokens + usage.completion_tokens
    if price is None:
        return Spending(tokens)
    cached = price.prompt if price.cached is None else price.cached
    fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
    dollars = (
        fresh * price.prompt
        + usage.cached_tokens * cached
        + usage.completion_tokens * price.completion
    )
    return Spending(tokens, dollars / _MILLION)


class Purse:
    """The spending of one session. What calls under way could cost counts as spent until they settle, so that many
    at once do not exceed the budget together."""

    def __init__(self, budget: Budget, prices: Mapping[str, Price]) -> None:
        self.budget, self.prices = budget, dict(prices)
        self.spent = Spending()
        self._reserved = Spending()
        self._under_way = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._unpriced: set[str] = set()

    def learn(self, engines: Mapping[str, Engine]) -> None:
        """Take the prices that engines tell of themselves, where the policy names none; those of this machine are
        free."""
        for name, engine in engines.items():
            if name in self.prices:
                continue
            told = engine.facts.price
            if told is not None:
                self.prices[name] = Price(told.input, told.output, told.cached_input)
            elif engine.facts.device == REMOTE:
                self._unpriced.add(name)

    def misses(self, engine: str) -> bool:
        """Whether the budget of cost, where there is one, cannot count what this engine costs."""
        return self.budget.cost is not None and engine in self._unpriced

    def expected(self, engine: str, prompt_tokens: int, max_tokens: int) -> Spending:
        """The most that a call can cost, by the estimate of its prompt."""
        usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=max_tokens)
        return spending_of(usage, self.prices.get(engine))

    def objection(
        self, engine: str, expected: Spending, *, beside_others: bool = True
    ) -> str | None:
        """Why a call that may cost `expected` is not to be made now, None if the budget has room. `beside_others`
        False: why it never is, for what is reserved for others may turn out to be free."""
        taken = self.spent + self._reserved if beside_others else self.spent
        gone = taken + expected
        limit = self.budget
        if limit.cost is not None and expected.cost > 0 and gone.cost > limit.cost:
            asked, left = told_apart(expected.cost, max(0.0, limit.cost - taken.cost))
            return f"{engine} may cost {asked}, {left} of {as_given(limit.cost)} are left"
        if limit.tokens is not None and gone.tokens > limit.tokens:
            left_tokens = max(0, limit.tokens - taken.tokens)
            return (
                f"{engine} may use {expected.tokens:,} tokens, "
                f"{left_tokens:,} of {limit.tokens:,} are left"
            )
        return None

    def reserve(self, expected: Spending) -> None:
        self._reserved += expected
        self._under_way += 1

    def settle(self, expected: Spending, spent: Spending) -> None:
        """A call for which `expected` was reserved ended and cost `spent`."""
        self._under_way -= 1
        # Sums of fractions leave crumbs: with nothing under way nothing is reserved.
        self._reserved = self._reserved - expected if self._under_way else Spending()
        self.spent += spent
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def room(self, engine: str, expected: Spending) -> None:
        """Wait until a call fits beside those under way, or never will. Something else may take the room before."""
        while (
            self.objection(engine, expected) is not None
            and self.objection(engine, expected, beside_others=False) is None
        ):
            settled = asyncio.get_running_loop().create_future()
            self._waiting.add(settled)
            try:
                await settled
            finally:
                self._waiting.discard(settled)


__all__ = ["OverBudget", "Purse", "Reserved", "Spending", "spending_of"]

"""The memory of outages that runs have, for those who go from engine to engine without a policy, such as a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from carrara.engines.errors import EngineBusy, EngineFailed
from carrara.runtime.routing.breaker import Breakers
from carrara.runtime.routing.policy import AUTO, Policy


class OutageMemory:
    """An engine whose server cannot be reached is left alone at once, one that fails after `break_after` failures in a
    row, each for the `break_s` of the policy; then one call tries it."""

    def __init__(
        self, policy: Policy = AUTO, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._policy, self._clock = policy, clock
        self._breakers = Breakers()

    def objection(self, engine: str) -> str | None:
        """Why the engine is not to be asked now where another one can be, None if it may."""
        return self._breakers.objection(engine, self._clock(), self._policy.break_s)

    @contextmanager
    def asking(self, engine: str) -> Iterator[None]:
        """The engine is asked inside; how that ends is remembered. An engine that refuses, has no room (429), or is not
        waited for has told nothing of itself; one whose server is away behind a gateway (502, 503, 504) has failed."""
        is_probe = self._breakers.asked(engine)
        try:
            yield
        except BaseException as error:
            if isinstance(error, EngineFailed) or (
                isinstance(error, EngineBusy) and (error.status or 0) >= 500
            ):
                unreachable = isinstance(error, EngineFailed) and error.is_unreachable
                self._breakers.failed(
                    engine,
                    self._clock(),
                    1 if unreachable else self._policy.break_after,
                    str(error),
                    unreachable=unreachable,
                    probe=is_probe,
                )
            elif is_probe:
                self._breakers.gave_up(engine)
            raise
        self._breakers.worked(engine)


__all__ = ["OutageMemory"]

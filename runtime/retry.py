"""When a failed attempt is worth another, and how long to wait before it.

The waiting is stamina's: exponential backoff with jitter. An engine that names its own wait
(EngineBusy.retry_after_s) is given that, and a little more, so that those it sent away do not come back
all at once. stamina is imported when the first step with retries starts. What it would log and count of
these retries is left out, as events tell of them; the retries of others are told as before.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrara.engines.errors import EngineBusy, EngineRefused
from carrara.runtime.errors import HandleError, ScopeError, StepError
from carrara.runtime.step import RetryOn, StepOptions

if TYPE_CHECKING:
    from stamina.instrumentation import RetryDetails, RetryHook

_scheduling: ContextVar[bool] = ContextVar("carrara_scheduling_a_retry", default=False)
"""Whether it is an attempt of ours that has failed: so from its end to the beginning of the next."""

_HOPELESS = (EngineRefused, StepError, HandleError, ScopeError)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Wait min(max_s, initial_s * base ** (attempt - 1) + random(0, jitter_s)) after a failed attempt."""

    initial_s: float = 0.1
    max_s: float = 30.0
    jitter_s: float = 1.0
    base: float = 2.0


def is_worth_retrying(error: Exception, retry_on: RetryOn | None) -> bool:
    """Whether another attempt may succeed after `error`, as StepOptions.retry_on says."""
    if retry_on is None:
        return not isinstance(error, _HOPELESS)
    if isinstance(retry_on, tuple):
        return isinstance(error, retry_on)
    return retry_on(error)


def verdict(error: Exception, retry_on: RetryOn | None) -> bool | float:
    """False: give up. True: back off. A number: wait that many seconds, for the engine asked for it."""
    if not is_worth_retrying(error, retry_on):
        return False
    if isinstance(error, EngineBusy) and error.retry_after_s is not None:
        return float(error.retry_after_s) * random.uniform(1.0, 1.1)
    return True


async def with_retries(
    attempt: Callable[[int], Awaitable[Any]],
    failed: Callable[[int, Exception, bool], None],
    options: StepOptions,
    backoff: Backoff | None = None,
) -> Any:
    """Call `attempt(number)`, numbers from 1, until it succeeds, is not worth retrying, or was tried
    `options.retries + 1` times; then its last error is raised. `failed(number, error, will_retry)` is told
    of each failure before the wait begins.
    """
    if not options.retries:
        try:
            return await attempt(1)
        except Exception as error:
            failed(1, error, False)
            raise
    import stamina

    _spare_our_retries()
    pace = backoff or Backoff()
    most = options.retries + 1 if stamina.is_active() else 1
    tries = stamina.retry_context(
        on=lambda error: verdict(error, options.retry_on),
        attempts=most,
        timeout=None,
        wait_initial=pace.initial_s,
        wait_max=pace.max_s,
        wait_jitter=pace.jitter_s,
        wait_exp_base=pace.base,
    )
    async for tried in tries:
        with tried:
            _scheduling.set(False)
            try:
                return await attempt(tried.num)
            except Exception as error:
                again = tried.num < most and is_worth_retrying(error, options.retry_on)
                _scheduling.set(again)
                failed(tried.num, error, again)
                raise
    raise AssertionError("stamina ends with a result or an error")


class _Others:
    """A hook of stamina that is told of all retries but ours."""

    def __init__(self, hook: RetryHook) -> None:
        self.hook = hook

    def __call__(self, details: RetryDetails) -> Any:
        return None if _scheduling.get() else self.hook(details)


def _spare_our_retries() -> None:
    """Keep stamina's hooks, whoever set them, but for our retries. Hooks set later are found by the next step."""
    from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks

    hooks = get_on_retry_hooks()
    if not all(isinstance(hook, _Others) for hook in hooks):
        set_on_retry_hooks([hook if isinstance(hook, _Others) else _Others(hook) for hook in hooks])

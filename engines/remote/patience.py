"""Asking a server again where it failed in passing: what it cannot do is told from what it could not do just now.

A full server (429), one that broke (5xx), a time-out and a lost connection pass; a refusal stays. Waits are those that
the server asks for, within bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from carrara.engines.errors import (
    BadReply,
    EngineBusy,
    EngineFailed,
    EngineTimeout,
    QuotaExhausted,
    Unreachable,
)
from carrara.engines.remote.faults import error_of, refused_feature
from carrara.engines.remote.line import StatusError

TRIES = 3
_TRIES_TOO_SLOW = 2  # a time-out costs its whole time again
_FIRST_WAIT_S = 1.0  # where the server names no wait; doubled with each

T = TypeVar("T")


class Passing(Exception):
    """What went wrong may go right another time: nothing is known. `why` in a few words, `error` is the last one."""

    def __init__(self, why: str, error: Exception) -> None:
        super().__init__(why)
        self.why, self.error = why, error


@dataclass(slots=True)
class Patience:
    """How long to wait, in seconds: at most `most_wait_s` for one more try, and `left_s`, which each wait shortens, for
    all that is asked. `sleep` is asyncio's, or that of a test."""

    most_wait_s: float = 30.0
    left_s: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def ask(self, call: Callable[[], Awaitable[T]], feature: str = "") -> T:
        """What `call` gives. `feature` is the part of its request that the server may refuse (of `faults.FEATURES`): an
        error that names it is a refusal, with whatever status.

        Raises:
            Passing: it went wrong each time, the wait that was asked for is too long, or nothing can be asked any more.
            StatusError, EngineError, Wrong: as `call` does, where another try would not help.
        """
        wait_s = _FIRST_WAIT_S
        for number in range(1, TRIES + 1):
            try:
                return await call()
            except (StatusError, EngineFailed, EngineBusy) as error:
                tries = _tries(error, feature)
                if tries is None:
                    raise
                asked_s = _asked_wait_s(error)
                pause_s = wait_s if asked_s is None else asked_s
                times = f", {number} times" if number > 1 else ""
                if number >= tries:
                    raise Passing(f"{_few_words(error)}{times}", error) from error
                if pause_s > min(self.most_wait_s, self.left_s):
                    why = f"{_few_words(error)}{times}, asks to wait {pause_s:g} s"
                    raise Passing(why, error) from error
            await self.sleep(pause_s)
            self.left_s -= pause_s
            wait_s *= 2
        raise AssertionError("the last try returns or raises")


def _tries(error: StatusError | EngineFailed | EngineBusy, feature: str) -> int | None:
    """How often a call that ended so is made in all; None where it is a refusal, or no answer of an API."""
    made: Exception = error
    if isinstance(error, StatusError):
        if error.told.status == 501 or (feature and refused_feature(error.told, [feature])):
            return None
        made = error_of(error.told, "", "")
    match made:
        case BadReply():
            return None
        case Unreachable() | QuotaExhausted():
            return 1
        case EngineTimeout():
            return _TRIES_TOO_SLOW
        case EngineBusy() | EngineFailed():
            return TRIES
        case _:
            return None


def _asked_wait_s(error: Exception) -> float | None:
    if isinstance(error, StatusError):
        return error.told.retry_after_s
    return error.retry_after_s if isinstance(error, EngineBusy) else None


def _few_words(error: Exception) -> str:
    if isinstance(error, StatusError):
        return f"status {error.told.status} ({error.told.message[:60]})"
    return str(error).partition(": ")[2][:100] or type(error).__name__


__all__ = ["TRIES", "Passing", "Patience"]

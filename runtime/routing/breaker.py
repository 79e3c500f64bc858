"""Circuit breakers: an engine that keeps failing is left alone for a while, then tried by one call at a time.

The decisions are pure: the time is an argument, in seconds of any one clock. A call that only this engine can answer
can wait for what the trying call finds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from math import inf

PATIENT = 4
"""An engine that no other can stand in for is down once it has failed for so many times `break_s`."""

HURRIED = 0.5
"""As `PATIENT`, of a run that somebody waits for, where the engine has never answered and its server is there and told
each time that it failed: so does a server that is set up wrongly. One that starts is busy, or not there yet."""

FIRST_PAUSE_S = 1.0  # before it is tried again for those who wait; doubled up to `break_s`
_MOST_TOLD = 200  # characters of an error


class Recovering(Exception):
    """The engine keeps failing, no other could be asked, and it is too early to try it again: that is waited for."""


@dataclass(slots=True)
class _Breaker:
    """`since`: the first of the failures in a row, `failed_at`: the last; `opened_at` None: closed. `tried`: how often
    it was tried in vain since it opened. `unreachable`: at the last failure no connection came about. `told`: at each
    of them the server told that the fault is its own. `held_until`: when the waits are over that it asked for."""

    failures: int = 0
    since: float = 0.0
    failed_at: float = 0.0
    opened_at: float | None = None
    tried: int = 0
    probing: bool = False
    unreachable: bool = False
    told: bool = True
    held_until: float = -inf
    error: str = ""


class Breakers:
    """One breaker an engine. Closed: calls go through. Open after `break_after` failures in a row: none do for
    `break_s`. Half open then: one call goes through, and closes or opens it again.

    Where no other engine can answer, leaving it alone helps nobody: then it is tried after shorter pauses, by one call
    at a time all the same, until it is `down`.
    """

    def __init__(self) -> None:
        self._found: dict[str, _Breaker] = {}
        self._answers: Counter[str] = Counter()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def objection(self, engine: str, now: float, break_s: float) -> str | None:
        """Why the engine may not be asked now, None if it may."""
        found = self._found.get(engine)
        if found is None or found.opened_at is None:
            return None
        if max(found.opened_at + break_s, found.held_until) <= now and not found.probing:
            return None
        told = (
            f"{engine} failed {found.failures} times in a row and is left alone for {break_s:g} s"
        )
        return f"{told}; its last error: {found.error}" if found.error else told

    def pause_s(self, engine: str, now: float, break_s: float) -> float:
        """How long a call waits that no other engine can answer: 0 if it may ask now; infinity while another call
        tries the engine."""
        found = self._found.get(engine)
        if found is None or found.opened_at is None:
            return 0.0
        if found.probing:
            return inf
        pause_s = min(break_s, FIRST_PAUSE_S * float(2 ** min(found.tried, 30)))
        return max(0.0, max(found.failed_at + pause_s, found.held_until) - now)

    def answers(self, engine: str) -> int:
        """How many calls the engine has answered."""
        return self._answers[engine]

    def in_a_row(self, engine: str) -> int:
        """How many calls it has failed since it answered one."""
        found = self._found.get(engine)
        return 0 if found is None else found.failures

    def bound_s(self, engine: str, break_s: float, hurried: bool = False) -> float:
        """For how long the engine may go on failing until such a call does not wait any longer: `PATIENT` times
        `break_s`, `HURRIED` times where that holds, and 0 where it cannot be reached and never was."""
        found = self._found.get(engine)
        if found is None or self._answers[engine]:
            return PATIENT * break_s
        if found.unreachable:
            return 0.0
        return (HURRIED if hurried and found.told else PATIENT) * break_s

    def left_s(self, engine: str, now: float, break_s: float, hurried: bool = False) -> float:
        """How long until the engine is `down` if it does not answer before; infinity where it does not fail."""
        found = self._found.get(engine)
        if found is None or found.opened_at is None:
            return inf
        return found.since + self.bound_s(engine, break_s, hurried) - now

    def down(self, engine: str, now: float, break_s: float, hurried: bool = False) -> str | None:
        """Why such a call is not to wait any longer, None if it is to. `hurried`: somebody waits for its run."""
        found = self._found.get(engine)
        if found is None or found.opened_at is None:
            return None
        if self.left_s(engine, now, break_s, hurried) > 0:
            return None
        if found.failures == 1:
            return found.error
        told = f"engine {engine!r} failed {found.failures} times in a row"
        if not self._answers[engine]:
            told = f"engine {engine!r} has not answered once: it failed {found.failures} times in a row"
        over_s = found.failed_at - found.since
        over = f", over {over_s:.0f} s" if over_s >= 1 else ""
        return f"{told}{over}; its last error: {found.error}"

    def asked(self, engine: str) -> bool:
        """A call goes to the engine; whether it is the probe, as it is on an open breaker."""
        found = self._found.get(engine)
        if found is None or found.opened_at is None:
            return False
        found.probing = True
        return True

    def worked(self, engine: str) -> None:
        """The engine answered."""
        self._answers[engine] += 1
        if self._found.pop(engine, None) is not None:
            self._changed(engine)

    def gave_up(self, engine: str) -> None:
        """The probe ended without telling how the engine is: it was cancelled, or the engine was busy or refused."""
        if (found := self._found.get(engine)) is not None:
            found.probing = False
            self._changed(engine)

    def put_off(self, engine: str, now: float, asked_s: float) -> None:
        """The engine asked the probe to come again after so many seconds. Whoever comes first then is the next."""
        if (found := self._found.get(engine)) is not None:
            found.held_until = now + asked_s
        self.gave_up(engine)

    def failed(
        self,
        engine: str,
        now: float,
        break_after: int,
        error: str = "",
        *,
        unreachable: bool = False,
        told: bool = False,
        probe: bool = True,
        asked_s: float = 0.0,
    ) -> bool:
        """The engine broke, and with which error; whether that opened the breaker. `unreachable`: no connection came
        about. `told`: its server told that the fault is its own. `asked_s`: it is not tried before so many seconds have
        passed. `probe` False: it was not the call that tries the engine, should there be one, but one that was under
        way before."""
        found = self._found.setdefault(engine, _Breaker(since=now))
        found.failures += 1
        found.failed_at, found.error, found.unreachable = now, _shown(error), unreachable
        found.told, found.held_until = found.told and told, max(found.held_until, now + asked_s)
        was_open = found.opened_at is not None
        if probe:
            found.tried += found.probing
            found.probing = False
        if found.failures >= break_after or was_open:
            found.opened_at = now
        self._changed(engine)
        return found.opened_at is not None and not was_open

    async def changed(self, engine: str, within_s: float) -> None:
        """Wait until a call of the engine has ended, or for so many seconds (infinity: until then)."""
        if engine not in self._waiting:
            self._waiting[engine] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[engine]
        await asyncio.wait((waiting,), timeout=None if within_s == inf else within_s)

    def _changed(self, engine: str) -> None:
        waiting = self._waiting.pop(engine, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def _shown(error: str) -> str:
    line = error.strip().partition("\n")[0]
    return line if len(line) <= _MOST_TOLD else f"{line[:_MOST_TOLD]}…"


__all__ = ["FIRST_PAUSE_S", "HURRIED", "PATIENT", "Breakers", "Recovering"]

"""Circuit breakers: an engine that keeps failing is left alone for a while, then tried by one call at a time.

Pure: the time is an argument, in seconds of any one clock.
"""

from __future__ import annotations

from dataclasses import dataclass

_MOST_TOLD = 200  # characters of an error


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    opened_at: float | None = None
    probing: bool = False
    error: str = ""


class Breakers:
    """One breaker an engine. Closed: calls go through. Open after `break_after` failures in a row: none do for
    `break_s`. Half open then: one call goes through, and closes or opens it again."""

    def __init__(self) -> None:
        self._found: dict[str, _Breaker] = {}

    def wait_s(self, engine: str, now: float, break_s: float) -> float:
        """How long until the engine may be asked again, 0 if it may now; behind a probe, a whole `break_s`."""
        found = self._found.get(engine)
        if found is None or found.opened_at is None:
            return 0.0
        left = found.opened_at + break_s - now
        return left if left > 0 else break_s if found.probing else 0.0

    def objection(self, engine: str, now: float, break_s: float) -> str | None:
        """Why the engine may not be asked now, None if it may."""
        if self.wait_s(engine, now, break_s) <= 0:
            return None
        found = self._found[engine]
        told = (
            f"{engine} failed {found.failures} times in a row and is left alone for {break_s:g} s"
        )
        return f"{told}; its last error: {found.error}" if found.error else told

    def asked(self, engine: str) -> None:
        """A call goes to the engine; on an open breaker it is the probe."""
        found = self._found.get(engine)
        if found is not None and found.opened_at is not None:
            found.probing = True

    def worked(self, engine: str) -> None:
        """The engine answered."""
        self._found.pop(engine, None)

    def gave_up(self, engine: str) -> None:
        """A call ended without telling how the engine is: it was cancelled, or the engine was busy or refused."""
        if (found := self._found.get(engine)) is not None:
            found.probing = False

    def failed(self, engine: str, now: float, break_after: int, error: str = "") -> bool:
        """The engine broke, and with which error; whether that opened the breaker."""
        found = self._found.setdefault(engine, _Breaker())
        found.failures += 1
        found.error = _shown(error)
        was_open, found.probing = found.opened_at is not None, False
        if found.failures >= break_after:
            found.opened_at = now
        return found.opened_at is not None and not was_open


def _shown(error: str) -> str:
    line = error.strip().partition("\n")[0]
    return line if len(line) <= _MOST_TOLD else f"{line[:_MOST_TOLD]}…"


__all__ = ["Breakers"]

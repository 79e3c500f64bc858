"""What ends a job before its records do: a budget, a deadline, engines that can answer nothing any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from carrara.engines.errors import EngineBusy, EngineDown, LoadingError
from carrara.runtime.routing.budget import OverBudget
from carrara.workflows.batch import DONE, Done
from carrara.workflows.records import Record


@dataclass(frozen=True, slots=True)
class Until:
    """What ends a job early. `cost` in US dollars is what this process may spend on engines, by the prices that
    the policy or they tell; after `deadline_s` seconds no record is begun. What is under way ends; the job can go on
    later."""

    cost: float | None = None
    deadline_s: float | None = None


class End:
    """When to take no more records, and why: `reason`, "" until then. Its time begins when it is made."""

    def __init__(self, until: Until, clock: Callable[[], float]) -> None:
        self._deadline_s = until.deadline_s
        self._clock = clock
        self._began = clock()
        self.reason = ""

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    def cut(self, records: Iterable[Record | Done]) -> Iterator[Record | Done]:
        """The records up to the end."""
        for record in records:
            if record is not DONE and self._is_over():
                return
            yield record

    def _is_over(self) -> bool:
        late = self._deadline_s
        if not self.reason and late is not None and self.elapsed_s >= late:
            self.reason = f"the deadline of {late:g} s has passed"
        return bool(self.reason)

    def caused(self, error: BaseException | None) -> bool:
        """Whether a record failed for what is not its own, and meets the next ones too: the budget is spent, or no
        engine can answer it. Then it is still open, and none is begun after it."""
        while error is not None:
            if (why := _why_all_end(error)) is not None:
                self.reason = self.reason or why
                return True
            error = error.__cause__
        return False


def _why_all_end(error: BaseException) -> str | None:
    match error:
        case OverBudget():
            return f"the budget has no room for more: {error}"
        case EngineDown():
            return f"no engine could answer (start it, or name another with --engine): {error}"
        case EngineBusy():
            return f"the engine is busy for longer than a call waits for it: {error}"
        case LoadingError():
            return f"no engine can be opened: {error}"
        case _:
            return None


__all__ = ["End", "Until"]

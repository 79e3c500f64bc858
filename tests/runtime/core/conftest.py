"""A journal in memory, and short ways to make steps."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from carrara.runtime.events import Event
from carrara.runtime.journal.api import Done, Key, RunRecord, StepRecord
from carrara.runtime.step import StepOptions, StepSpec


@pytest.fixture
def step() -> Callable[..., StepSpec]:
    """step(body, name=..., kind=..., **options) makes a spec whose fingerprint is its name."""

    def make(body: Callable[..., Any], **kwargs: Any) -> StepSpec:
        name = kwargs.pop("name", getattr(body, "__name__", "step"))
        kind = kwargs.pop("kind", "python")
        fingerprint = kwargs.pop("fingerprint", f"{name}-1")
        returns = kwargs.pop("returns", None)
        return StepSpec(name, body, kind, fingerprint, StepOptions(**kwargs), returns)

    return make


@dataclass
class Stored:
    fingerprint: str
    seconds: float
    payload: str
    place: int

    def value(self, returns: Any) -> Any:
        if self.payload == "unreadable":
            raise ValueError("unreadable")
        return json.loads(self.payload)


@dataclass
class MemoryJournal:
    """Group commit as a store does it: records of one turn of the loop become durable together."""

    steps: dict[str, dict[Key, StepRecord]] = field(default_factory=dict)
    runs: dict[str, RunRecord] = field(default_factory=dict)
    closed: dict[str, tuple[bool, str]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    commits: int = 0
    broken: BaseException | None = None
    pending: list[tuple[StepRecord, Done]] = field(default_factory=list)
    known: dict[str, float] = field(default_factory=dict)

    def open_run(self, run: RunRecord) -> None:
        self.runs[run.run_id] = run
        self.steps.setdefault(run.run_id, {})

    def finished(self, run_id: str) -> Mapping[Key, Stored]:
        return {
            key: Stored(r.spec.fingerprint, r.seconds, json.dumps(r.value), id(r))
            for key, r in self.steps[run_id].items()
            if r.status == "done" and r.keep
        }

    def is_anothers(self, run_id: str, key: Key, step: Any) -> bool:
        return False

    def take(self, run_id: str, key: Key, step: Any) -> None:
        pass

    def equal_steps(
        self, run_id: str, key: Key, same: Any, *, repeatable: bool
    ) -> Iterator[Stored]:
        if same is not None:
            yield same
        for name, steps in reversed(self.steps.items()):
            for other, r in steps.items():
                if name != run_id and other[1:] == key[1:] and r.status == "done":
                    yield Stored(r.spec.fingerprint, r.seconds, json.dumps(r.value), id(r))

    def durations(self, workflow: str) -> Mapping[str, float]:
        return self.known

    def identity(self, spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        if not spec.fingerprint:
            return ""
        text = json.dumps([spec.fingerprint, args, kwargs], sort_keys=True, default=repr)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def record(self, step: StepRecord, done: Done) -> None:
        try:
            json.dumps(step.value)
        except TypeError as error:
            raise ValueError(str(error)) from error
        if not self.pending:
            asyncio.get_running_loop().call_soon(self._commit)
        self.pending.append((step, done))

    def _commit(self) -> None:
        batch, self.pending = self.pending, []
        self.commits += 1
        for step, done in batch:
            if self.broken is None:
                self.steps[step.run_id][step.key] = step
            done(self.broken)

    def event(self, run_id: str, event: Event) -> None:
        self.events.append(event)

    def close_run(
        self, run_id: str, ok: bool, error: str, seconds: float, *, cut: bool = False
    ) -> None:
        if self.pending:
            self._commit()
        self.closed[run_id] = (ok, error)


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()

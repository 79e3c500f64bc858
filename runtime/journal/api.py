"""The contract between the executor and a journal.

The executor calls a journal from the event loop only, in this order: `open_run`, `finished` (and
`durations`) once, then `identity`, `record` and `event` many times, `close_run` once. A run without a
journal is simply given None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from carrara.runtime.events import Event
from carrara.runtime.step import StepSpec

Done = Callable[[BaseException | None], None]
"""Called on the loop once the record is durable (None) or could not be written (the error)."""


class Key(NamedTuple):
    """What names a finished step within its run: never the order of calls.

    `identity` is the hash of definition and inputs; `occurrence` counts the equal ones (same path, same
    identity) that were submitted before in this run, so that asking twice for the same thing is recorded twice.
    """

    path: str
    identity: str
    occurrence: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as it begins, or begins again. `args` and `kwargs` are the workflow's own; the journal keeps
    them, so that `resume` can call it again from `source` (see RunOptions.source)."""

    run_id: str
    workflow: str
    started_at: float
    source: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


@dataclass(slots=True, eq=False)
class StepRecord:
    """A step that ended. Not frozen only because a frozen one takes three times as long to make.

    `key.identity` is "" where none could be computed: such a record is never reused. `status` "failed" has
    no value and its `error`. `spec.returns` is for the codec; `keep` False (options.cache is off) means that
    the value need not be stored. `ordinal` counts the nodes of the same path submitted before this
    one: with the path it names a node for latency estimates only. `started_at` is unix seconds of the last
    attempt, `seconds` its length; `ready_at` is when its inputs were there.
    """

    run_id: str
    key: Key
    node: int
    spec: StepSpec
    status: Literal["done", "failed"]
    value: Any
    error: str
    attempt: int
    started_at: float
    seconds: float
    ready_at: float
    ordinal: int
    keep: bool


class StoredStep(Protocol):
    """A finished step of an earlier process. Its payload is decoded only when `value` is called."""

    @property
    def fingerprint(self) -> str:
        """That of the definition which made it."""
        ...

    @property
    def seconds(self) -> float: ...

    @property
    def place(self) -> int:
        """Its number in the journal, which no other step has."""
        ...

    def value(self, returns: Any) -> Any:
        """The result, read as annotation `returns` (None: plain JSON values).

        Raises:
            ValueError: what is stored cannot be read as `returns`.
        """
        ...


class Journal(Protocol):
    """Where runs are written down. One journal serves many runs, also at the same time."""

    def open_run(self, run: RunRecord) -> None:
        """Begin or reopen a run; durable when it returns.

        Raises:
            JournalError: the store cannot be written.
        """
        ...

    def finished(self, run_id: str) -> Mapping[Key, StoredStep]:
        """The steps of an earlier process of this run that ended well and can be reused."""
        ...

    def equal_steps(
        self, run_id: str, key: Key, same: StoredStep | None, *, repeatable: bool
    ) -> Iterable[StoredStep]:
        """The reusable steps of any run with the identity and occurrence of `key`, the most fitting first
        (RunOptions.reuse = "any"): those that the row of its record was made with, `same` (one of an earlier opening
        with the same key), and of the others those of this run before those of other runs, then those at the same
        path, at the same place within their record, and the newest. What this opening of the run has recorded is not
        among them, nor, unless the step is `repeatable`, what is another record's (`is_anothers`): work that a run does
        twice is not made one."""
        ...

    def is_anothers(self, run_id: str, key: Key, step: StoredStep) -> bool:
        """Whether the row of another record than that of `key` was made with the step."""
        ...

    def take(self, run_id: str, key: Key, step: StoredStep) -> None:
        """The step is the result of `key`: what comes of its record is made with it."""
        ...

    def durations(self, workflow: str) -> Mapping[str, float]:
        """Mean seconds of the steps of earlier runs of `workflow`.

        By node, "path" for ordinal 0 and "path#ordinal" after it, and by step name (a path has a "/", a name
        has none).
        """
        ...

    def identity(self, spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The hash of the definition and the resolved inputs, "" if there can be none."""
        ...

    def record(self, step: StepRecord, done: Done) -> None:
        """Write a step down with the next group commit; successors wait for `done`.

        `done` may be called before `record` returns or from a later callback of the loop, never from
        another thread, and exactly once.

        Raises:
            ValueError: the value cannot be stored (the message names the part); `done` is not called.
        """
        ...

    def event(self, run_id: str, event: Event) -> None:
        """Write an event down with the next group commit; nobody waits for it. Not given: StepReady,
        StepStarted and StepFinished, whose facts are in the step's record (a reused step has none: its
        StepFinished is given), and the run's own beginning and end."""
        ...

    def close_run(
        self, run_id: str, ok: bool, error: str, seconds: float, *, cut: bool = False
    ) -> None:
        """End a run, `cut` where it was stopped from outside and did not fail by itself; everything about it is
        durable when this returns. Not called if the process dies."""
        ...

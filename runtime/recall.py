"""What the executor asks of a journal: has this step been done before, and if not, write it down.

A finished step is reused when path, identity (definition and inputs) and occurrence are the same as in
the run that is resumed. Where the path is known but the identity is not, the step runs again and StepChanged
says what is different. A run that may reuse any step takes equal ones from other paths and runs, too: each of them
once, unless the step is repeatable, so that five samples of one prompt stay five. What the row of a job's record was
made with is that record's, wherever it stands; everything else is taken once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from carrara.runtime.errors import RunError
from carrara.runtime.events import StepChanged
from carrara.runtime.journal.api import Journal, Key, StepRecord, StoredStep
from carrara.runtime.journal.step_places import StepPlaces
from carrara.runtime.node import StepNode

if TYPE_CHECKING:
    from carrara.runtime.executor import Executor


class Recalled(NamedTuple):
    """The result of an earlier execution, its seconds, and the place of its step in the journal."""

    value: Any
    seconds: float
    place: int


class Recall:
    """One run's dealings with its journal."""

    __slots__ = (
        "_any_run",
        "_clock",
        "_executor",
        "_finished",
        "_journal",
        "_left",
        "_run_id",
        "_taken",
        "_unmatched",
    )

    def __init__(self, executor: Executor, journal: Journal, run_id: str, any_run: bool) -> None:
        self._executor = executor
        self._journal = journal
        self._run_id = run_id
        self._taken = StepPlaces()
        self._any_run = any_run
        self._clock = time.time() - time.perf_counter()  # perf_counter + this = unix seconds
        self._finished: Mapping[Key, StoredStep] = journal.finished(run_id)
        self._left: dict[str, dict[Key, None]] = {}  # recorded, not asked for yet
        self._unmatched: list[StepNode] = []
        for key in self._finished:
            self._left.setdefault(key.path, {})[key] = None

    def name(self, node: StepNode) -> None:
        """Name a node whose arguments are resolved. Work that is equal (same path, same identity) is told apart
        by a count, so nodes should be named in an order that a resumed run repeats.

        Raises:
            JournalError: the journal cannot be read.
        """
        path = node.path
        identity = self._journal.identity(node.spec, node.args, node.kwargs or {})
        counts = node.scope.named
        same = (path, identity)
        occurrence = counts.get(same, 0)
        counts[same] = occurrence + 1
        node.entry = Key(path, identity, occurrence)

    def find(self, node: StepNode) -> Recalled | None:
        """An earlier execution of a named node, None if it has to run."""
        key = node.entry
        assert key is not None
        spec = node.spec
        if not key.identity or not spec.options.cache:
            return None
        stored = self._stored(key, spec.repeatable)
        if stored is None:
            if key.path in self._left:
                self._missed(node)
            return None
        try:
            return Recalled(stored.value(spec.returns), stored.seconds, stored.place)
        except ValueError:
            self._executor.stream.tell(StepChanged, node, what="result type")
            return None

    def _stored(self, key: Key, repeatable: bool) -> StoredStep | None:
        for stored in self._fitting(key, repeatable):
            if repeatable or stored.place not in self._taken:
                self._taken.add(stored.place)
                self._journal.take(self._run_id, key, stored)
                return stored
        return None

    def _fitting(self, key: Key, repeatable: bool) -> Iterable[StoredStep]:
        same = self._finished.get(key) if self._finished else None
        if same is not None:
            self._left[key.path].pop(key, None)
            if not repeatable and self._journal.is_anothers(self._run_id, key, same):
                same = None
        if self._any_run:
            return self._journal.equal_steps(self._run_id, key, same, repeatable=repeatable)
        return () if same is None else (same,)

    def record(self, node: StepNode, value: Any, seconds: float) -> None:
        """Write a finished node down; the executor finishes it once that is durable.

        Raises:
            ValueError: the value cannot be stored.
        """
        self._journal.record(
            self._made(node, "done", value, "", seconds),
            partial(self._executor.committed, node, value, seconds),
        )

    def record_failure(self, node: StepNode, error: RunError, seconds: float) -> None:
        self._journal.record(
            self._made(node, "failed", None, str(error), seconds), self._executor.noted
        )

    def close(self) -> None:
        """Tell of the steps whose inputs are others than in the run that was resumed."""
        for node in self._unmatched:
            if self._left.get(node.path):
                self._left[node.path].popitem()
                self._executor.stream.tell(StepChanged, node, what="inputs")

    def _missed(self, node: StepNode) -> None:
        left = self._left[node.path]
        if not left:
            return
        if all(self._finished[key].fingerprint != node.spec.fingerprint for key in left):
            left.popitem()
            self._executor.stream.tell(StepChanged, node, what="definition")
        elif len(left) == 1 and node.scope.counts.get(node.name) == 1:
            left.popitem()
            self._executor.stream.tell(StepChanged, node, what="inputs")
        else:
            # Several nodes share the path: which of them changed is known when all had their turn.
            self._unmatched.append(node)

    def _made(
        self, node: StepNode, status: Any, value: Any, error: str, seconds: float
    ) -> StepRecord:
        key = node.entry or Key(node.path, "", 0)
        return StepRecord(
            self._executor.info.id,
            key,
            node.seq,
            node.spec,
            status,
            value,
            error,
            node.attempt,
            node.started_at + self._clock,
            seconds,
            node.ready_at + self._clock,
            node.ordinal,
            node.spec.options.cache,
        )

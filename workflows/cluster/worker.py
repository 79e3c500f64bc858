"""What runs the records of a job in another process: the same executor, steps and router as in the driver's.

The driver hands records over with `put`, and fetches what has ended with `take`, which waits until there is something.
A worker keeps nothing: when it is lost, the driver gives its records to others.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from carrara.engines.errors import CarraraError
from carrara.runtime.events import Event, RunFinished, RunStarted, ValueShown
from carrara.runtime.feed import Skip
from carrara.runtime.routing.budget import Spending
from carrara.runtime.routing.policy import Policy
from carrara.runtime.step import RunOptions
from carrara.workflows.batch import Binder, Outcome, batch_of
from carrara.workflows.cluster.far_engine import FarEngine, Replica, Replicas
from carrara.workflows.cluster.plan import Part, share_of, shared
from carrara.workflows.cluster.wire import FarError, outcome_text, record_from
from carrara.workflows.records import Record
from carrara.workflows.session import Session
from carrara.workflows.target import load_workflow

_RECORD = re.compile(r"/record\[(\d+)\]/")


class Worker:
    """`number` tells it from the other workers of the job. `spent` is what lost workers of this number have spent."""

    def __init__(
        self,
        part: Part,
        number: int,
        replicas: Sequence[Replica],
        spent: Spending = Spending(),  # noqa: B008 - frozen
    ) -> None:
        """Raises DefinitionError where the workflow is not on this machine."""
        self._part = part
        self._spent = spent
        self._workflow = load_workflow(part.target, part.folder)
        self._binder = Binder(self._workflow, columns=part.columns, constants=part.constants)
        self._replicas = Replicas(replicas, number)
        self._name = f"{self._workflow.name} (job)"
        self._ended: list[str] = []
        self._some = asyncio.Event()
        self._chunks: set[asyncio.Task[None]] = set()
        self._events: dict[int, list[Event]] = {}
        self._session: Session | None = None
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()

    async def put(self, chunk: Sequence[str]) -> None:
        """Begin these records; returns at once."""
        records = sorted(map(record_from, chunk), key=lambda record: record.index)
        task = asyncio.create_task(self._run(records))
        self._chunks.add(task)
        task.add_done_callback(self._chunks.discard)

    async def take(self) -> list[str]:
        """What has ended since the last call, at least one."""
        await self._some.wait()
        self._some.clear()
        found, self._ended = self._ended, []
        return found

    async def close(self) -> None:
        for chunk in self._chunks:
            chunk.cancel()
        await asyncio.gather(*self._chunks, return_exceptions=True)
        await self._replicas.close()
        await self._stack.aclose()

    async def _run(self, records: Sequence[Record]) -> None:
        left = {record.index: record for record in records}
        self._events |= {place: [] for place in left}

        async def each(outcome: Outcome) -> None:
            del left[outcome.record.index]
            self._give(outcome)

        try:
            opened = await self._opened()
            batch = batch_of(
                self._workflow, _spaced(records), self._binder, each, concurrency=len(records)
            )
            await opened.execute(
                batch,
                name=self._name,
                run_id=self._part.run_id,
                listeners=(self._listen,),
                settings_of=self._workflow,
                remember=True,
            )
        except Exception as error:
            reason = error if isinstance(error, CarraraError) else FarError(repr(error))
            for record in left.values():
                self._give(Outcome(record, None, reason, 0.0))

    def _give(self, outcome: Outcome) -> None:
        events = self._events.pop(outcome.record.index, ())
        self._ended.append(outcome_text(outcome, self._workflow.returns, events))
        self._some.set()

    def _listen(self, event: Event) -> None:
        """Gather the events of each record; what is told of the record itself, the driver knows."""
        if isinstance(event, RunStarted | RunFinished):
            return
        if isinstance(event, ValueShown) and not self._part.shown:
            return
        found = _RECORD.search(getattr(event, "path", ""))
        events = None if found is None else self._events.get(int(found[1]))
        if events is not None:
            events.append(event)

    async def _opened(self) -> Session:
        async with self._turn:
            if self._session is None:
                part = self._part
                limits = {**(getattr(self._workflow, "limits", None) or {}), **part.limits}
                self._session = await self._stack.enter_async_context(
                    Session(
                        engines=part.asked_for(),
                        make=lambda name: FarEngine(name, self._replicas),
                        policy=self._policy(),
                        limits={name: shared(each, part.workers) for name, each in limits.items()},
                        options=RunOptions(concurrency=part.concurrency),
                    )
                )
        return self._session

    def _policy(self) -> Policy | None:
        """That of the job, with this worker's share of its budget."""
        policy = self._part.policy
        if policy is None:
            return None
        budget = share_of(policy.budget, self._part.workers, self._spent)
        return replace(policy, budget=budget)


def _spaced(records: Sequence[Record]) -> Iterator[Record | Skip]:
    """The records, each in its own place."""
    place = 0
    for record in records:
        yield Skip(record.index - place)
        yield record
        place = record.index + 1


__all__ = ["Worker"]

"""The driver's side of a job on a cluster: records go to workers, what they give back goes on as if it had run here.

The driver alone reads the source, writes the journal and the sink: a record is one row, however often it ran.
A worker that is lost is replaced, and its records run elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

from carrara.engines.errors import CarraraError
from carrara.runtime.events import CalledOff, EngineAnswered, Event
from carrara.runtime.retelling import retell
from carrara.runtime.routing.budget import Spending
from carrara.runtime.run import run_id_here
from carrara.workflows.batch import Halt
from carrara.workflows.cluster.arrival import START_S, TELL_S, Patience
from carrara.workflows.cluster.dispatch import CULPRIT_AFTER, SUSPECT_AFTER, Dispatch
from carrara.workflows.cluster.plan import Part
from carrara.workflows.cluster.wire import FarError, Told, outcome_from, record_text
from carrara.workflows.records import Record

MOST_FRUITLESS = 5
"""Starts in a row of one worker that end before it has given anything back."""

_AHEAD = 1.25
"""Records that the driver has under way for each that workers hold: some are being written, some wait."""


class WorkerLost(Exception):
    """The process of a worker has gone, or cannot be reached; the message says what is known of it."""


class Link(Protocol):
    """A worker in another process, as `Worker`. Every call raises WorkerLost where it is gone, for good."""

    async def ready(self) -> None:
        """Wait until it has started."""
        ...

    async def put(self, chunk: list[str]) -> None: ...

    async def take(self) -> list[str]: ...

    def end(self) -> None:
        """End its process, if it still lives. Does not wait."""
        ...


class Cluster(Protocol):
    """Where workers run. `workers` of them are wanted."""

    workers: int

    async def begin(self, part: Part) -> None:
        """Called once, before the first worker. Raises CarraraError."""
        ...

    def worker(self, number: int, spent: Spending) -> Link:
        """Begin to start a worker, a new one in the place of one that was lost. `spent` is what those of this number
        had spent before, as far as they told."""
        ...

    async def engines(self) -> None:
        """Wait until a process with engines has started."""
        ...

    async def room(self) -> str:
        """What there is, what of it is free, and what the job asks for, as sentences."""
        ...

    async def end(self) -> None: ...


@dataclass(slots=True)
class _Wanted:
    record: Record
    told: asyncio.Future[Told]


class Pool:
    """`run` is a workflow's value for a record, computed on the cluster. Used in `async with`; the cluster is begun by
    the first record. `window` records are held by a worker at once, `returns` is the annotation of the value. While no
    worker is there, at the beginning or later, a warning tells so after `tell_s`, and the job ends after `start_s`."""

    def __init__(
        self,
        cluster: Cluster,
        part: Part,
        returns: Any,
        *,
        window: int,
        chunk: int,
        start_s: float = START_S,
        tell_s: float = TELL_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._part = part
        self._returns = returns
        self._dispatch = Dispatch(window, min(chunk, window))
        self._patience = Patience(cluster.room, tell_s, start_s)
        self._sleep = sleep
        self._wanted: dict[int, _Wanted] = {}
        self._links: dict[int, Link] = {}
        self._spent: defaultdict[int, Spending] = defaultdict(Spending)
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: asyncio.Task[None] | None = None
        self._some = asyncio.Event()
        self._hopeless: dict[int, str] = {}
        self._due = False
        self._error: CarraraError | None = None

    @property
    def capacity(self) -> int:
        """Records to have under way, so that every worker has work."""
        return int(self._cluster.workers * self._dispatch.window * _AHEAD) + self._dispatch.chunk

    async def run(self, record: Record) -> Any:
        """The workflow's value for a record. Its events are told in the run that runs here.

        Raises:
            CarraraError: the record failed, or takes down every worker that runs it.
            Halt: there are no workers, and will be none.
        """
        if self._begun is None:
            part = replace(self._part, run_id=run_id_here())
            self._begun = self._task(self._begin(part))
        wanted = _Wanted(record, asyncio.get_running_loop().create_future())
        if self._error is not None:
            raise Halt(self._error)
        self._wanted[record.index] = wanted
        self._dispatch.offer(record.index)
        self._send_soon()
        try:
            told = await wanted.told
        except asyncio.CancelledError:
            self._dispatch.withdraw(record.index)
            raise
        finally:
            del self._wanted[record.index]
        retell(told.events)
        if told.error is not None:
            raise told.error
        return told.value

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._links.values():
            link.end()
        await self._cluster.end()

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._watched(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """What must not end silently: nobody awaits it, and without it records would wait for ever."""
        try:
            await work
        except CarraraError as error:
            self._break(error)
        except Exception as error:
            self._break(CarraraError(f"the job's part of the cluster broke: {error!r}"))

    async def _begin(self, part: Part) -> None:
        await self._cluster.begin(part)
        for number in range(self._cluster.workers):
            self._task(self._serve(number))
        # No error where none comes: it may be that no record needs one.
        self._task(self._patience.watch(self._cluster.engines, "process with engines"))
        await self._await_worker()

    async def _await_worker(self) -> None:
        """Raises CarraraError where none comes."""
        await self._patience.wait(self._some.wait, "worker")

    async def _serve(self, number: int) -> None:
        """Keep the worker of this number alive, and hear what it gives back."""
        fruitless = 0
        while self._error is None:
            link = self._links[number] = self._cluster.worker(number, self._spent[number])
            try:
                await link.ready()
                self._dispatch.joined(number)
                self._some.set()
                self._send_soon()
                while True:
                    for text in await link.take():
                        self._hear(number, text)
                    fruitless = 0
                    self._hopeless.pop(number, None)
                    self._send_soon()
            except WorkerLost as lost:
                reason = str(lost)
            finally:
                link.end()
            for place in self._dispatch.lost(number):
                self._fail(place, reason)
            if self._some.is_set() and not self._dispatch.held:
                self._some.clear()
                self._task(self._await_worker())
            self._send_soon()
            fruitless += 1
            if fruitless >= MOST_FRUITLESS:
                self._hopeless[number] = reason
                if len(self._hopeless) == self._cluster.workers:
                    self._break(CarraraError(f"no worker stays alive on the cluster: {reason}"))
            await self._sleep(min(0.1 * 2**fruitless, 30.0))

    def _hear(self, number: int, text: str) -> None:
        told = outcome_from(text, self._returns)
        self._spent[number] += _spending(told.events)
        wanted = self._wanted.get(told.place)
        if self._dispatch.ended(number, told.place) and wanted and not wanted.told.done():
            wanted.told.set_result(told)

    def _fail(self, place: int, reason: str) -> None:
        wanted = self._wanted.get(place)
        if wanted is not None and not wanted.told.done():
            lost = SUSPECT_AFTER + CULPRIT_AFTER
            error = FarError(
                f"{lost} workers were lost while they worked on this record, {CULPRIT_AFTER} of them with it alone; "
                f"the last: {reason}"
            )
            wanted.told.set_result(Told(place, None, error, 0.0, []))

    def _break(self, error: CarraraError) -> None:
        """No record can run any more."""
        self._error = error
        for wanted in self._wanted.values():
            if not wanted.told.done():
                wanted.told.set_exception(Halt(error))

    def _send_soon(self) -> None:
        """Send at the end of this turn of the loop: what comes within it goes together."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._due = False
        for number, places in self._dispatch.sends():
            chunk = [record_text(self._wanted[place].record) for place in places]
            self._task(self._put(self._links[number], chunk))

    async def _put(self, link: Link, chunk: list[str]) -> None:
        with suppress(WorkerLost):  # whoever takes from it finds that out, too
            await link.put(chunk)


def _spending(events: Iterable[Event]) -> Spending:
    """What the calls of a record have cost."""
    found = Spending()
    for event in events:
        if isinstance(event, EngineAnswered):
            tokens = event.usage.prompt_tokens + event.usage.completion_tokens
            found += Spending(tokens, event.cost)
        elif isinstance(event, CalledOff):
            found += Spending(event.tokens, event.cost)
    return found


__all__ = ["Cluster", "Link", "Pool", "WorkerLost"]

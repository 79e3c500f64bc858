"""Running a workflow: `execute`, and what workflow functions and step bodies call meanwhile.

    result = await execute(book, (pages,), {}, name="book", journal=journal)

Inside a workflow function `submit` and `submit_map` add steps; inside a step's body `context` tells
where it runs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from carrara.runtime.context import StepContext
from carrara.runtime.errors import RunCancelled, RunDeadline, ScopeError, StepError, reason_of
from carrara.runtime.events import Event, Listener, RunFinished, RunStarted, StepFailed
from carrara.runtime.executor import Executor
from carrara.runtime.handle import Handle
from carrara.runtime.journal.api import Journal, RunRecord
from carrara.runtime.listeners import Stream
from carrara.runtime.node import StepNode, current
from carrara.runtime.ranking import Estimates
from carrara.runtime.recall import Recall
from carrara.runtime.scope import Scope, run_in_scope
from carrara.runtime.shapes import private_call
from carrara.runtime.step import RunInfo, RunOptions, StepSpec
from carrara.runtime.submission import submit_feed_to, submit_map_to, submit_to

T = TypeVar("T")

_NO_COMMON: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class RunResult(Generic[T]):
    """`steps` ended well, `reused` of them were taken from the journal."""

    value: T
    run_id: str
    seconds: float
    steps: int
    reused: int


class RunControl:
    """Cancels a run from outside: `execute` then raises RunCancelled. Usable from any thread."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._halt: Callable[[str], None] | None = None

    def cancel(self, reason: str = "cancelled") -> None:
        self._reason = reason
        if self._halt is not None:
            self._halt(reason)

    def _attach(self, executor: Executor) -> None:
        loop = asyncio.get_running_loop()

        def halt(reason: str) -> None:
            run = executor.info.id
            error = RunCancelled(f"run {run} was cancelled: {reason}", run=run)
            if not loop.is_closed():
                loop.call_soon_threadsafe(executor.halt, error)

        self._halt = halt
        if self._reason is not None:
            halt(self._reason)


class _Halt(Exception):
    """Leaves the task group, so that it cancels what still runs."""


async def execute(
    workflow: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    options: RunOptions | None = None,
    journal: Journal | None = None,
    listeners: Sequence[Listener] = (),
    resources: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    estimates: Estimates | None = None,
    control: RunControl | None = None,
) -> RunResult[Any]:
    """Run a workflow function, sync or async, and everything that it submits.

    With a journal and the `run_id` of an earlier run, finished steps are taken from there. `estimates`
    shared among runs teach each the latencies of those before; by default they come from the journal.
    Cancelling the task that awaits this cancels the run and leaves no task behind; what had finished is
    recorded.

    Raises:
        StepError: a step failed, and the workflow was not given the error or let it pass.
        RunCancelled: `control` cancelled the run, or its deadline passed (RunDeadline).
        JournalError: the journal cannot be read or written.
        Exception: whatever the workflow function itself raises, with a note that names the run.
    """
    options = options or RunOptions()
    name = name or getattr(workflow, "__name__", "workflow")
    info = RunInfo(run_id or os.urandom(5).hex(), name)
    known = kwargs or {}
    if journal is not None:
        record = RunRecord(info.id, name, time.time(), options.source, args, known)
        journal.open_run(record)
    if estimates is None:
        estimates = Estimates(partial(journal.durations, name) if journal is not None else None)
    stream = Stream(info.id, listeners, journal)
    executor = Executor(info, options, estimates, stream, resources or {})
    if control is not None:
        control._attach(executor)
    stream.emit(RunStarted(info.id, time.time(), name, run_id is not None))
    began = time.perf_counter()
    try:
        if journal is not None:
            executor.recall = Recall(executor, journal, info.id, options.reuse == "any")
        value = await _run(executor, workflow, args, known)
    except BaseException as error:
        _close(executor, journal, error, time.perf_counter() - began)
        raise
    seconds = time.perf_counter() - began
    _close(executor, journal, None, seconds)
    return RunResult(value, info.id, seconds, executor.steps, executor.reused)


async def _run(
    executor: Executor, workflow: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
) -> Any:
    loop = asyncio.get_running_loop()
    deadline_s = executor.options.deadline_s
    timer = loop.call_later(deadline_s, _late, executor) if deadline_s is not None else None
    try:
        async with asyncio.TaskGroup() as group:
            executor.group = group
            main = group.create_task(_main(executor, workflow, args, kwargs))
            try:
                await executor.halted
            finally:
                executor.closing = True
            if executor.error is not None:
                raise _Halt
    except* _Halt:
        pass
    finally:
        if timer is not None:
            timer.cancel()
        executor.bury()
    if executor.error is not None:
        raise executor.error
    value, error = main.result()
    if error is not None:
        raise error
    return value


async def _main(
    executor: Executor, workflow: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
) -> tuple[Any, Exception | None]:
    """The workflow's value and no error, or the error."""
    try:
        scope = Scope(executor, executor.info.name, None)
        own, named = private_call(args, dict(kwargs))
        return await run_in_scope(scope, workflow, own, named), None
    except Exception as error:
        return None, error
    finally:
        executor.halt(None)


def _late(executor: Executor) -> None:
    run, deadline_s = executor.info.id, executor.options.deadline_s
    executor.halt(RunDeadline(f"run {run} passed its deadline of {deadline_s:g} s", run=run))


def _close(
    executor: Executor, journal: Journal | None, error: BaseException | None, seconds: float
) -> None:
    info = executor.info
    reason = _told(error)
    cut = isinstance(error, RunCancelled) or not isinstance(error, Exception | None)
    try:
        if executor.recall is not None:
            executor.recall.close()
            executor.recall = None  # the two hold each other, and with them every value of the run
        if journal is not None:
            journal.close_run(info.id, error is None, reason, seconds, cut=cut)
    except Exception as broken:
        if error is None:
            raise
        error.add_note(f"closing the journal of run {info.id} failed, too: {broken}")
    if error is not None:
        error.add_note(f"in run {info.id} of workflow {info.name!r}")
    executor.stream.emit(
        RunFinished(
            info.id,
            time.time(),
            error is None,
            reason,
            seconds,
            executor.steps,
            executor.reused,
            cut,
        )
    )


def _told(error: BaseException | None) -> str:
    """Why a run ended, "" for one that ended well."""
    match error:
        case None:
            return ""
        case RunCancelled():
            return str(error)
        case asyncio.CancelledError() | KeyboardInterrupt():
            return "cancelled from outside"
        case _:
            return reason_of(error)


def submit(spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handle[Any]:
    """Add a step to the workflow that is running here, and return a handle of its value.

    Raises:
        ScopeError: no workflow runs here, or it has ended.
    """
    return submit_to(_scope(spec), spec, args, kwargs)


def submit_map(
    spec: StepSpec,
    items: Any,
    common: Mapping[str, Any] = _NO_COMMON,
    limit: int | None = None,
    *,
    keep_errors: bool = False,
) -> Handle[list[Any]]:
    """Add a step for every item: `body(item, **common)`; the handle gives the results in order.

    `items` is an iterable, whose items may be or hold handles, or the handle of one. At most `limit`
    children run at once; none runs for an item that is ABSENT. A map over a map passes each item on as it
    comes. The first failed child fails the map and lets the others go on; with `keep_errors` its StepError
    takes its place in the list instead.

    Raises:
        ScopeError: no workflow runs here, or it has ended.
        HandleError: `items` is text, a mapping or not iterable.
    """
    return submit_map_to(_scope(spec), spec, items, common, limit, keep_errors)


def submit_feed(
    spec: StepSpec,
    items: Iterator[Any],
    limit: int | Callable[[], int],
    room: Callable[[int], bool] | None = None,
) -> Handle[None]:
    """Add a sub-workflow `name[i]` for item `i` of an iterator.

    It is asked for the next one only when fewer than `limit` (or `limit()`, as of now) are under way and `room(i)` is
    true, or none is under way, and again when one has ended. None runs for an item that is ABSENT. Nothing is kept of
    what has ended, so `items` may be without end. It is the only feed of its name.

    Raises:
        ScopeError: no workflow runs here, it has ended, or a step of this name is there already.
    """
    return submit_feed_to(_scope(spec), spec, items, limit, room)


async def run_within(spec: StepSpec, kwargs: Mapping[str, Any]) -> Any:
    """Run a workflow as a part of the one that runs here, and give its value.

    Its steps have the paths that they would have in a sub-workflow, but it has no node of its own, which costs a third
    of a small record. For a caller that has nothing else to do meanwhile.

    Raises:
        StepError: it failed, as awaiting the handle of a sub-workflow would tell.
    """
    outer = _scope(spec)
    executor = outer.executor
    scope = Scope(executor, f"{outer.path}/{spec.name}", outer.node)
    args, named = private_call((), dict(kwargs))
    try:
        return await run_in_scope(scope, spec.body, args, named)
    except StepError:
        raise
    except Exception as error:
        failure = StepError.of(error, run=executor.info.id, step=scope.path, index=None, attempt=1)
        if outer.node is not None:
            executor.stream.tell(
                StepFailed, outer.node, attempt=1, error=reason_of(error), seconds=0.0, within=False
            )
        raise failure from error


def run_id_here() -> str:
    """The id of the run whose workflow function runs here.

    Raises:
        ScopeError: none does.
    """
    return _executor_here().info.id


def tell_here(kind: type[Event], /, **fields: Any) -> None:
    """Tell an event of the run whose workflow function runs here to its journal and listeners.

    Raises:
        ScopeError: none does.
    """
    executor = _executor_here()
    executor.stream.emit(kind(executor.info.id, time.time(), **fields))


def _executor_here() -> Executor:
    scope = current.get()
    if not isinstance(scope, Scope):
        raise ScopeError("no workflow runs here, and so there is no run")
    return scope.executor


def in_workflow() -> bool:
    """Whether a workflow function runs here: False inside a step's body and outside of any run."""
    return isinstance(current.get(), Scope)


def context() -> StepContext:
    """The step that is running here.

    Raises:
        ScopeError: called outside of a step's body.
    """
    node = current.get()
    if not isinstance(node, StepNode):
        raise ScopeError("context() is for the bodies of steps: no step runs here")
    return StepContext(node)


def _scope(spec: StepSpec) -> Scope:
    scope = current.get()
    if not isinstance(scope, Scope):
        raise ScopeError(
            f"step {spec.name!r} was submitted where no workflow runs: call it in a workflow function"
        )
    return scope

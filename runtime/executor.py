"""The executor: does what the scheduler decides, on one asyncio loop, in one task group.

Every started node is a task in its own context. A node whose body has returned is finished (its value
visible, its successors free to start) at once, or, with a journal, once its record is durable. Sub-workflows
and maps are nodes too, but hold no place, so nesting them cannot deadlock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from threading import get_ident
from time import perf_counter
from typing import Any, cast

from carrara.runtime.arguments import resolve
from carrara.runtime.attempts import run_attempts
from carrara.runtime.bodies import Call
from carrara.runtime.errors import JournalError, RunError, StepError, exited, is_way_out, reason_of
from carrara.runtime.events import (
    StepCancelled,
    StepFailed,
    StepFinished,
    StepReady,
    StepSkipped,
    StepStarted,
    ValueShown,
)
from carrara.runtime.listeners import Stream
from carrara.runtime.loop_watch import LoopWatch
from carrara.runtime.needs import Pools
from carrara.runtime.node import StepNode, current
from carrara.runtime.ranking import Estimates, Ranks
from carrara.runtime.recall import Recall
from carrara.runtime.scheduler import CANCELLED, DONE, READY, RUNNING, Scheduler
from carrara.runtime.scope import Scope
from carrara.runtime.shapes import PLAIN, private
from carrara.runtime.step import RunInfo, RunOptions
from carrara.runtime.workers import DaemonThreads

_log = logging.getLogger(__name__)

_BURST = 256  # nodes started in one turn of the loop, about


class Executor:
    """One run's nodes. `live` holds those that have not ended, `grants` what those between two attempts
    wait for to have a place again; `closing` says that no more may start. `left_behind` are the calls in threads
    that were given up while they ran, by path; `inner` the tasks that nodes run beside their own.

    `loop` is the one that it runs on, kept because Python 3.11 makes a system call to tell the running one. `group` is
    the task group that the nodes run in; whoever makes an executor sets it before the first submission, and leaves the
    group when `halted` is done.
    """

    def __init__(
        self,
        info: RunInfo,
        options: RunOptions,
        estimates: Estimates,
        stream: Stream,
        resources: Mapping[str, Any],
    ) -> None:
        self.info = info
        self.options = options
        self.stream = stream
        self.resources = resources
        self.scheduler = Scheduler(Ranks(estimates))
        self.pools = Pools(options)
        self.recall: Recall | None = None
        self.group: asyncio.TaskGroup
        self.live: set[StepNode] = set()
        self.grants: dict[StepNode, asyncio.Future[None]] = {}
        self.left_behind: list[tuple[str, Future[Any]]] = []
        self.inner: dict[asyncio.Task[Any], StepNode] = {}
        self.seq = 0
        self.steps = 0
        self.reused = 0
        self.thread = get_ident()
        self.closing = False
        self.error: RunError | None = None
        self.loop = asyncio.get_running_loop()
        self.watch = LoopWatch(self.thread, self._node_of)
        self.halted: asyncio.Future[None] = self.loop.create_future()
        self._call_soon = self.loop.call_soon
        self._due = False  # a pump is scheduled
        self._pumping = False
        self._workers: DaemonThreads | None = None

    def halt(self, error: RunError | None) -> None:
        """End the run: nothing more starts, what runs is cancelled. `error` None: it ended by itself."""
        if not self.halted.done():
            self.error = error
            self.closing = True
            self.halted.set_result(None)

    def bury(self) -> None:
        """After the last task: end the nodes that never did, and let go of the threads."""
        self.closing = True
        for node in sorted(self.live, key=lambda n: n.seq):
            self._give_up(node, "the run ended")
        self.watch.close()
        if self._workers is not None:
            self._workers.shutdown()
        running = sorted({path for path, call in self.left_behind if not call.done()})
        if running:
            more = f" and {len(running) - 3} more" if len(running) > 3 else ""
            _log.warning(
                "run %s left a thread behind in step %s%s, which was given up while it ran: Python cannot stop "
                "it, it ends with the process",
                self.info.id,
                ", ".join(map(repr, running[:3])),
                more,
            )

    def _node_of(self, task: asyncio.Task[Any]) -> StepNode | None:
        """The node that a task works for. For any thread."""
        found = self.inner.get(task)
        return found or next((node for node in self.live.copy() if node.task is task), None)

    def threads(self) -> DaemonThreads:
        """The worker threads for sync bodies, made when the first one is needed."""
        if self._workers is None:
            self._workers = DaemonThreads(f"carrara-{self.info.id}")
        return self._workers

    # Starting.

    def adopt(self, node: StepNode, inputs: list[StepNode]) -> None:
        """Take a new node in."""
        node.bound = bool(inputs)
        node.scope.left += 1
        self.live.add(node)
        blocked = self.scheduler.added(node, inputs)
        if blocked is not None:
            error = cast(StepNode, blocked).error
            assert error is not None
            self._skip(node, error)
        elif node.state == READY and not (self._due or self._pumping):
            self.start_soon()

    def start_soon(self) -> None:
        """Start what can start once the workflow has said all that it has to say in this turn."""
        if not self._due:
            self._due = True
            self._call_soon(self._pump)

    def _pump(self) -> None:
        self._due = False
        if self._pumping:
            return
        self._pumping = True
        scheduler = self.scheduler
        recall = self.recall
        timed = recall is not None or self.stream.watched
        started = 0
        try:
            while (scheduler.fresh or scheduler.loose) and not self.closing:
                if timed:
                    self._greet_ready(recall)
                nodes = scheduler.start()
                for node in nodes:
                    if self.closing:
                        break
                    self._start(cast(StepNode, node))
                started += len(nodes)
                if started > _BURST:  # of steps taken from the journal: let others have the loop
                    self.start_soon()
                    break
        except Exception as error:
            # Nobody awaits this callback: the run must end with the error rather than wait for ever.
            self.noted(error)
        finally:
            self._pumping = False

    def move_on(self) -> None:
        """Something ended: start what can start now."""
        scheduler = self.scheduler
        if self._due or self._pumping or not (scheduler.fresh or scheduler.loose):
            return
        if scheduler.queued:
            # Whoever waits for what has just ended may still submit something more urgent.
            self.start_soon()
        else:
            self._pump()

    def _greet_ready(self, recall: Recall | None) -> None:
        """The inputs of these nodes have come. Named now, equal work is numbered in the order in which it was
        submitted, as far as inputs allow, and not in that of the starts, which follows latencies."""
        now = perf_counter()
        for ready in self.scheduler.fresh:
            node = cast(StepNode, ready)
            node.ready_at = now
            if self.stream.watched:
                self.stream.tell(StepReady, node)
            if (
                recall is not None
                and node.fan is None
                and node.needs.recorded
                and node.state == READY
            ):
                self._name(node, recall)

    def _name(self, node: StepNode, recall: Recall) -> None:
        try:
            if node.bound:
                _resolve_arguments(node)
            if node.entry is None:
                recall.name(node)
        except JournalError as error:
            self.halt(error)
        except Exception as error:
            self._broke(node, error)

    def _start(self, node: StepNode) -> None:
        if node.task is not None:  # between two attempts: it has its place again
            self.grants[node].set_result(None)
            return
        try:
            if node.bound:
                _resolve_arguments(node)
            if node.fan is not None:
                node.started_at = perf_counter()
                node.fan.begin(node.args)
                return
            needs = node.needs
            if self.recall is not None and needs.recorded and self._reuse(node, self.recall):
                return
        except JournalError as error:
            self.halt(error)
            return
        except Exception as error:
            self._broke(node, error)
            return
        if self.stream.watched:
            self.stream.tell(StepStarted, node)
        node.started_at = perf_counter()
        if needs.plain:
            body = self._run_plain(node)
        elif needs.once:
            body = self._run_once(node, needs.call)
        else:
            body = run_attempts(self, node, needs.call)
        node.task = self.group.create_task(body, context=node.context)

    def _reuse(self, node: StepNode, recall: Recall) -> bool:
        found = recall.find(node)
        if found is None:
            return False
        self.reused += 1
        if self.stream.watched and node.spec.kind == "llm":
            self.stream.tell(ValueShown, node, value=found.value, reused=True, place=found.place)
        self.stream.tell(StepFinished, node, seconds=found.seconds, reused=True)
        self.finish(node, found.value, None)
        return True

    # Running.

    async def _run_plain(self, node: StepNode) -> None:
        """The short way: one call of an async body."""
        current.set(node)
        try:
            kwargs = node.kwargs
            if kwargs is None:
                value = await node.spec.body(*node.args)
            else:
                value = await node.spec.body(*node.args, **kwargs)
        except BaseException as error:
            self._left(node, error)
        else:
            self.returned(node, value)

    async def _run_once(self, node: StepNode, call: Call) -> None:
        """One call of a body of another kind: a sub-workflow, a function in a thread."""
        current.set(node)
        try:
            value = await call(node)
        except BaseException as error:
            self._left(node, error)
        else:
            self.returned(node, value)

    def _left(self, node: StepNode, error: BaseException) -> None:
        """The body raised, in its only attempt."""
        if is_way_out(error):
            error = exited(error)
        elif not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        self.stopped(node, error)

    def returned(self, node: StepNode, value: Any) -> None:
        if node.state != RUNNING:  # it was given up, and would not hear
            return
        seconds = perf_counter() - node.started_at
        if type(value) not in PLAIN and node.needs.recorded:
            # The body may hold on to what it returned.
            try:
                value = private(value)
            except RecursionError:
                self._broke(node, ValueError("the result contains itself, or nests too deep"))
                return
        if self.recall is None or not node.needs.recorded:
            if self.stream.watched:
                self._note_finished(node, seconds)
            self.finish(node, value, seconds)
            return
        self.scheduler.released(node)
        try:
            self.recall.record(node, value, seconds)
        except ValueError as error:
            self._broke(node, error)
        except JournalError as error:
            self.halt(error)
        else:
            self.move_on()

    def committed(
        self, node: StepNode, value: Any, seconds: float, error: BaseException | None
    ) -> None:
        """The record of a finished node is durable, or could not be written."""
        if error is not None:
            self.noted(error)
        elif node.state == RUNNING:
            if self.stream.watched:
                self._note_finished(node, seconds)
            self.finish(node, value, seconds)

    def noted(self, error: BaseException | None) -> None:
        """A record that nobody waits for is durable, or could not be written: then the run ends."""
        if isinstance(error, RunError):
            self.halt(error)
        elif error is not None:
            run = self.info.id
            failure = RunError(f"run {run} cannot go on: {reason_of(error)}", run=run)
            failure.__cause__ = error
            self.halt(failure)

    def _note_finished(self, node: StepNode, seconds: float) -> None:
        self.stream.tell(StepFinished, node, seconds=seconds, attempt=node.attempt)

    def stopped(self, node: StepNode, error: BaseException) -> None:
        """The body raised for the last time, or was cancelled."""
        if self.closing or node.state == CANCELLED:
            if isinstance(error, asyncio.CancelledError):
                raise error
            return
        self._broke(node, error)

    # Ending.

    def finish(self, node: StepNode, value: Any, seconds: float | None) -> None:
        """The node's value is there: wake who awaits it, start what waited for it."""
        node.value = value
        self.scheduler.finished(node, seconds)
        self._ended(node)
        if node.fan is None:
            self.steps += 1
        if node.index is not None:
            _map_of(node).child_done(node)
        self.move_on()

    def fail(self, node: StepNode, error: RunError) -> None:
        """The node has failed for good with `error`, and so has everything that waits for it."""
        node.error = error
        lost = self.scheduler.failed(node)
        self._ended(node)
        if node.index is not None:
            _map_of(node).child_lost(node, error)
        for other in lost:
            self._skip(cast(StepNode, other), error)
        self.move_on()

    def cancel(self, node: StepNode, reason: str) -> None:
        """Give a node up, with what is inside it and what waits for it. Nothing if it has ended."""
        if node.state < DONE:
            nodes = [node]
            if node.fan is not None or node.spec.kind == "workflow":
                nodes += [n for n in self.live if _is_inside(n, node)]
            self._cancel_all(nodes, reason)

    def abandon(self, scope: Scope) -> None:
        """A workflow function was cancelled: give up what it submitted."""
        if not self.closing:
            nodes = [n for n in self.live if scope.holds(n)]
            self._cancel_all(nodes, "its workflow was cancelled")

    def _cancel_all(self, nodes: list[StepNode], reason: str) -> None:
        for node in sorted(nodes, key=lambda n: n.seq):  # what contains others goes before them
            if node.state < DONE:
                for lost in (node, *self.scheduler.cancelled(node)):
                    self._give_up(cast(StepNode, lost), reason)
        self.move_on()

    def _broke(self, node: StepNode, error: BaseException) -> None:
        """The last attempt at the node failed by itself."""
        seconds = perf_counter() - node.started_at if node.started_at else 0.0
        within = isinstance(error, StepError) and node.spec.kind == "workflow"
        if isinstance(error, StepError) and within:
            failure = error  # it names the step inside that failed first
        else:
            failure = StepError.of(
                error,
                run=self.info.id,
                step=node.path,
                index=node.index,
                attempt=node.attempt,
            )
        self.stream.tell(
            StepFailed,
            node,
            attempt=node.attempt,
            error=reason_of(error),
            seconds=seconds,
            within=within,
        )
        node.scope.failures.append(failure)
        if self.recall is not None and node.needs.recorded:
            try:
                self.recall.record_failure(node, failure, seconds)
            except JournalError as broken:
                self.halt(broken)
        self.fail(node, failure)
        if self.options.fail_fast:
            self.halt(failure)

    def _skip(self, node: StepNode, error: RunError) -> None:
        """An input failed, so the node never starts."""
        node.error = error
        origin = error.step if isinstance(error, StepError) else ""
        self.stream.tell(StepSkipped, node, origin=origin, reason=str(error))
        self._ended(node)
        if node.index is not None:
            _map_of(node).child_lost(node, error)

    def _give_up(self, node: StepNode, reason: str) -> None:
        path = node.path
        node.state = CANCELLED
        node.error = error = StepError(
            f"step {path!r} in run {self.info.id} was cancelled: {reason}",
            run=self.info.id,
            step=path,
            index=node.index,
            attempt=node.attempt,
        )
        self.stream.tell(StepCancelled, node, reason=reason)
        if node.task is not None:
            node.task.cancel()
        self._ended(node)
        if node.index is not None and not self.closing:
            _map_of(node).child_lost(node, error)

    def _ended(self, node: StepNode) -> None:
        # What the node held is let go at once: a handle may keep it alive for the rest of the run.
        node.args = ()
        node.kwargs = node.task = node.context = None
        if node.waiters is not None:
            node.wake()
        self.live.discard(node)
        scope = node.scope
        scope.left = left = scope.left - 1
        if not left:
            scope.wake()


def _resolve_arguments(node: StepNode) -> None:
    node.bound = False
    node.args = tuple([a if type(a) in PLAIN else resolve(a) for a in node.args])
    if node.kwargs is not None:
        node.kwargs = {name: resolve(value) for name, value in node.kwargs.items()}


def _map_of(child: StepNode) -> Any:
    return cast(StepNode, child.parent).fan


def _is_inside(node: StepNode, outer: StepNode) -> bool:
    parent = node.parent
    while parent is not None and parent is not outer:
        parent = parent.parent
    return parent is outer

"""Threads for calls that block. Python cannot stop a thread: these do not keep the process alive when it is left."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_Call = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads(ThreadPoolExecutor):
    """An executor that starts a call at once, in an idle thread or a new one; whoever submits sets the bound.

    A call that nobody waits for any more takes no place from others, as it would in a pool of fixed size. It is a
    ThreadPoolExecutor by name only: asyncio takes no other kind for its own.
    """

    def __init__(self, name: str) -> None:
        super().__init__(1)  # starts no thread
        self._name = name
        self._idle: list[_Worker] = []
        self._guard = Lock()
        self._over = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Raises RuntimeError after `shutdown`."""
        future: Future[R] = Future()
        with self._guard:
            if self._over:
                raise RuntimeError("these threads have been let go")
            worker = self._idle.pop() if self._idle else _Worker(self._name, self._rest)
        worker.calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads go: the idle ones end now, the others when their call has ended. Never waits."""
        with self._guard:
            self._over = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.calls.put(None)

    def _rest(self, worker: _Worker) -> bool:
        with self._guard:
            if not self._over:
                self._idle.append(worker)
            return not self._over


class _Worker:
    """A thread that makes one call after another, until `rest` says that there will be no more."""

    def __init__(self, name: str, rest: Callable[[_Worker], bool]) -> None:
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._rest = rest
        Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            future, function = call
            if future.set_running_or_notify_cancel():
                self._answer(future, function)
            del call, future, function  # an idle thread keeps no value alive
            if not self._rest(self):
                return

    def _answer(self, future: Future[Any], function: Callable[[], Any]) -> None:
        try:
            value = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)

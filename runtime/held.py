"""A call of an async body in a task of its own, so that an attempt can leave it behind: a body may catch its
cancellation and go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from carrara.runtime.attempt_clock import AttemptClock
from carrara.runtime.errors import exited, is_way_out
from carrara.runtime.node import StepNode

_log = logging.getLogger(__name__)

GRACE_S = 5.0
"""How long a body may clean up after its cancellation."""


async def held(
    call: Coroutine[Any, Any, Any], node: StepNode, clock: AttemptClock, seconds: float
) -> Any:
    """What `call` gives. Where this task is cancelled, so is the call, unless it has ended; if it has not `GRACE_S`
    later it is closed, as Python closes a coroutine that nobody awaits any more. `clock` is told when it really begins
    and ends; it may take so many seconds."""
    executor = node.scope.executor
    body = _tamed(call, clock, seconds)
    task = executor.loop.create_task(body)
    executor.inner[task] = node
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        if task.done():
            return task.result()
        await _cancelled(task)
        if not task.done():
            _abandon(task, body, node)
        elif not task.cancelled() and (error := task.exception()) is not None:
            raise error  # noqa: B904 - what the body says of its end
        raise
    finally:
        del executor.inner[task]
    return task.result()


async def _tamed(call: Coroutine[Any, Any, Any], clock: AttemptClock, seconds: float) -> Any:
    """The call, without what would end the loop if it left the task."""
    clock.begin(seconds)
    try:
        return await call
    except BaseException as end:
        if is_way_out(end):
            raise exited(end)  # noqa: B904 - its cause is set
        raise
    finally:
        clock.end()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Returns when the task has ended, or the grace is over. Whoever cancels this meanwhile cancels the task again."""
    now = asyncio.get_running_loop().time
    until = now() + GRACE_S
    while not task.done() and (left_s := until - now()) > 0:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=left_s)


def _abandon(task: asyncio.Task[Any], body: Coroutine[Any, Any, Any], node: StepNode) -> None:
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody asks
    with suppress(
        BaseException
    ):  # whatever the body raises, or if it will not hear: nothing calls it any more
        body.close()
    task.cancel()
    _log.warning(
        "step %r went on for %g s after it was cancelled, and was closed: let CancelledError pass in its body",
        node.path,
        GRACE_S,
    )


__all__ = ["GRACE_S", "held"]

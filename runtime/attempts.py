"""Running a node's body in as many attempts as its options allow, each with its timeout.

A node gives its place back while it waits for its next attempt, and queues for one again after.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from carrara.runtime.bodies import Call, call_within
from carrara.runtime.errors import exited, is_way_out, reason_of
from carrara.runtime.events import StepFailed, StepRetrying, StepStarted
from carrara.runtime.node import StepNode, current
from carrara.runtime.retry import with_retries
from carrara.runtime.shapes import private_call

if TYPE_CHECKING:
    from carrara.runtime.executor import Executor


async def run_attempts(executor: Executor, node: StepNode, call: Call) -> None:
    """Run the node to its end and tell the executor how that was. The node's own task."""
    current.set(node)
    timeout_s = node.spec.options.timeout_s
    given = node.args, node.kwargs

    async def attempt(number: int) -> Any:
        if number > 1:
            await _place_again(executor, node, number)
        if node.spec.options.retries:  # what this attempt changes, the next one must not see
            node.args, node.kwargs = private_call(*given)
        try:
            if timeout_s is None:
                return await call(node)
            return await call_within(timeout_s, call, node)
        except BaseException as end:
            if is_way_out(end):
                raise exited(end)  # noqa: B904 - its cause is set
            raise

    def failed(number: int, error: Exception, will_retry: bool) -> None:
        if will_retry:
            _rest(executor, node, error)

    try:
        value = await with_retries(attempt, failed, node.spec.options)
    except (Exception, asyncio.CancelledError) as error:
        executor.stopped(node, error)
    else:
        executor.returned(node, value)


def _rest(executor: Executor, node: StepNode, error: Exception) -> None:
    """An attempt failed and another follows: others may use the place until then."""
    now = perf_counter()
    executor.stream.tell(
        StepFailed,
        node,
        attempt=node.attempt,
        error=reason_of(error),
        will_retry=True,
        seconds=now - node.started_at,
    )
    node.started_at = now
    executor.scheduler.released(node)
    executor.move_on()


async def _place_again(executor: Executor, node: StepNode, number: int) -> None:
    node.attempt = number
    delay_s = perf_counter() - node.started_at
    executor.stream.tell(StepRetrying, node, attempt=number, delay_s=delay_s)
    executor.grants[node] = grant = executor.loop.create_future()
    try:
        executor.scheduler.again(node)
        executor.start_soon()
        await grant
    finally:
        del executor.grants[node]
    executor.stream.tell(StepStarted, node, attempt=number)
    node.started_at = perf_counter()

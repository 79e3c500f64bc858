"""The four ways to call the body of a step, and an attempt with its timeout.

Each is a coroutine function from a node whose arguments are resolved to the body's value. It runs in the
node's own task and context, where `current` is the node.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from types import FunctionType
from typing import Any

from carrara.runtime.attempt_clock import AttemptClock
from carrara.runtime.errors import ScopeError, StepTimeout, exited
from carrara.runtime.held import GRACE_S, held
from carrara.runtime.node import StepNode
from carrara.runtime.scope import MOST_NESTED, Scope, run_in_scope
from carrara.runtime.step import StepSpec

Call = Callable[[StepNode], Coroutine[Any, Any, Any]]


def way_to_call(spec: StepSpec) -> Call:
    """How the body of `spec` is called: as a workflow, awaited, on the loop, or in a thread."""
    if spec.kind == "workflow":
        return call_workflow
    if _is_async(spec.body):
        return call_async
    return call_inline if spec.options.inline else call_in_thread


def _is_async(body: Callable[..., Any]) -> bool:
    while isinstance(body, partial):
        body = body.func
    if type(body) is FunctionType:
        return bool(body.__code__.co_flags & inspect.CO_COROUTINE)
    # The latter for an object whose call is a coroutine function.
    return inspect.iscoroutinefunction(body) or inspect.iscoroutinefunction(type(body).__call__)


async def call_async(node: StepNode) -> Any:
    return await node.spec.body(*node.args, **(node.kwargs or {}))


async def call_inline(node: StepNode) -> Any:
    value = node.spec.body(*node.args, **(node.kwargs or {}))
    return await value if inspect.isawaitable(value) else value


async def call_in_thread(node: StepNode) -> Any:
    """A cancelled call leaves the thread to finish by itself, or with the process: Python cannot stop it."""
    call = partial(_guarded, node.spec.body, node.args, node.kwargs or {})
    executor = node.scope.executor
    running = executor.threads().submit(copy_context().run, call)
    try:
        value = await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        if not running.done():
            executor.left_behind.append((node.path, running))
        raise
    return await value if inspect.isawaitable(value) else value


async def call_workflow(node: StepNode) -> Any:
    scope = Scope(node.scope.executor, node.path, node)
    if scope.depth > MOST_NESTED:
        raise ScopeError(
            f"workflow {node.spec.name!r} runs {scope.depth} levels deep: a recursion that does not end? "
            "Write what is long as a loop"
        )
    return await run_in_scope(scope, node.spec.body, node.args, node.kwargs)


async def call_within(seconds: float, call: Call, node: StepNode) -> Any:
    """`call(node)`, but at most so long, without what is `uncounted`.

    Raises:
        StepTimeout: it took longer.
    """
    limit, watch = asyncio.timeout(seconds), node.scope.executor.watch
    clock = AttemptClock(limit)
    is_own = call is call_async or call is call_inline
    try:
        async with limit:
            node.clock = clock
            watch.begin(limit)
            try:
                value = await (held(call(node), node, clock, seconds) if is_own else call(node))
            finally:
                watch.end(limit)
                node.clock = None
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise _late(node, seconds, clock.over_s) from error
    if is_own and clock.over_s > 0:  # the loop was blocked when it was due
        raise _late(node, seconds, clock.over_s)
    return value


def _late(node: StepNode, seconds: float, over_s: float) -> StepTimeout:
    said = f"step {node.path!r} took longer than its timeout_s of {seconds:g} s"
    if over_s > GRACE_S + 1:
        said += (
            f", and could not be ended for {over_s:.0f} s: it, or another step, blocked the event loop. Write code "
            "that blocks as a plain `def`, or isolate the step"
        )
    return StepTimeout(said)


def _guarded(body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return body(*args, **kwargs)
    except StopIteration as error:
        # A future cannot carry StopIteration: the awaiting task would hang.
        raise RuntimeError("the step raised StopIteration") from error
    except KeyboardInterrupt as error:  # no signal reaches this thread
        raise exited(error)  # noqa: B904 - its cause is set

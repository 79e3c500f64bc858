"""Scopes: where a workflow function runs and what it has submitted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from carrara.runtime.arguments import capture, resolve
from carrara.runtime.errors import HandleError, RunError, exited, is_way_out
from carrara.runtime.handle import Handle
from carrara.runtime.node import StepNode, current
from carrara.runtime.shapes import PLAIN

if TYPE_CHECKING:
    from carrara.runtime.executor import Executor


MOST_NESTED = 1_000
"""Levels of sub-workflows in each other: as deep as Python lets functions call each other."""


class Scope:
    """One call of a workflow function: that of the run itself (`node` is None) or of a sub-workflow.

    `depth` counts the calls around it. `left` counts its nodes that have not ended. `failures` holds the errors of
    those that failed, in order, `seen` those errors that somebody was given: what nobody saw fails the scope when it
    ends. `counts` numbers the submissions of each step name, `named` the equal steps that the journal was asked for; it
    is shared with the scope around this one, unless no other step can have a path within it.
    """

    __slots__ = (
        "closed",
        "counts",
        "depth",
        "executor",
        "failures",
        "idle",
        "left",
        "named",
        "node",
        "path",
        "seen",
    )

    def __init__(self, executor: Executor, path: str, node: StepNode | None) -> None:
        self.executor = executor
        self.path = path
        self.node = node
        self.depth: int = 0 if node is None else node.scope.depth + 1
        self.left = 0
        self.closed = False
        self.counts: dict[str, int] = {}
        self.named: dict[tuple[str, str], int] = {}
        if node is not None and not _is_apart(node):
            self.named = node.scope.named
        self.failures: list[RunError] = []
        self.seen: set[RunError] = set()
        self.idle: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Tell who waits for it that every node has ended."""
        if self.idle is not None and not self.idle.done():
            self.idle.set_result(None)

    async def settled(self) -> None:
        """Wait until every node of this scope has ended."""
        while self.left:
            self.idle = self.executor.loop.create_future()
            await self.idle

    def unseen_failure(self) -> RunError | None:
        """The first failure that nobody was given."""
        return next((error for error in self.failures if error not in self.seen), None)

    def holds(self, node: StepNode) -> bool:
        """Whether `node` belongs to this scope or to one inside it."""
        scope: Scope | None = node.scope
        while scope is not None and scope is not self:
            scope = scope.node.scope if scope.node is not None else None
        return scope is self


def _is_apart(node: StepNode) -> bool:
    """Whether the paths inside a node are those of nothing else: then what is known of them can go with it."""
    fan = node.parent.fan if node.index is not None and isinstance(node.parent, StepNode) else None
    return fan is not None and fan.apart


async def run_in_scope(
    scope: Scope, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> Any:
    """Call a workflow function; returns when all its nodes have ended, handles in its value resolved.

    If the function raises, what it submitted goes on to its end first. If this task is cancelled, it is
    given up.

    Raises:
        StepError: a step failed, and the function was not given the error, or let it pass.
    """
    token = current.set(scope)
    inputs: list[StepNode] = []
    try:
        try:
            result = body(*args, **(kwargs or {}))
            if isawaitable(result):
                result = await result
            taken = result if type(result) in PLAIN else capture(result, inputs)
            for node in inputs:
                await Handle(node)
        except BaseException as error:
            own = is_way_out(error) or _is_own_cancellation(error)
            if not own and not isinstance(error, Exception):
                raise
            scope.closed = True
            refused = _refused_handle(error)
            await scope.settled()
            if own:
                raise exited(error)  # noqa: B904 - its cause is set
            if refused is not None:
                raise refused from error
            raise
        finally:
            scope.closed = True
            current.reset(token)
        if scope.left:
            await scope.settled()
    except asyncio.CancelledError:
        scope.executor.abandon(scope)
        raise
    failure = scope.unseen_failure() if scope.failures else None
    if failure is not None:
        raise failure
    return result if scope.node is None and not inputs else resolve(taken)


def _is_own_cancellation(error: BaseException) -> bool:
    """Whether the function raised CancelledError by itself: nobody has cancelled the task that it runs in."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


def _refused_handle(error: BaseException) -> HandleError | None:
    """What to say instead where pydantic refused a handle in a typed field."""
    if type(error).__name__ != "ValidationError" or not hasattr(error, "errors"):
        return None
    for problem in error.errors():
        handle = problem.get("input")
        if type(handle) is Handle:
            name = ".".join(map(str, problem["loc"]))
            return HandleError(
                f"the field {name!r} of {getattr(error, 'title', 'a model')} was given {handle!r}, not a value. "
                "Await it first, or pass the handle to a step that makes the model"
            )
    return None


__all__ = ["Scope", "current", "run_in_scope"]

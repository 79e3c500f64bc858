"""Scopes: where a workflow function runs and what it has submitted."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

from carrara.runtime.errors import RunError
from carrara.runtime.node import StepNode

if TYPE_CHECKING:
    from carrara.runtime.executor import Executor


class Scope:
    """One call of a workflow function: of the run itself (`node` is None) or of a sub-workflow.

    `left` counts its nodes that have not ended, `failures` holds the errors of those that failed first, in
    order. `counts` numbers the submissions of each step name.
    """

    __slots__ = ("closed", "counts", "executor", "failures", "idle", "left", "node", "path")

    def __init__(self, executor: Executor, path: str, node: StepNode | None) -> None:
        self.executor = executor
        self.path = path
        self.node = node
        self.left = 0
        self.closed = False
        self.counts: dict[str, int] = {}
        self.failures: list[RunError] = []
        self.idle: asyncio.Future[None] | None = None

    def leave(self) -> None:
        """One of the scope's nodes has ended."""
        self.left -= 1
        if not self.left and self.idle is not None and not self.idle.done():
            self.idle.set_result(None)

    async def settled(self) -> None:
        """Wait until every node of this scope has ended."""
        while self.left:
            self.idle = asyncio.get_running_loop().create_future()
            await self.idle

    def holds(self, node: StepNode) -> bool:
        """Whether `node` belongs to this scope or to one inside it."""
        scope: Scope | None = node.scope
        while scope is not None and scope is not self:
            scope = scope.node.scope if scope.node is not None else None
        return scope is self


current: ContextVar[Scope | StepNode | None] = ContextVar("carrara_current", default=None)
"""The scope while a workflow function runs, the node while a step's body runs."""

"""A node as the executor sees it: the scheduler's part and the step, its arguments, its outcome."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from carrara.runtime.errors import RunError
from carrara.runtime.scheduler import STATES, WAITING, Node, Pool

if TYPE_CHECKING:
    from carrara.runtime.attempt_clock import AttemptClock
    from carrara.runtime.fanout import Fanout
    from carrara.runtime.feed import Feed
    from carrara.runtime.journal.api import Key
    from carrara.runtime.needs import Needs
    from carrara.runtime.scope import Scope


class StepNode(Node):
    """`args` and `kwargs` are as captured until the node starts, then resolved, then dropped.

    `index` is the place in a map, `fan` the state of the map if this node is one (see `fanout`, `feed`). `error` is
    what awaiting it raises: of a skipped node that of the step which failed first. `clock` is that of an attempt
    under way that has a timeout. `entry` names the node
    in the journal, None without one.
    """

    __slots__ = (
        "args",
        "attempt",
        "bound",
        "clock",
        "context",
        "entry",
        "error",
        "fan",
        "index",
        "kwargs",
        "needs",
        "ordinal",
        "ready_at",
        "scope",
        "spec",
        "started_at",
        "task",
        "value",
        "waiters",
    )

    def __init__(
        self,
        seq: int,
        needs: Needs,
        pools: tuple[Pool, ...],
        scope: Scope,
        parent: Node | None,
        index: int | None,
        ordinal: int,
        context: Context,
    ) -> None:
        # The fields of Node.__init__, written out: this is the hottest constructor of a run.
        self.seq = seq
        self.spec = spec = needs.spec
        self.name = spec.name
        self.pools = pools
        self.parent = parent
        self.state = WAITING
        self.need = 0
        self.held = 0
        self.after = None
        self.epoch = -1
        self.needs = needs
        self.scope = scope
        self.index = index
        self.ordinal = ordinal
        self.context: Context | None = context
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] | None = None
        self.bound = False  # some argument is, or holds, another node
        self.fan: Fanout | Feed | None = None
        self.value: Any = None
        self.error: RunError | None = None
        self.waiters: list[asyncio.Future[None]] | None = None
        self.task: asyncio.Task[None] | None = None
        self.attempt = 1
        self.clock: AttemptClock | None = None
        self.ready_at = 0.0
        self.started_at = 0.0
        self.entry: Key | None = None

    @property
    def path(self) -> str:
        """Where the node is: "book/chapter[2]/extract"."""
        own = f"{self.scope.path}/{self.name}"
        return own if self.index is None else f"{own}[{self.index}]"

    @property
    def key(self) -> str:
        return f"{self.path}#{self.ordinal}" if self.ordinal else self.path

    @property
    def state_name(self) -> str:
        return STATES[self.state]

    def given_error(self) -> RunError:
        """The node's error, to be raised now; from here on somebody knows of it."""
        assert self.error is not None
        self.scope.seen.add(self.error)
        return self.error.with_traceback(None)

    def wake(self) -> None:
        """Tell those who await this node that it has ended."""
        if self.waiters is not None:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self.waiters = None


current: ContextVar[Scope | StepNode | None] = ContextVar("carrara_current", default=None)
"""The scope while a workflow function runs, the node while a step's body runs."""

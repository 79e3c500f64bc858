"""The state of a feed: a map over an iterator that may be longer than memory, whose results nobody collects.

An item is taken when there is room for its child, and forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from carrara.runtime.errors import RunError
from carrara.runtime.fanout import ABSENT
from carrara.runtime.node import StepNode
from carrara.runtime.scheduler import CANCELLED, DONE, RUNNING, Pool


@dataclass(frozen=True, slots=True)
class Skip:
    """Stands among the items for `count` of them that nothing runs for: those after it have the places behind."""

    count: int


_BURST = 256  # items taken in one turn of the loop, at most


class Feed:
    """`node` is the feed itself, with the step of its children; `pools` are the places each of them needs. At most
    `window()` of them are alive, which is asked anew each time; one may be in any case. `items` is None once it has
    ended, or is not to be asked any more."""

    __slots__ = ("alive", "context", "due", "items", "next", "node", "pools", "room", "window")

    apart = True
    """No other step has the paths of its children."""

    def __init__(
        self,
        node: StepNode,
        pools: tuple[Pool, ...],
        items: Iterator[Any],
        window: Callable[[], int],
        room: Callable[[int], bool] | None,
    ) -> None:
        assert node.context is not None
        self.node = node
        self.context = node.context
        self.pools = pools
        self.items: Iterator[Any] | None = items
        self.window = window
        self.room = room
        self.next = 0
        self.alive = 0
        self.due = False  # to be filled in another turn of the loop

    def begin(self, given: tuple[Any, ...]) -> None:
        """The feed may start; it has no inputs."""
        self._fill()

    def child_done(self, child: StepNode) -> None:
        self.alive -= 1
        self._fill()

    def child_lost(self, child: StepNode, error: RunError) -> None:
        """A child failed or was given up: the feed fails, what is under way goes on."""
        self.alive -= 1
        self.items = None
        if self.node.state < DONE:
            self.node.scope.executor.fail(self.node, error)

    def _fill(self) -> None:
        if self.due:
            return
        executor = self.node.scope.executor
        taken = 0
        while self._may_take():
            if taken == _BURST:
                self.due = True
                executor.loop.call_soon(self._fill_again)
                return
            taken += 1
            assert self.items is not None
            item = next(self.items, self)
            if item is self:
                self.items = None
                break
            if isinstance(item, Skip):
                self.next += item.count
                continue
            index = self.next
            self.next += 1
            if item is not ABSENT:
                self._make_child(index, item)
        if self.items is None and not self.alive and self.node.state == RUNNING:
            node = self.node
            executor.finish(node, None, None)
            node.fan = None

    def _fill_again(self) -> None:
        self.due = False
        self._fill()

    def _may_take(self) -> bool:
        if self.node.state == CANCELLED or self.node.scope.executor.closing:
            self.items = None
        if self.items is None:
            return False
        # With none under way, nothing that ends could make room.
        if not self.alive:
            return True
        return self.alive < self.window() and (self.room is None or self.room(self.next))

    def _make_child(self, index: int, item: Any) -> None:
        self.alive += 1
        parent = self.node
        executor = parent.scope.executor
        executor.seq = seq = executor.seq + 1
        child = StepNode(
            seq,
            parent.needs,
            self.pools,
            parent.scope,
            parent,
            index,
            parent.ordinal,
            self.context.copy(),
        )
        child.args = (item,)
        executor.adopt(child, [])


__all__ = ["Feed", "Skip"]

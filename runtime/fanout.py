"""The state of a map: children in order, few alive at a time, results in order.

A child is made when there is room for it and forgotten when it has ended, so a map over a hundred thousand
items keeps two lists and a window of nodes. A map over the handle of another map is fed item by item: its
child 3 starts when child 3 of the other has ended, whatever the rest of the other does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from carrara.runtime.arguments import capture, resolve
from carrara.runtime.errors import HandleError, RunError
from carrara.runtime.node import StepNode
from carrara.runtime.scheduler import CANCELLED, DONE, RUNNING, Pool
from carrara.runtime.shapes import PLAIN, private

_MISSING: Any = object()

ABSENT: Any = object()
"""Stands in a list of items for one that nothing runs for; those after it keep their places, its result is None."""


class Fanout:
    """`node` is the map itself, with the step of its children; `pools` are the places each of them needs.

    `items` and `results` are None until the number of children is known. `waiting` holds the indices whose
    item is there and that have no child yet, `alive` counts the children, `ended` those gone. `followers`
    are the maps fed by this one.
    """

    __slots__ = (
        "alive",
        "begun",
        "common",
        "common_inputs",
        "context",
        "ended",
        "followers",
        "items",
        "keep_errors",
        "node",
        "pools",
        "results",
        "waiting",
        "window",
    )

    apart = False
    """Two maps may be called alike, and with them their children."""

    def __init__(
        self,
        node: StepNode,
        pools: tuple[Pool, ...],
        common: dict[str, Any] | None,
        common_inputs: list[StepNode],
        window: int,
        keep_errors: bool,
    ) -> None:
        assert node.context is not None
        self.node = node
        self.context = node.context
        self.pools = pools
        self.common = common
        self.common_inputs = common_inputs
        self.window = window
        self.keep_errors = keep_errors
        self.items: list[Any] | None = None
        self.results: list[Any] | None = None
        self.waiting: deque[int] = deque()
        self.alive = 0
        self.ended = 0
        self.begun = False
        self.followers: list[Fanout] = []

    def take(self, items: Iterable[Any], *, owned: bool = False) -> None:
        """The items are known, though some may be, or hold, handles of steps that have not ended. `owned`: they
        are values that belong to this map alone."""
        eager: list[tuple[int, list[StepNode]]] = []
        absent: list[int] = []
        self.items = []
        for index, item in enumerate(items):
            if item is ABSENT:
                absent.append(index)
                self.items.append(None)
                continue
            inputs: list[StepNode] = []
            self.items.append(item if owned else capture(item, inputs))
            if inputs:
                eager.append((index, inputs))
            else:
                self.waiting.append(index)
        self._size(len(self.items))
        for index in absent:
            self._pass_over(index)
        self.window += len(eager)
        for index, inputs in eager:
            self.alive += 1
            self._make_child(index, inputs)

    def follow(self, source: Fanout) -> None:
        """Be fed by another map that has not ended."""
        source.followers.append(self)
        if source.results is not None:
            self._size(len(source.results))
            for index, value in enumerate(source.results):
                if value is not _MISSING:
                    self._offer(index, value)

    def begin(self, given: tuple[Any, ...]) -> None:
        """The map's own inputs are there, with the items in `given` if they came from a handle."""
        self.begun = True
        if self.common_inputs and self.common is not None:
            self.common = {name: resolve(value) for name, value in self.common.items()}
        self.common_inputs = []
        if given and self.results is None:
            self.take(checked_items(given[0], self.node.name), owned=True)
        self._fill()
        self._check()

    def child_done(self, child: StepNode) -> None:
        assert self.results is not None
        assert child.index is not None
        self.results[child.index] = child.value
        for other in self.followers:
            other._offer(child.index, child.value)
        self._child_gone()

    def child_lost(self, child: StepNode, error: RunError) -> None:
        """A child failed, was skipped or given up."""
        assert child.index is not None
        self._lose(child.index, error)
        self._child_gone()

    def _size(self, count: int) -> None:
        self.results = [_MISSING] * count
        if self.items is None:
            self.items = [_MISSING] * count
        for other in self.followers:
            other._size(count)

    def _offer(self, index: int, item: Any) -> None:
        assert self.items is not None
        if isinstance(item, RunError):
            self._lose(index, item)
            self.ended += 1
            self._check()
        else:
            self.items[index] = item if type(item) in PLAIN else private(item)
            self.waiting.append(index)
            if self.alive < self.window:
                self._fill()

    def _pass_over(self, index: int) -> None:
        assert self.results is not None
        self.results[index] = None
        self.ended += 1
        for other in self.followers:
            other._offer(index, None)

    def _lose(self, index: int, error: RunError) -> None:
        assert self.results is not None
        if self.keep_errors:
            self.results[index] = error
            self.node.scope.seen.add(error)
        elif self.node.state < DONE:
            self.node.scope.executor.fail(self.node, error)
        for other in self.followers:
            other._offer(index, error)

    def _child_gone(self) -> None:
        self.alive -= 1
        self.ended += 1
        if self.waiting:
            self._fill()
        else:
            self._check()

    def _fill(self) -> None:
        if self.node.state == CANCELLED:
            self.waiting.clear()
        while self.waiting and self.alive < self.window:
            self.alive += 1
            self._make_child(self.waiting.popleft(), self.common_inputs)

    def _make_child(self, index: int, inputs: list[StepNode]) -> None:
        assert self.items is not None
        parent = self.node
        executor = parent.scope.executor
        executor.seq = seq = executor.seq + 1
        context = self.context.copy()
        child = StepNode(
            seq, parent.needs, self.pools, parent.scope, parent, index, parent.ordinal, context
        )
        child.args = (self.items[index],)
        self.items[index] = None
        if self.common is not None:
            child.kwargs = {name: private(value) for name, value in self.common.items()}
        if inputs is not self.common_inputs:
            inputs = [*inputs, *self.common_inputs]
        executor.adopt(child, inputs)

    def _check(self) -> None:
        if self.begun and self.results is not None and self.ended == len(self.results):
            node = self.node
            if node.state == RUNNING:
                node.scope.executor.finish(node, self.results, None)
            node.fan = None  # the two hold each other, and with them every result


def checked_items(items: Any, name: str) -> Iterable[Any]:
    """`items` if a map can run over them.

    Raises:
        HandleError: it is text, a mapping, or not iterable at all.
    """
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise HandleError(
            f"step {name!r} cannot be mapped over a {type(items).__name__}: "
            "give a list, or another iterable of the items"
        )
    return items

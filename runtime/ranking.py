"""How urgent a node is: its remaining critical path, from latencies that were seen.

`Estimates` says how long a node will take; `Ranks` adds up the longest way from a node to the end of the run.
Both are lazy: a run without contention never ranks anything, and re-ranking is paid for by the
changes that made it necessary, so the cost for each node does not grow with the size of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carrara.runtime.scheduler import Node

DEFAULT_S = 1.0
"""What a step is thought to take when nothing at all is known: only the number of hops counts then."""

_MEMORY = 32  # what is new moves a mean by 1/32 at least: estimates follow a drifting engine
_SURPRISE = 0.25  # relative change of an estimate that makes ranks worth computing again

Known = Mapping[str, float]


class Estimates:
    """Seconds by node key and by step name; both learn while steps finish.

    An exact node of an earlier run is trusted first, then the mean of the step's name, then the mean of all.
    `known` may be a function, called when the first estimate is needed: a run without contention needs none.
    With `by_node` every finished node is remembered by its key, for later runs given the same object.
    """

    def __init__(
        self, known: Known | Callable[[], Known] | None = None, *, by_node: bool = False
    ) -> None:
        self.by_node = by_node
        self._nodes: dict[str, float] = {}
        self._names: dict[str, _Mean] = {}
        self._load = known if callable(known) else None
        if known is not None and not callable(known):
            self._learn(known)

    def exact(self, node: Node) -> float | None:
        """What an earlier run saw of this very node, None if nothing."""
        if self._load is not None:
            load, self._load = self._load, None
            self._learn(load())
        return self._nodes.get(node.key) if self._nodes else None

    def named(self, name: str) -> float | None:
        """The mean of the step's name, None if no such step has finished. Ask for `exact` first."""
        found = self._names.get(name)
        return found.value if found is not None else None

    def overall(self) -> float:
        """The mean of all steps, DEFAULT_S if none has finished: for steps of an unknown name."""
        if not self._names:
            return DEFAULT_S
        return sum(seen.value for seen in self._names.values()) / len(self._names)

    def observe(self, node: Node, seconds: float) -> bool:
        """Learn from a finished node. True if estimates moved enough for ranks to be stale."""
        if self.by_node:
            self._nodes[node.key] = seconds
        seen = self._names.get(node.name)
        if seen is None:
            self._names[node.name] = _Mean(seconds)
            return True
        if seen.count < _MEMORY:
            seen.count += 1
        before = seen.value
        seen.value = after = before + (seconds - before) / seen.count
        return abs(after - before) > _SURPRISE * before

    def _learn(self, known: Known) -> None:
        # What was observed since is newer than what was known before.
        for key, seconds in known.items():
            if "/" in key:
                self._nodes.setdefault(key, seconds)
            elif key not in self._names:
                self._names[key] = _Mean(seconds)


class _Mean:
    __slots__ = ("count", "value")

    def __init__(self, value: float) -> None:
        self.value = value
        self.count = 1


class Ranks:
    """rank(n) = estimate(n) + the highest rank among the nodes after it, or what follows its parent.

    Memoised by epoch, and so are the means of step names: equal nodes stay equal while one epoch lasts, and
    leave a queue in the order they came. A node at the end of a scope or map is followed by whatever follows
    the node that the scope or map belongs to: a step deep in a sub-workflow is as urgent as its caller.
    """

    def __init__(self, estimates: Estimates) -> None:
        self.estimates = estimates
        self.changes = 0
        self.cost = 0
        self._epoch = 0
        self._means: dict[str, float] = {}
        self._overall: float | None = None

    @property
    def stale(self) -> bool:
        """Whether enough has changed to pay for ranking again what was ranked in this epoch."""
        return self.changes * 4 > self.cost + 64

    def renew(self) -> None:
        self._epoch += 1
        self.changes = 0
        self.cost = 0
        self._means.clear()
        self._overall = None

    def of(self, node: Node) -> float:
        if node.epoch != self._epoch:
            self._visit(node)
        return node.rank

    def _visit(self, first: Node) -> None:
        # Depth first without recursion: a chain may be longer than Python's stack.
        epoch = self._epoch
        stack = [first]
        while stack:
            node = stack[-1]
            if node.epoch == epoch:
                stack.pop()
                continue
            depth = len(stack)
            below = 0.0
            for other in node.after or ():
                if other.epoch != epoch:
                    stack.append(other)
                elif other.rank > below:
                    below = other.rank
            parent = node.parent
            if parent is not None and not node.after:
                if parent.epoch != epoch:
                    stack.append(parent)
                else:
                    below = parent.below
            if len(stack) == depth:
                stack.pop()
                node.below = below
                node.rank = below + self._estimate(node)
                node.epoch = epoch
                self.cost += 1

    def _estimate(self, node: Node) -> float:
        exact = self.estimates.exact(node)
        if exact is not None:
            return exact
        name = node.name
        mean = self._means.get(name)
        if mean is None:
            mean = self.estimates.named(name)
            if mean is None:
                if self._overall is None:
                    self._overall = self.estimates.overall()
                mean = self._overall
            self._means[name] = mean
        return mean

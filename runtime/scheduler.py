"""The DAG scheduler: what happened in, what to start next out. No clock, no I/O, no asyncio.

Nodes wait for their own inputs, never for a level. A node whose inputs are there needs one place in each of
its pools, taken in order; while every ready node finds its places at once nobody is ranked, and only
under contention do the waiters queue by remaining critical path (see `ranking`). Holding the earlier
places while it waits for a later one cannot deadlock: a node that holds all of them depends on nobody.

    added, finished, failed, ...  ->  start() -> nodes to start now, best first
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from carrara.runtime.ranking import Ranks

WAITING, READY, RUNNING, DONE, FAILED, SKIPPED, CANCELLED = range(7)
STATES = ("waiting", "ready", "running", "done", "failed", "skipped", "cancelled")


class Pool:
    """`free` places of `limit`, and who waits for one: a heap of (-rank, seq, node).

    Nodes take places in pools of rising `order`.
    """

    __slots__ = ("free", "limit", "loose", "name", "order", "waiting")

    def __init__(self, name: str, limit: int, order: int = 0) -> None:
        if limit < 1:
            raise ValueError(f"pool {name!r} needs at least one place, got {limit}")
        self.name = name
        self.limit = limit
        self.order = order
        self.free = limit
        self.waiting: list[tuple[float, int, Node]] = []
        self.loose = False  # on the scheduler's list of pools that may have a place for a waiter

    def __repr__(self) -> str:
        return f"Pool({self.name!r}, {self.free}/{self.limit} free, {len(self.waiting)} waiting)"


def _late_first(pool: Pool) -> int:
    return -pool.order


class Node:
    """A vertex as the scheduler sees it.

    `need` counts unfinished inputs, `after` lists the nodes that wait for this one, `parent` is the node
    whose scope or map this one belongs to. `held` counts the places taken so far, in the order of `pools`.
    """

    __slots__ = (
        "after",
        "below",
        "epoch",
        "held",
        "name",
        "need",
        "parent",
        "pools",
        "rank",
        "seq",
        "state",
    )

    def __init__(
        self, seq: int, name: str, pools: tuple[Pool, ...] = (), parent: Node | None = None
    ) -> None:
        self.seq = seq
        self.name = name
        self.pools = pools
        self.parent = parent
        self.state = WAITING
        self.need = 0
        self.held = 0
        self.after: list[Node] | None = None
        self.epoch = -1  # rank and below mean something only in the epoch of the same number
        self.rank = 0.0
        self.below = 0.0

    @property
    def key(self) -> str:
        """What names this node across runs, for latency estimates."""
        return self.name


class Scheduler:
    """Keeps what is ready and decides what starts. Every method is an event; `start` gives the actions.

    To be read only: `fresh` became ready since the last `start`, `loose` are the pools that may have a place
    for a waiter (with either, `start` may have something to start), `queued` the pools somebody waits for.
    """

    __slots__ = ("fresh", "loose", "queued", "ranks")

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.fresh: list[Node] = []
        self.loose: list[Pool] = []
        self.queued: dict[Pool, None] = {}

    def added(self, node: Node, inputs: Iterable[Node] = ()) -> Node | None:
        """A node appears. Returns the input that keeps it from ever starting, if there is one."""
        need = 0
        for source in inputs:
            if source.state < DONE:
                need += 1
                if source.after is None:
                    source.after = [node]
                else:
                    source.after.append(node)
            elif source.state != DONE:
                node.state = CANCELLED if source.state == CANCELLED else SKIPPED
                return source
        self.ranks.changes += 1
        node.need = need
        if not need:
            node.state = READY
            self.fresh.append(node)
        return None

    def start(self) -> list[Node]:
        """The nodes that start now, best first. They are running from here on."""
        chosen: list[Node] = []
        fresh = self.fresh
        if fresh:
            self.fresh = []
            left = len(fresh)
            for node in fresh:
                if node.state == READY:
                    self._admit(node, left, chosen)
                if node.state != READY:
                    left -= 1
        if self.loose:
            self._settle(chosen)
        return chosen

    def released(self, node: Node) -> None:
        """The body of a running node has ended: its places are free, its value not yet visible."""
        for pool in node.pools[: node.held]:
            pool.free += 1
            if pool.waiting and not pool.loose:
                pool.loose = True
                self.loose.append(pool)
        node.held = 0

    def finished(self, node: Node, seconds: float | None = None) -> None:
        """The node's value is there. `seconds` is what its body took, None if it was not run."""
        if node.held:
            self.released(node)
        if seconds is not None and self.ranks.estimates.observe(node, seconds):
            self.ranks.changes += 1
        node.state = DONE
        after = node.after
        if after is not None:
            node.after = None
            for other in after:
                other.need -= 1
                if not other.need and other.state == WAITING:
                    other.state = READY
                    self.fresh.append(other)

    def failed(self, node: Node) -> list[Node]:
        """The node failed for good. Returns those that can now never start, nearest first."""
        return self._end(node, FAILED, SKIPPED)

    def cancelled(self, node: Node) -> list[Node]:
        """The node was given up. Returns those that waited for it and are given up with it."""
        return self._end(node, CANCELLED, CANCELLED)

    def again(self, node: Node) -> None:
        """A node that gave its places back wants to run once more."""
        node.state = READY
        self.fresh.append(node)

    def rank(self, node: Node) -> float:
        """Estimated seconds from the start of `node` to the end of all that waits for it."""
        if self.ranks.stale:
            self._renew()
        return self.ranks.of(node)

    def _end(self, node: Node, state: int, others: int) -> list[Node]:
        lost: list[Node] = []
        self._leave(node)
        node.state = state
        edge = [node]
        for current in edge:
            for other in current.after or ():
                if other.state < RUNNING:
                    self._leave(other)
                    other.state = others
                    lost.append(other)
                    edge.append(other)
            current.after = None
        return lost

    def _leave(self, node: Node) -> None:
        # A waiter stays in its pool's heap; `_settle` drops it when it comes up.
        if node.held:
            self.released(node)

    def _admit(self, node: Node, left: int, chosen: list[Node]) -> None:
        """Take the node's places, or queue it at the first pool that has too few for all `left` newcomers."""
        pools = node.pools
        held = node.held
        while held < len(pools):
            pool = pools[held]
            if pool.waiting or pool.free < left:
                node.held = held
                self._queue(node, pool)
                return
            pool.free -= 1
            held += 1
        node.held = held
        node.state = RUNNING
        chosen.append(node)

    def _queue(self, node: Node, pool: Pool) -> None:
        if self.ranks.stale:
            self._renew()
        heappush(pool.waiting, (-self.ranks.of(node), node.seq, node))
        self.queued[pool] = None
        if pool.free and not pool.loose:
            pool.loose = True
            self.loose.append(pool)

    def _settle(self, chosen: list[Node]) -> None:
        """Give free places to the best waiters, until no pool has both."""
        loose = self.loose
        while loose:
            if len(loose) > 1:  # early places first, so that their takers compete for the late ones
                loose.sort(key=_late_first)
            pool = loose.pop()
            pool.loose = False
            while pool.free and pool.waiting:
                node = heappop(pool.waiting)[2]
                if node.state != READY:
                    continue
                pool.free -= 1
                node.held += 1
                self._admit(node, 1, chosen)
            if not pool.waiting:
                self.queued.pop(pool, None)

    def _renew(self) -> None:
        """Rank everybody anew: nodes or estimates have changed enough since the last time."""
        waiting = 0
        self.ranks.renew()
        for pool in self.queued:
            pool.waiting = [
                (-self.ranks.of(node), seq, node)
                for _, seq, node in pool.waiting
                if node.state == READY
            ]
            heapify(pool.waiting)
            waiting += len(pool.waiting)
        self.ranks.cost += waiting

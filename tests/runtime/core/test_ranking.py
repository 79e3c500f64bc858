"""Ranks are remaining critical paths; keeping them up to date costs little."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.ranking import DEFAULT_S, Estimates, Ranks
from carrara.runtime.scheduler import Node, Pool, Scheduler


class Counting(Estimates):
    asked = 0

    def exact(self, node: Node) -> float | None:
        self.asked += 1
        return super().exact(node)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 100), max_size=3), min_size=1, max_size=30),
    st.lists(st.floats(0.0, 9.0), min_size=30, max_size=30),
)
def test_a_rank_is_the_longest_way_to_the_end(edges: list[list[int]], seconds: list[float]) -> None:
    estimates = Estimates({f"n{i}": s for i, s in enumerate(seconds)})
    scheduler = Scheduler(Ranks(estimates))
    nodes = [Node(i, f"n{i}") for i in range(len(edges))]
    inputs = [sorted({j % i for j in found}) if i else [] for i, found in enumerate(edges)]
    for node, sources in zip(nodes, inputs, strict=True):
        scheduler.added(node, [nodes[j] for j in sources])
    expected = seconds[: len(nodes)]
    for i in reversed(range(len(nodes))):
        tails = [expected[k] for k in range(len(nodes)) if i in inputs[k]]
        expected[i] = seconds[i] + max(tails, default=0.0)
    assert [scheduler.rank(node) for node in nodes] == pytest.approx(expected)


def test_a_chain_longer_than_the_stack_is_ranked() -> None:
    scheduler = Scheduler(Ranks(Estimates()))
    chain = [Node(0, "s")]
    scheduler.added(chain[0])
    for i in range(1, 20_000):
        chain.append(Node(i, "s"))
        scheduler.added(chain[-1], [chain[-2]])
    assert scheduler.rank(chain[0]) == 20_000 * DEFAULT_S


def test_the_last_step_of_a_sub_workflow_is_as_urgent_as_what_follows_its_caller() -> None:
    scheduler = Scheduler(Ranks(Estimates({"call": 5.0, "after": 7.0, "inner": 2.0})))
    call, after = Node(0, "call"), Node(1, "after")
    inner = Node(2, "inner", parent=call)
    scheduler.added(call)
    scheduler.added(after, [call])
    scheduler.added(inner)
    assert scheduler.rank(inner) == 2.0 + 7.0


def test_an_exact_node_is_trusted_before_its_step_and_its_step_before_the_mean() -> None:
    class Placed(Node):
        __slots__ = ()

        @property
        def key(self) -> str:
            return f"run/{self.name}"

    ranks = Ranks(Estimates({"run/a": 3.0, "a": 1.0, "b": 5.0}))
    assert ranks.of(Placed(0, "a")) == 3.0
    assert ranks.of(Placed(0, "b")) == 5.0
    assert ranks.of(Placed(0, "unknown")) == 3.0  # the mean of 1 and 5
    assert Ranks(Estimates()).of(Node(0, "a")) == DEFAULT_S


def test_what_is_known_is_loaded_when_the_first_estimate_is_needed() -> None:
    loaded: list[int] = []

    def load() -> dict[str, float]:
        loaded.append(1)
        return {"a": 3.0, "b": 5.0}

    estimates = Estimates(load)
    estimates.observe(Node(0, "a"), 1.0)
    assert not loaded
    ranks = Ranks(estimates)
    assert [ranks.of(Node(0, name)) for name in "ab"] == [1.0, 5.0]
    assert loaded == [1]


def test_estimates_follow_what_is_observed() -> None:
    estimates = Estimates(by_node=True)
    assert estimates.observe(Node(0, "a"), 2.0)  # new: ranks are worth another look
    assert not estimates.observe(Node(1, "a"), 2.0)
    for _ in range(300):
        estimates.observe(Node(2, "a"), 10.0)
    assert estimates.named("a") == pytest.approx(10.0, rel=0.01)


@pytest.mark.parametrize("shape", ["growing queue", "growing chain"])
def test_keeping_ranks_costs_a_bounded_number_of_looks_a_node(shape: str) -> None:
    estimates = Counting()
    scheduler = Scheduler(Ranks(estimates))
    run = Pool("run", 1)
    count = 4_000
    last: Node | None = None
    for i in range(count):  # one place, taken for ever: each newcomer queues or lengthens a path
        node = Node(i, "s", (run,))
        scheduler.added(node, [last] if shape == "growing chain" and last else [])
        scheduler.start()
        if last is not None:
            scheduler.rank(last)
        last = node
    assert estimates.asked < 8 * count


def test_without_contention_nobody_is_ranked() -> None:
    estimates = Counting()
    scheduler = Scheduler(Ranks(estimates))
    run = Pool("run", 1_000)
    for i in range(1_000):
        scheduler.added(Node(i, "s", (run,)))
    assert len(scheduler.start()) == 1_000
    assert estimates.asked == 0

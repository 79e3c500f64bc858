"""Graphs: order, circles, the critical path."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.workflows.errors import DefinitionError
from carrara.workflows.graph import Dag, critical_path, find_cycle


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    count = draw(st.integers(0, 8))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return Dag(tuple(f"n{i}" for i in range(count)), tuple((f"n{a}", f"n{b}") for a, b in edges))


def longest(dag: Dag, weights: dict[str, float]) -> float:
    best: dict[str, float] = {}
    for node in dag.nodes:  # made in topological order
        best[node] = weights[node] + max((best[p] for p in dag.needs()[node]), default=0.0)
    return max(best.values(), default=0.0)


@settings(deadline=None)  # the first call imports networkx
@given(dags(), st.data())
def test_the_critical_path_is_a_chain_and_the_longest(dag: Dag, data: st.DataObject) -> None:
    weights = {node: float(data.draw(st.integers(0, 9))) for node in dag.nodes}
    path, length = critical_path(dag, weights)
    assert all(edge in dag.edges for edge in pairwise(path))
    assert length == sum(weights[node] for node in path) == longest(dag, weights)


@settings(deadline=None)
@given(dags())
def test_every_node_comes_after_what_it_needs(dag: Dag) -> None:
    order = dag.order()
    assert sorted(order) == sorted(dag.nodes)
    assert all(order.index(a) < order.index(b) for a, b in dag.edges)
    assert find_cycle(dag.needs()) is None


def test_a_circle_is_named_step_by_step() -> None:
    cycle = find_cycle({"a": ["c"], "b": ["a"], "c": ["b"], "d": ["a"]})
    assert cycle is not None
    assert cycle[0] == cycle[-1]
    assert set(pairwise(cycle)) == {
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
    }
    with pytest.raises(DefinitionError, match=r"in a circle: (a -> b -> a|b -> a -> b)"):
        Dag(("a", "b"), (("a", "b"), ("b", "a")))


def test_a_step_that_waits_for_itself_is_a_circle() -> None:
    assert find_cycle({"a": ["a"]}) == ["a", "a"]

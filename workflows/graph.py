"""Graphs of steps: order, circles and the critical path. networkx does the analysis, imported where used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrara.workflows.errors import DefinitionError

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, slots=True)
class Dag:
    """Nodes by name and edges (from, to) along which values flow.

    Raises:
        DefinitionError: the edges form a circle, which the message names.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        cycle = find_cycle(self.needs())
        if cycle:
            raise DefinitionError(f"steps wait for each other in a circle: {' -> '.join(cycle)}")

    def needs(self) -> dict[str, list[str]]:
        """What each node waits for, in the order of the edges."""
        found: dict[str, list[str]] = {node: [] for node in self.nodes}
        for source, target in self.edges:
            found[target].append(source)
        return found

    def to_networkx(self) -> nx.DiGraph[str]:
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from(self.edges)
        return graph

    def order(self) -> list[str]:
        """Topological; among nodes that could come next the one that was named first."""
        import networkx as nx

        place = {node: index for index, node in enumerate(self.nodes)}
        return list(nx.lexicographical_topological_sort(self.to_networkx(), key=place.__getitem__))


def find_cycle(needs: Mapping[str, Collection[str]]) -> list[str] | None:
    """A circle among nodes that map to what they wait for, None if there is none.

    The first node is named again at the end; each feeds the next. Loads nothing.
    """
    from graphlib import CycleError, TopologicalSorter

    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        found: list[str] = list(error.args[1])
        return found
    return None


def critical_path(dag: Dag, weights: Mapping[str, float]) -> tuple[list[str], float]:
    """The chain of nodes whose weights add up to the most, and that sum. ([], 0.0) for no nodes."""
    import networkx as nx

    start: Any = object()  # an edge into each node, so that a path counts its first node too
    graph: nx.DiGraph[Any] = nx.DiGraph()
    for node in dag.nodes:
        graph.add_edge(start, node, weight=weights.get(node, 0.0))
    for source, target in dag.edges:
        graph.add_edge(source, target, weight=weights.get(target, 0.0))
    path = nx.dag_longest_path(graph)[1:]
    return path, sum(weights.get(node, 0.0) for node in path)

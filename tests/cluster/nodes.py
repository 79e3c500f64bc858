"""A Ray cluster of several node processes on this machine, as a program: `nodes.py NODES [PORT]`. It prints its address
and, where a PORT is given, that for clients elsewhere. It ends with its input.

A line `lose` on standard input kills one of the nodes, and starts another in its place.
"""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster

CPUS = 2
"""Of each node: as many workers has it room for."""

START_S = 240
"""That the nodes may take to start, on a machine with much else to do."""


def main(count: int, client: int | None = None) -> None:
    head: dict[str, Any] = {"num_cpus": CPUS, "wait": False, "include_dashboard": False}
    if client is not None:
        head["ray_client_server_port"] = client
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(wait=False, num_cpus=CPUS) for _ in range(count - 1)]
    cluster.wait_for_nodes(START_S)
    elsewhere = [] if client is None else [f"ray://127.0.0.1:{client}"]
    print(cluster.address, *elsewhere, flush=True)
    try:
        for line in sys.stdin:
            if line.strip() == "lose":
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=CPUS))
                print("lost", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

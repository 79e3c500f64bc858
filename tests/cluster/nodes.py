"""A Ray cluster of several node processes on this machine, as a program: `nodes.py [NODES]`. It prints its address and
that for clients elsewhere, and ends with its input.

A line `lose` on standard input kills one of the nodes, and starts another in its place.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

CPUS = 6
"""Of all nodes together."""


def main(count: int = 3) -> None:
    cpus = CPUS // count
    client = 10001  # below the ports that Ray gives to workers
    head = {"num_cpus": cpus, "ray_client_server_port": client}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=cpus) for _ in range(count - 1)]
    cluster.wait_for_nodes()
    print(cluster.address, f"ray://127.0.0.1:{client}", flush=True)
    try:
        for line in sys.stdin:
            if line.strip() == "lose":
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=cpus))
                print("lost", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

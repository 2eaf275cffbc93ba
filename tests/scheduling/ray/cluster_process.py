"""A Ray cluster of several nodes on this machine, in a process of its own: `python cluster_process.py '[{"num_cpus": 0}, ...]'`.

It prints a line of JSON for the cluster, and one for each node that a line of its input asks for; it ends with its input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

from orchestrator.scheduling.ray.private import lean_node

PATIENCE_S = 180
"""On a machine that is busy with other tests, too."""

SYSTEM_CONFIG = {"health_check_period_ms": 500}
"""Five refusals in a row, and not a slow answer, make a node dead: within 2.5 s of its death instead of 15 s."""


def pid(node: Any, kind: str) -> int:
    return int(node.all_processes[kind][0].process.pid)


def main() -> None:
    first, *others = json.loads(sys.argv[1])
    with lean_node():
        head_args = {"include_dashboard": False, "_system_config": SYSTEM_CONFIG, **first}
        cluster = Cluster(initialize_head=True, head_node_args=head_args)
        nodes = {other["node_name"]: cluster.add_node(wait=False, **other) for other in others}
        cluster.wait_for_nodes(PATIENCE_S)
        pids = {name: pid(node, PROCESS_TYPE_RAYLET) for name, node in nodes.items()}
        head = {"address": cluster.address, "head": pid(cluster.head_node, PROCESS_TYPE_GCS_SERVER), "nodes": pids}
        print(json.dumps(head), flush=True)
        for line in sys.stdin:
            node = cluster.add_node(wait=False, **json.loads(line))
            cluster.wait_for_nodes(PATIENCE_S)
            print(pid(node, PROCESS_TYPE_RAYLET), flush=True)
        cluster.shutdown()


main()

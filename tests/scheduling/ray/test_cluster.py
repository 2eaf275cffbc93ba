import socket

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.scheduling.ray.cluster import Node
from orchestrator.scheduling.ray.head import knock


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "holds"),
    [
        (Node(3, 0), 1, 0, 3),
        (Node(3, 0), 2, 0, 1),
        (Node(3, 0), 4, 0, 0),
        (Node(8, 1), 1, 0.25, 4),
        (Node(2, 0), 1, 1, 0),
        (Node(0.3, 0), 0.1, 0, 3),
        (Node(16, 8), 1, 0.6, 8),
        (Node(16, 8), 1, 0.5, 16),
        (Node(32, 8), 1, 0.3, 24),
        (Node(16, 1), 1, 0.3333, 3),
        (Node(16, 8), 1, 3, 2),
        (Node(16, 8), 1, 1, 8),
        (Node(16, 1.5), 1, 0.5, 3),
    ],
)
def test_a_trial_is_held_as_a_whole(node: Node, cpus: float, gpus: float, holds: int) -> None:
    assert node.holds(cpus, gpus) == holds


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        knock(f"127.0.0.1:{port}")
    knock("auto")


def test_trials_that_fit_on_no_node_are_refused_with_what_is_there() -> None:
    from orchestrator.config.planning import plan
    from orchestrator.sweep.resources import trials_at_a_time

    made = plan(["data=synthetic", "cluster=ray", "cluster.address=host:6379", "cpus_per_trial=4", "search=none"])
    assert trials_at_a_time(made, [Node(4, 0), Node(3, 0)]) == 1
    with pytest.raises(
        NotReadyError, match="asks for 4 CPUs and 0 GPUs on one node, the cluster has 3 CPUs and 0 GPUs"
    ):
        trials_at_a_time(made, [Node(3, 0)])

"""Started by test_sweep_nodes.py in a process of its own, because it needs a cluster of its own: a head without CPUs
and three nodes with one each, of which one is taken away while it trains. Arguments: the job file, and the folder
where the folds of the sweep appear."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

from raysft import pipeline
from raysft.session import ENVIRONMENT, own_python


def main(job: str, folds: Path) -> None:
    import os

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the nodes are ended
    os.environ.update(ENVIRONMENT)
    import ray
    from ray.cluster_utils import Cluster

    # A lost node is noticed in a second.
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
    small = {"object_store_memory": 100_000_000}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**small, "num_cpus": 0, "include_dashboard": False, "_system_config": quick},
    )
    try:
        nodes = [cluster.add_node(**small, num_cpus=1) for _ in range(3)]
        ray.init(address=cluster.address, log_to_driver=False, **own_python())
        cluster.wait_for_nodes()

        def take_away() -> None:
            while len(list(folds.rglob("fold.json"))) < 2:
                time.sleep(0.02)
            cluster.remove_node(nodes[0], allow_graceful=False)

        threading.Thread(target=take_away, daemon=True).start()
        pipeline.tune(job)
        print(f"alive {sum(node['Alive'] for node in ray.nodes())}")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

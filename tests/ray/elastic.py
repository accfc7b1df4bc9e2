"""Started by test_lost_nodes.py in a process of its own, because it needs a cluster of its own: two nodes, one of which
is taken away while two workers train. Arguments: the job file, and the folder of its checkpoints."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

from raysft import pipeline
from raysft.session import ENVIRONMENT, own_python


def main(job: str, checkpoints: Path) -> None:
    import os

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the nodes are ended
    # Ray may ask for two workers once more before it knows that the node is gone; it would wait 60 s for them.
    os.environ.update(ENVIRONMENT | {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"})
    import ray
    from ray.cluster_utils import Cluster

    # The head has a worker's CPU, so that what stays is the node with the driver. A lost node is noticed in a second.
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
    small = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(
        initialize_head=True, head_node_args={**small, "include_dashboard": False, "_system_config": quick}
    )
    try:
        node = cluster.add_node(**small)
        ray.init(address=cluster.address, log_to_driver=False, **own_python())
        cluster.wait_for_nodes()

        def take_away() -> None:
            while not list(checkpoints.glob("step-*[0-9]/manifest.json")):
                time.sleep(0.02)
            cluster.remove_node(node, allow_graceful=False)

        threading.Thread(target=take_away, daemon=True).start()
        pipeline.train(job)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""Started by test_lost_nodes.py in a process of its own, because it needs a cluster of its own: a head and three nodes.
One of the two that train is drained as a cloud's notice has it drained, and then taken away. Arguments: the job file,
and the folder of its checkpoints. Prints as JSON what the run said, and what is said of a folder that nodes do not
share."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

from raysft import pipeline
from raysft.errors import OutputError
from raysft.events import Silent
from raysft.session import ENVIRONMENT, Resources, own_python
from raysft.training.shared import require_shared

DEADLINE_S = 60


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def note(self, text: str) -> None:
        self.kept.append(text)


def main(job: str, checkpoints: Path) -> None:
    import os

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the nodes are ended
    os.environ.update(ENVIRONMENT)
    import ray
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 100_000_000}
    # No CPU on the head, as on our clusters.
    cluster = Cluster(initialize_head=True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False})
    notes = Notes()
    try:
        nodes = {node.node_id: node for node in (cluster.add_node(**small) for _ in range(3))}
        ray.init(address=cluster.address, log_to_driver=False, **own_python())
        cluster.wait_for_nodes()
        threading.Thread(target=take_away, args=(cluster, nodes, checkpoints, notes), daemon=True).start()
        elsewhere = refused(checkpoints.parents[3])
        pipeline.train(job, listener=notes)
        print(json.dumps({"notes": notes.kept, "elsewhere": elsewhere}))
    finally:
        ray.shutdown()
        cluster.shutdown()


def refused(folder: Path) -> str:
    """What is said of a path that means another folder in each process that works in another one."""
    with chdir(folder):
        try:
            require_shared(Path("/proc/self/cwd/unshared"), Resources(1, 1, gpu=False))
        except OutputError as error:
            return str(error)
    return ""


def take_away(cluster: Any, nodes: dict[str, Any], checkpoints: Path, notes: Notes) -> None:
    """Drain a node that trains, and end it once the run has moved."""
    from ray._private.state import available_resources_per_node
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    while not list(checkpoints.glob("step-*[0-9]/manifest.json")):
        time.sleep(0.02)
    free = available_resources_per_node()
    busy = next(name for name in nodes if free[name].get("CPU", 0.0) < 1)
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int(1000 * (time.time() + DEADLINE_S))
    GcsClient(address=cluster.address).drain_node(busy, reason, "a notice of the cloud", deadline_ms)
    while not any("step" in text and "saved" in text for text in notes.kept):
        time.sleep(0.02)
    cluster.remove_node(nodes[busy], allow_graceful=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

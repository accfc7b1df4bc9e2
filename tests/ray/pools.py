"""Started by test_cluster_autoscaler.py in a process of its own: a spot pool and an on-demand pool on a real
autoscaler, whose cloud has nothing, then no spot, then some, and takes a node. Prints what was seen, as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from raysft.cluster.providers.shared import fetch
from raysft.config.labels import MARKET
from raysft.shortage import capacity_words
from tests.support.autoscaling import Autoscaled, SimulatedPool, autoscaled, wait_until
from tests.support.metadata import metadata_service

POOLS = [SimulatedPool("gpu-spot", "spot", most=2), SimulatedPool("gpu-steady", most=2)]
QUIET_S = 12.0
LIMIT_S = 60.0


def main() -> None:
    with autoscaled(POOLS, idle_s=2, quiet_s=QUIET_S, capacity={"gpu-spot": 0, "gpu-steady": 0}) as cluster:
        cluster.connect()
        stages = {each.__name__: each(cluster) for each in (without_any, without_spot, with_some_spot)}
    print(json.dumps({**stages, "head": cluster.head}))


def without_any(cluster: Autoscaled) -> dict[str, Any]:
    """Two GPUs are wanted, and no pool has a machine; nobody waits to the end of the quiet time."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([{"GPU": 1}] * 2)
    wait_until(lambda: len(cluster.record()) >= 2, 20, lambda: f"{cluster.record()}")
    time.sleep(4)  # four rounds of the autoscaler, each of which asks the provider again
    assert not ray.wait([group.ready()], timeout=0)[0]
    told = cluster.record()
    words = capacity_words(fetch(), time.time())
    remove_placement_group(group)
    cluster.set_capacity({"gpu-spot": 0})
    wait_until(lambda: told[-1].again < time.time(), QUIET_S + 5, lambda: f"{told}")
    return {"asked": [[line.pool, line.got, line.why] for line in told], "words": words}


def without_spot(cluster: Autoscaled) -> dict[str, Any]:
    """Two GPUs are wanted, and spot has none."""
    before = len(cluster.record())
    with two_gpus() as waited_s:
        seen: dict[str, Any] = {"waited_s": waited_s, "pools": cluster.nodes(), "markets": markets()}
        # A simulated cloud answers when its nodes have started, which may be after work has begun on them.
        seen["closed_s"] = wait_until(lambda: not launches(cluster), LIMIT_S, lambda: f"{launches(cluster)}")
        told = fetch()
        seen["words"] = capacity_words(told, time.time())
        seen["told_to_jobs"] = [line.line() for line in told]
        seen["on_the_head"] = [line.line() for line in cluster.record()]
        seen["asked"] = seen["on_the_head"][before:]
    seen["to_zero_s"] = cluster.wait_for({}, LIMIT_S)
    time.sleep(3)  # three rounds of the autoscaler, in which a request that was left open would be made again
    return seen | {"afterwards": cluster.nodes()}


def with_some_spot(cluster: Autoscaled) -> dict[str, Any]:
    """There is one spot node again; two GPUs are wanted, and the spot node is taken away."""
    cluster.set_capacity({"gpu-spot": 1})
    time.sleep(max(0.0, max(line.again for line in cluster.record()) - time.time()))
    before = len(cluster.record())
    with two_gpus() as waited_s:
        seen = {"waited_s": waited_s, "pools": cluster.nodes(), "markets": markets(), "drained": drain_the_spot_node()}
        wait_until(lambda: not launches(cluster), LIMIT_S, lambda: f"{launches(cluster)}")
        seen["asked"] = [[line.pool, line.asked, line.got] for line in cluster.record()[before:]]
    return seen | {"to_zero_s": cluster.wait_for({}, LIMIT_S)}


def drain_the_spot_node() -> dict[str, Any]:
    """By the watcher, as it runs beside a node, from a service that gives notice."""
    import ray
    from ray._private.state import state

    node = next(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Labels"].get(MARKET) == "spot")
    deadline = float(int(time.time()) + 120)
    options = ["--cloud", "aws", "--node-id", node, "--every", "0.2"]
    with metadata_service("aws") as (service, url):
        watcher = subprocess.Popen(
            [sys.executable, "-m", "raysft.cluster.preemption", *options, "--metadata-url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_until(lambda: len(service.asked) > 2, 30, lambda: "the watcher does not ask")
            before = state.get_draining_nodes()
            service.give_notice(deadline)
            said, _ = watcher.communicate(timeout=30)
        finally:
            watcher.kill()
            watcher.wait()
    wanted = {node: int(deadline * 1000)}
    with suppress(TimeoutError):  # a head with much to do was once seen to list the node with another deadline
        wait_until(lambda: bool(state.get_draining_nodes() == wanted), 10, lambda: "")
    return {
        "before": len(before),
        "wanted": wanted,
        "draining": state.get_draining_nodes(),
        "said": said,
        "code": watcher.returncode,
    }


@contextmanager
def two_gpus() -> Iterator[float]:
    """Two bundles of one GPU each are held inside; the seconds that it took to get them."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    start = time.monotonic()
    group = placement_group([{"GPU": 1}] * 2)
    ray.get(group.ready(), timeout=LIMIT_S)
    try:
        yield time.monotonic() - start
    finally:
        remove_placement_group(group)


def markets() -> list[str]:
    """Of the nodes that are alive."""
    import ray

    return sorted(node["Labels"][MARKET] for node in ray.nodes() if node["Alive"] and MARKET in node["Labels"])


def launches(cluster: Autoscaled) -> list[Any]:
    """What the autoscaler still waits for."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(cluster.address)
    return [*status.pending_launches, *status.pending_nodes]


if __name__ == "__main__":
    main()

"""What the files of `ray up` have in common in all clouds.

The head runs no work and is never on spot. Each pool is a node type with labels of its own, so that jobs can ask for
it by name. All nodes run one pinned image, mount one storage under one path, and speak only to who has the token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from shlex import quote
from typing import Any

from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.labels import MARKET, POOL
from raysft.session import ENVIRONMENT

HEAD_TYPE = "head_node"  # names of pools have no underscore, so none is called so
TOKEN_NAME = "auth_token"  # noqa: S105  # name of a file
SECRETS = "/opt/raysft-secrets"  # in every container; made before it, by the file mounts
PORT_GCS, PORT_DASHBOARD = 6379, 8265
# Seconds between SIGTERM and SIGKILL of a job that is stopped; Ray's own 3 s are too short to save a checkpoint.
STOP_WAIT_S = 120
# Nodes that Ray asks for in one request, and at a time. Its own 5 and 10 split the request of a large job: a part that
# comes half from spot costs up to as many nodes too many.
LAUNCHES = 100
LAUNCH_LIMITS = ("AUTOSCALER_MAX_LAUNCH_BATCH", "AUTOSCALER_MAX_CONCURRENT_LAUNCHES")
# Of a node's memory: Ray's object store takes 30%, loaders of data and NCCL what is above.
SHM_SHARE = 0.4
MEMORY_SHARE = 0.7  # of a node's memory, for work: what Ray's object store leaves
GIB = 2**30
IS_SPOT = 'test "$RAYSFT_MARKET" = spot'
CONTAINER = "raysft"
WATCHER_PID = "/tmp/raysft-preemption.pid"  # noqa: S108  # of a container


@dataclass(frozen=True)
class Cloud:
    """What one cloud adds to the common file."""

    name: str  # aws | gcp | azure
    client: str  # Python module that the head speaks to the cloud with
    provider: dict[str, Any]  # without type and module, which are the same everywhere
    auth: dict[str, Any]
    head: dict[str, Any]  # node_config
    workers: dict[str, dict[str, Any]]  # node_config by pool
    on_host: tuple[str, ...]  # commands on every node before its container starts


def secrets_folder(name: str) -> str:
    """Where `raysft cluster up` puts the token of a cluster on the machine it runs on."""
    return f"~/.raysft/clusters/{name}/secrets"


def config_of(cluster: Cluster, cloud: Cloud) -> dict[str, Any]:
    """The whole of the file that `ray up` reads. Nothing is left to Ray's defaults: an external provider has none."""
    config, pools = cluster.config, pools_of(cluster)
    most = max(pool.most for pool in pools)
    return {
        "cluster_name": config.name,
        "max_workers": sum(pool.most for pool in pools),
        "upscaling_speed": float(most),  # a job that needs all nodes of a pool gets them in one step
        "idle_timeout_minutes": config.idle_minutes,
        "provider": {
            "type": "external",
            "module": f"raysft.cluster.providers.{cloud.name}.FailoverProvider",
            **cloud.provider,
            "no_capacity_minutes": config.no_capacity_minutes,
        },
        "auth": cloud.auth,
        "docker": _docker(cluster),
        "head_node_type": HEAD_TYPE,
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 0}, "min_workers": 0, "max_workers": 0, "node_config": cloud.head},
            **{
                pool.name: _node_type(pool, len(pools) - place, cloud.workers[pool.name])
                for place, pool in enumerate(pools)
            },
        },
        "file_mounts": {SECRETS: secrets_folder(config.name)},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [*cloud.on_host],
        "setup_commands": [],
        "head_setup_commands": [_has_client(cloud)],
        "worker_setup_commands": [],
        "head_start_ray_commands": _head_start(),
        "worker_start_ray_commands": _worker_start(cloud.name),
    }


def _has_client(cloud: Cloud) -> str:
    """Says at once that the image lacks what the head speaks to its cloud with; else no worker would ever come."""
    lacks = f"raysft: the image lacks {cloud.client}; build it with raysft[{cloud.name}]"
    return f"python -c 'import raysft.cluster.providers, {cloud.client}' || {{ echo '{lacks}'; exit 1; }}"


def _node_type(pool: Pool, priority: int, node_config: dict[str, Any]) -> dict[str, Any]:
    resources = {"CPU": pool.cpus}
    if pool.gpus:
        resources |= {"GPU": pool.gpus, f"accelerator_type:{pool.gpu}": 1}
    options = [f"--env=RAYSFT_MARKET={pool.market}"]
    if pool.memory_gib:
        resources["memory"] = int(pool.memory_gib * MEMORY_SHARE * GIB)
        options.append(f"--shm-size={max(1, int(pool.memory_gib * SHM_SHARE))}g")
    return {
        "resources": resources,
        "labels": {POOL: pool.name, MARKET: pool.market},
        "priority": priority,
        "min_workers": pool.fewest,
        "max_workers": pool.most,
        "node_config": node_config,
        "docker": {"worker_run_options": options},
    }


def _docker(cluster: Cluster) -> dict[str, Any]:
    """One image for all. What is set here holds for every process in the container, also for `ray exec`."""
    storage = cluster.config.storage
    environment = {
        **ENVIRONMENT,
        "HF_HOME": f"{storage}/.cache/huggingface",  # so that each node need not fetch what another one has fetched
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{SECRETS}/{TOKEN_NAME}",
    }
    return {
        "image": cluster.config.image,
        "container_name": CONTAINER,
        "pull_before_run": True,
        "run_options": [
            "--ulimit=nofile=65536:65536",
            "--ulimit=memlock=-1",
            "--security-opt=no-new-privileges",
            f"--volume={quote(f'{storage}:{storage}')}",
            *(f"--env={name}={quote(value)}" for name, value in environment.items()),
        ],
    }


def _head_start() -> list[str]:
    """Jobs are stopped, and nodes asked for, by processes of the head, which have what stands in its environment."""
    start = (
        f"ray start --head --port={PORT_GCS} --num-cpus=0 --num-gpus=0 --autoscaling-config=~/ray_bootstrap_config.yaml"
        f" --dashboard-host=127.0.0.1 --dashboard-port={PORT_DASHBOARD} --disable-usage-stats"
    )
    told = " ".join([f"RAY_JOB_STOP_WAIT_TIME_S={STOP_WAIT_S}", *(f"{limit}={LAUNCHES}" for limit in LAUNCH_LIMITS)])
    return ["ray stop", f"export {told}; {start}"]


def _worker_start(cloud: str) -> list[str]:
    """The watcher tells Ray of a node that will be taken away, so that training saves and moves in time."""
    watcher = f"python -m raysft.cluster.preemption --cloud {cloud} --pid-file {WATCHER_PID}"
    return [
        "ray stop",
        f"ray start --address=$RAY_HEAD_IP:{PORT_GCS}",
        f"if {IS_SPOT}; then nohup setsid {watcher} >/tmp/raysft-preemption.log 2>&1 </dev/null & fi",
    ]


def nfs_mount(storage: str, source: str | None, command: str) -> tuple[str, ...]:
    """Mounts `source` at `storage`, once; where there is none, the image of the node has to have it mounted.

    A new file system belongs to root. One that may be written is left to whom it belongs, and may refuse root.

    command: the mount command up to its two last arguments.
    """
    storage = quote(storage)
    if source is None:
        return (f"mountpoint -q {storage} || {{ echo 'raysft: {storage} is not mounted in this image'; exit 1; }}",)
    return (
        f"sudo mkdir -p {storage}",
        f"mountpoint -q {storage} || sudo {command} {quote(source)} {storage}",
        f"test -w {storage} || sudo chown $(id -u):$(id -g) {storage}",
    )


def as_json(value: dict[str, Any]) -> str:
    """JSON as it is checked in."""
    return json.dumps(value, indent=2) + "\n"

"""A real Ray autoscaler on this machine whose nodes are raylets with logical GPUs, started and ended.

For scripts in a process of their own (tests.support.nodes.run_on_nodes), since Ray's environment is set in it:

    with autoscaled([SimulatedPool("spot", "spot"), SimulatedPool("steady")], idle_s=4) as cluster:
        cluster.connect()                      # ray.init on it; RAY_ADDRESS and the token are in os.environ
        cluster.set_capacity({"spot": 0})      # from now on the cloud has no machine for it
        cluster.wait_for({"steady": 2})        # nodes by pool, as their labels say
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysft.cluster.files.ray_up import LAUNCH_LIMITS, LAUNCHES
from raysft.cluster.providers.node_types import with_pools
from raysft.cluster.providers.record import read
from raysft.config.labels import MARKET, POOL
from raysft.session import ENVIRONMENT, own_python
from raysft.shortage import Asked

HEAD = "f" * 51 + "00000"  # what Ray's provider of simulated nodes takes the head to be called
HEAD_TYPE = "ray.head.default"
START_S = 120.0
EMPTY: tuple[str, ...] = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
)


@dataclass(frozen=True)
class SimulatedPool:
    """Nodes that are alike."""

    name: str
    market: str = "on-demand"  # or spot
    cpus: int = 1  # of a node, as are the next two
    gpus: int = 1
    gpu: str = "L4"
    fewest: int = 0
    most: int = 2
    labels: Mapping[str, str] = field(default_factory=dict)

    def node_type(self) -> dict[str, Any]:
        resources = {"CPU": self.cpus, "object_store_memory": 100_000_000}
        if self.gpus:
            resources |= {"GPU": self.gpus, f"accelerator_type:{self.gpu}": 1}
        return {
            "resources": resources,
            "labels": {POOL: self.name, MARKET: self.market, **self.labels},
            "node_config": {},
            "min_workers": self.fewest,
            "max_workers": self.most,
        }


@dataclass
class Autoscaled:
    """A running cluster. address: HOST:PORT of its head. environment: what processes that join it need."""

    address: str
    environment: dict[str, str]
    folder: Path
    dashboard: str | None = None  # its URL
    head: int = 0  # id of the process that leads the session of all others

    @property
    def capacity_file(self) -> Path:
        return self.folder / "capacity.json"

    @property
    def record_file(self) -> Path:
        return self.folder / "capacity-record.jsonl"

    def set_capacity(self, nodes: Mapping[str, int]) -> None:
        """How many nodes the cloud has of each pool from now on; of a pool that is not named, any number."""
        whole = self.capacity_file.with_suffix(".tmp")
        whole.write_text(json.dumps(dict(nodes)))
        whole.replace(self.capacity_file)

    def record(self) -> list[Asked]:
        """What the cloud was asked for so far, oldest first."""
        return read(self.record_file)

    def connect(self, **options: Any) -> None:
        """ray.init on this cluster."""
        import ray

        ray.init(address=self.address, log_to_driver=False, **own_python(), **options)

    def nodes(self) -> Counter[str]:
        """How many nodes are alive of each pool, as their labels say; a connected process may ask."""
        import ray

        return Counter(node["Labels"][POOL] for node in ray.nodes() if node["Alive"] and POOL in node["Labels"])

    def wait_for(self, nodes: Mapping[str, int], limit_s: float = 40.0) -> float:
        """Until exactly these nodes are alive; the seconds that it took. Raises TimeoutError, with what there is."""
        return wait_until(lambda: self.nodes() == Counter(nodes), limit_s, lambda: f"{self.nodes()}, not {nodes}")

    def log(self) -> str:
        """The autoscaler's own log."""
        return "\n".join(each.read_text() for each in self.folder.glob("ray/session_2*/logs/monitor.log"))


def wait_until(reached: Callable[[], bool], limit_s: float, told: Callable[[], str]) -> float:
    """The seconds until `reached` is true. Raises TimeoutError, with what `told` says then."""
    start = time.monotonic()
    while not reached():
        if time.monotonic() - start > limit_s:
            raise TimeoutError(f"after {limit_s:g} s: {told()}")
        time.sleep(0.1)
    return time.monotonic() - start


@contextmanager
def autoscaled(
    pools: Sequence[SimulatedPool],
    *,
    idle_s: float = 4.0,
    quiet_s: float = 600.0,
    capacity: Mapping[str, int] | None = None,
    dashboard: bool = False,
    **environment: str,
) -> Iterator[Autoscaled]:
    """A head that runs no work, and an autoscaler that gives it nodes of these pools; all ended at the end.

    idle_s: after which a node without work goes. quiet_s: how long a pool is left alone after it had no machine.
    capacity: nodes by pool that the cloud has at first. environment: more of it, for head and nodes.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    folder = Path(tempfile.mkdtemp(prefix="ras", dir="/tmp"))  # short: paths of sockets have 107 bytes at most
    port, client, http = _free_ports(3)
    cluster = Autoscaled(f"127.0.0.1:{port}", _environment(folder, port) | environment, folder)
    cluster.dashboard = f"http://127.0.0.1:{http}" if dashboard else None
    cluster.set_capacity(capacity or {})
    config = folder / "autoscaling.json"
    config.write_text(json.dumps(_config(cluster, pools, idle_s, quiet_s)))
    ports = {"port": port, "ray-client-server-port": client, "dashboard-port": http}
    os.environ.update(cluster.environment)
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(
            _command(config, folder / "ray", ports, dashboard),
            env={**os.environ, "RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    cluster.head = head.pid
    try:
        _wait_for_head(head, cluster)
        yield cluster
    finally:
        _disconnect()
        _end(head)
        shutil.rmtree(folder, ignore_errors=True)


def _command(config: Path, folder: Path, ports: Mapping[str, int], dashboard: bool) -> list[str]:
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    options = {
        **ports,
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "dashboard-agent-listen-port": 0,
        "include-dashboard": str(dashboard).lower(),
        "num-cpus": 0,
        "num-gpus": 0,
        "object-store-memory": 100_000_000,
        "temp-dir": folder,
        "autoscaling-config": config,
    }
    return [*start, "--disable-usage-stats", *(f"--{name}={value}" for name, value in options.items())]


def _environment(folder: Path, port: int) -> dict[str, str]:
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    return {
        **ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        "RAY_ADDRESS": f"127.0.0.1:{port}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_enable_autoscaler_v2": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray stays on 127.0.0.1, all of it
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "AUTOSCALER_METRIC_PORT": "0",
        # One call of the provider for all nodes that are asked for at once.
        **dict.fromkeys(LAUNCH_LIMITS, str(LAUNCHES)),
    }


def _config(cluster: Autoscaled, pools: Sequence[SimulatedPool], idle_s: float, quiet_s: float) -> dict[str, Any]:
    """What `ray start --autoscaling-config` reads."""
    most = sum(pool.most for pool in pools)
    return with_pools(
        {
            "cluster_name": "simulated",
            "max_workers": most,
            "upscaling_speed": float(most),
            "idle_timeout_minutes": idle_s / 60,
            "head_node_type": HEAD_TYPE,
            "available_node_types": {
                HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                **{pool.name: pool.node_type() for pool in pools},
            },
            "provider": {
                "type": "external",
                "module": "raysft.cluster.providers.simulated.FailoverProvider",
                "head_node_id": HEAD,
                "gcs_address": cluster.address,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "no_capacity_minutes": quiet_s / 60,
                "capacity": str(cluster.capacity_file),
                "record": str(cluster.record_file),
            },
            "auth": {},
            "docker": {},
            "file_mounts": {},
            "file_mounts_sync_continuously": False,
            **{name: [] for name in EMPTY},
        }
    )


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()


def _wait_for_head(head: subprocess.Popen[bytes], cluster: Autoscaled) -> None:
    host, port = cluster.address.split(":")

    def answers() -> bool:
        assert head.poll() is None, (cluster.folder / "head.log").read_text()[-3000:]
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return "Ray runtime started" in (cluster.folder / "head.log").read_text()
        return False

    wait_until(answers, START_S, lambda: (cluster.folder / "head.log").read_text()[-3000:])


def _disconnect() -> None:
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


def _end(head: subprocess.Popen[bytes]) -> None:
    """The head first, which ends what it started; then whatever is left of its session, by id."""
    head.terminate()
    with suppress(subprocess.TimeoutExpired):
        head.wait(timeout=10)
    for _ in range(50):
        left = session_of(head.pid)
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.1)
    head.wait(timeout=10)


def session_of(leader: int) -> list[int]:
    """Ids of all processes, but dead ones, in the session that this one began."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            # The name of a process, in brackets, may hold spaces and brackets.
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if entry.name.isdigit() and int(session) == leader and state != "Z":
                found.append(int(entry.name))
    return found

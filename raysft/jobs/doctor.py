"""What will go wrong on a cluster that is up: whether it answers, to whom, with which Ray; and, as a small job there
finds, whether its nodes can use the storage, and what it has room for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from secrets import token_hex
from shlex import join
from typing import Any

from raysft.cluster.endpoint import Endpoint, endpoint_of
from raysft.cluster.pools.catalogue import Pool, pools_of, pools_on
from raysft.config import Cluster
from raysft.config.cluster import CLOUDS
from raysft.errors import NoCapacity, NotAllowed, RaysftError, UsageError
from raysft.jobs.client import Client, Job, Unreachable
from raysft.jobs.request import own_request
from raysft.jobs.submit import refuse_other_ray
from raysft.jobs.told import PROBE, events_in, lines_of
from raysft.jobs.view import reason_of

FULL = 0.95  # share of a disk from which on Ray takes no more objects (RAY_local_fs_capacity_threshold)
LIMIT_S = 120.0  # that the trial on the cluster may take
POLL_S = 0.5
END_S = 5.0  # that a trial which is given up may take to end
TIMES, SETTLE_S = 3, 2.0
SHARED = "All nodes need the same storage at this path, writable by the user that Ray runs as (NFS, EFS, Filestore)."


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong, and what to do about it."""

    key: str  # of the cluster file, that it is about
    what: str
    fix: str
    exit_code: int  # as of the error that a job would end with: errors.py

    def __str__(self) -> str:
        return f"{self.key}: {self.what}" + (f" → {self.fix}" if self.fix else "")


@dataclass
class Diagnosis:
    """What was found."""

    troubles: list[Trouble] = field(default_factory=list)
    well: list[str] = field(default_factory=list)  # what was looked at and is as it should be
    nodes: list[dict[str, Any]] = field(default_factory=list)  # name, pool, cpus, gpus of each that is there
    room: dict[str, int] | None = None  # workers with a GPU each, or on CPUs alone, at most; None: not found out

    def to_json(self) -> dict[str, Any]:
        return {"findings": [asdict(each) for each in self.troubles], "nodes": self.nodes, "room": self.room}


def doctor(cluster: Cluster, limit_s: float = LIMIT_S) -> Diagnosis:
    """Everything that is found. A job runs there meanwhile, at most `limit_s` seconds, and nothing of it is left."""
    found = Diagnosis()
    try:
        endpoint = endpoint_of(cluster)
        client = Client(endpoint)
        client.version()
        found.troubles += _from_here(cluster, endpoint, client)
        told = _probe(cluster, client, limit_s)
    except Unreachable as error:
        fix = (
            f"Is it up, and a tunnel to it? `raysft cluster status {cluster.config.name}` tells of one brought up here."
        )
        found.troubles.append(Trouble("address", error.message, fix, error.exit_code))
        return found
    except RaysftError as error:
        found.troubles.append(_trouble("address", error))
        return found
    if isinstance(told, Trouble):
        found.troubles.append(told)
        return found
    found.nodes = told["nodes"]
    found.room = _room([*told["nodes"], *told["may_come"]])
    found.troubles += [*_storage(cluster, told["storage"]), *_capacity(cluster, told, found.room)]
    found.well += _well(told, found.room)
    return found


def _trouble(key: str, error: RaysftError) -> Trouble:
    return Trouble(key, error.message, error.next_step, error.exit_code)


def _from_here(cluster: Cluster, endpoint: Endpoint, client: Client) -> Iterator[Trouble]:
    yield from _open_to_all(endpoint)
    try:
        refuse_other_ray(client)
    except UsageError as error:
        yield _trouble("image", error)
    yield from _nodes(cluster, client.nodes())


def _open_to_all(endpoint: Endpoint) -> Iterator[Trouble]:
    """Whoever can reach the job API of a cluster can run any program on it (CVE-2023-48022)."""
    try:
        Client(Endpoint(endpoint.address)).jobs()
    except RaysftError:
        return
    yield Trouble(
        "token_file",
        "the job API answers without a token, to everyone who can reach it",
        "Start the head with RAY_AUTH_MODE=token and a token file, as the files of `raysft cluster render` do.",
        NotAllowed.exit_code,
    )


def _nodes(cluster: Cluster, nodes: list[dict[str, Any]]) -> Iterator[Trouble]:
    if not nodes:
        yield Trouble(
            "pools",
            "no node is alive",
            f"`{join(['raysft', 'cluster', 'status', str(cluster.path)])}` tells more.",
            NoCapacity.exit_code,
        )
    for node in nodes:
        name = node["name"]
        if node["disk"] is not None and node["disk"] > FULL:
            yield Trouble(
                "pools",
                f"the disk of node {name} is {node['disk']:.0%} full, from {FULL:.0%} on Ray takes no more objects",
                "Free some space, or give its pool a larger disk.",
                NoCapacity.exit_code,
            )
        if node["head"] and cluster.config.pools and node["cpus"] > 0:
            yield Trouble(
                "pools",
                f"the head ({name}) offers {node['cpus']:g} CPUs, so that training may take the memory that it needs",
                "Start it with --num-cpus=0.",
                UsageError.exit_code,
            )


def _probe(cluster: Cluster, client: Client, limit_s: float) -> Mapping[str, Any] | Trouble:
    """What a small job found on the cluster, or why it found nothing."""
    words = ["cluster", "probe", "--node-seconds", f"{limit_s / 3:.0f}"]
    storage = [cluster.config.storage] if cluster.config.storage else []
    id = f"raysft-doctor-{token_hex(4)}"
    client.submit(own_request(id, [*words, *storage], cluster))
    deadline = time.monotonic() + limit_s
    try:
        while not (job := client.job(id)).over and time.monotonic() < deadline:
            time.sleep(POLL_S)
        events = events_in(lines_of(client.log(job)))
    finally:
        _forget(client, id)
    told = [event for event in events if event["kind"] == PROBE]
    return told[-1] if told else _found_nothing(job, limit_s)


def _found_nothing(job: Job, limit_s: float) -> Trouble:
    if job.over:
        return Trouble(
            "image",
            f"a small job on the cluster failed: {reason_of(job, None) or job.status.lower()}",
            "Has its image raysft of this version? `ray job submit` shows more of what goes wrong.",
            UsageError.exit_code,
        )
    began = f"is {job.status.lower()}" + (f" ({job.message.splitlines()[0]})" if job.message else "")
    return Trouble(
        "storage",
        f"a small job on the cluster did not end in {limit_s:.0f} s: it {began}",
        "A mount that hangs does that, and a head that is too busy; --limit gives it more time.",
        UsageError.exit_code,
    )


def _forget(client: Client, id: str) -> None:
    """End the trial, if it runs, and remove it from the list of jobs; as far as the cluster lets us."""
    with suppress(RaysftError):
        if not client.job(id).over:
            client.stop(id)
        deadline = time.monotonic() + END_S
        while not client.job(id).over and time.monotonic() < deadline:
            time.sleep(POLL_S)
        # Ray looks after each job once a second, and writes one that is gone by then anew, as failed.
        for _ in range(TIMES):
            time.sleep(SETTLE_S)
            client.delete(id)  # until it is not there


def _storage(cluster: Cluster, tried: Mapping[str, Any] | None) -> Iterator[Trouble]:
    if tried is None:
        return
    if tried["driver"]:
        yield Trouble("storage", f"the head: {tried['driver']}", SHARED, UsageError.exit_code)
    for name, said in ((node["name"], node["said"]) for node in tried["nodes"]):
        if said is None:
            what = f"node {name} did not try {cluster.config.storage} in time: it starts no process, or the mount hangs"
            yield Trouble("storage", what, "Look at the node; `--limit` gives it more time.", UsageError.exit_code)
        elif said:
            yield Trouble("storage", f"node {name} {said}", SHARED, UsageError.exit_code)


def _capacity(cluster: Cluster, told: Mapping[str, Any], room: Mapping[str, int]) -> Iterator[Trouble]:
    code = NoCapacity.exit_code
    if not room["cpu_workers"]:
        yield Trouble(
            "pools", "no node that could do work is there, and none may come", "Give it pools, or hosts.", code
        )
    for line in told["shortages"]:
        yield Trouble("pools", line, "Wait, or put an on-demand pool of the same machine behind it.", code)
    kind = cluster.config.kind
    if kind in CLOUDS or kind == "kubernetes":
        known = {pool["name"]: pool for pool in told["pools"]}
        fix = f"`{join(['raysft', 'cluster', 'up', str(cluster.path)])}` brings it up to date."
        for pool in pools_on(cluster):
            yield from (Trouble("pools", what, fix, code) for what in _other(pool, known.get(pool.name)))
    else:
        yield from _missing(cluster, told["nodes"])


def _other(pool: Pool, known: Mapping[str, Any] | None) -> Iterator[str]:
    """How a pool of the cluster differs from that of its file."""
    if known is None:
        yield f"the cluster knows no pool {pool.name}, which its file has"
        return
    for name in ("most", "cpus", "gpus"):
        if known[name] != getattr(pool, name):
            yield f"pool {pool.name} has {name} {known[name]:g} on the cluster, {getattr(pool, name)} in its file"


def _missing(cluster: Cluster, nodes: list[dict[str, Any]]) -> Iterator[Trouble]:
    """Where no node comes by itself, all have to be there."""
    fix, code = "Look at why it does not join, or bring the cluster up anew.", NoCapacity.exit_code
    static = cluster.config.static
    if static is not None:
        hosts = {static.head, *static.workers}
        if len(nodes) < len(hosts):
            yield Trouble("static", f"{len(nodes)} of {len(hosts)} hosts are there", fix, code)
        return
    there = Counter(node["pool"] for node in nodes)
    for pool in pools_of(cluster):
        if there[pool.name] < pool.most:
            yield Trouble("pools", f"{there[pool.name]} of {pool.most} nodes of pool {pool.name} are there", fix, code)


def _room(nodes: list[dict[str, Any]]) -> dict[str, int]:
    """Workers that there is room for at most, once all nodes are there that may come: with a GPU each, and without."""
    return {
        "gpu_workers": sum(int(min(node["gpus"], node["cpus"])) for node in nodes),
        "cpu_workers": sum(int(node["cpus"]) for node in nodes),
    }


def _well(told: Mapping[str, Any], room: Mapping[str, int]) -> Iterator[str]:
    more = len(told["may_come"])
    yield f"{len(told['nodes'])} node(s)" + (f", {more} more may come" if more else "")
    gpus = f"{room['gpu_workers']} worker(s) with a GPU each, or " if room["gpu_workers"] else ""
    yield f"room for {gpus}{room['cpu_workers']} worker(s) on CPUs"
    if told["storage"] is not None:
        tried = sum(node["said"] == "" for node in told["storage"]["nodes"])
        yield f"storage tried on {tried} node(s)"

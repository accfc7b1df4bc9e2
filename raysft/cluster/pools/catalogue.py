"""What machines have and cost: machines.csv, and the pools of a cluster file with what it leaves out filled in.

machines.csv: GiB as the maker of the cloud says, except `gpu_gib`, which is what CUDA reports of one GPU (an L4 of
24 GB has 22.0 GiB); `tflops` of one GPU in bf16 without sparsity (a T4, which has no bf16, in fp16); `price` and
`spot` in dollars an hour, of one node. Spot prices move by the hour; these are estimates. Each row has its date.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from raysft.config import Cluster
from raysft.config.cluster import CLOUDS, PoolSection
from raysft.errors import JobFileError, Problem

SPOT = "spot"
# On Kubernetes, where a pool says only its machine: what of it a pod may ask for, beside the system's own pods.
POD_SHARE, SYSTEM_CPUS = 0.85, 1
# Kinds that Ray's names tell apart where its own detection does not, and GiB from which on an A100 is the larger one.
LARGER = {"A100-40G": ("A100", 0.0), "A100-80G": ("A100", 60.0)}


@dataclass(frozen=True)
class Machine:
    """A machine type of a cloud. gpu: Ray's name of its GPUs, "" without. Prices: None where there is none."""

    cloud: str
    name: str
    cpus: int
    memory_gib: float
    gpus: int
    gpu: str
    gpu_gib: float  # of one GPU, as CUDA reports it; 0 without
    tflops: float  # of one GPU, dense, bf16; 0 without
    price: float | None  # on demand, dollars an hour
    spot: float | None
    region: str
    date: str  # of the prices: 2025-06
    source: str  # of the prices, in words


@dataclass(frozen=True)
class Pool:
    """Nodes that are alike, with all that is known of one of them; what is not told and not known is 0 or None."""

    name: str
    machine: str  # "" where none was named
    market: str  # spot | on-demand
    cpus: int  # of a node
    memory_gib: float  # of a node; 0: not known
    gpus: int  # of a node
    gpu: str  # Ray's name of their kind; "" without GPUs
    gpu_gib: float  # of one GPU; 0: not known
    price: float | None  # of a node, dollars an hour; None: not known
    fewest: int  # nodes
    most: int
    tflops: float = 0.0  # of one GPU, dense, bf16; 0: not known
    priced: str = ""  # where the price is from: "list price, us-east-1, 2025-06"; "" where there is none

    @property
    def spot(self) -> bool:
        """Whether its nodes may be taken away."""
        return self.market == SPOT


@cache
def machines() -> tuple[Machine, ...]:
    """All machine types that are known, in the order of machines.csv."""
    text = files("raysft.cluster.pools").joinpath("machines.csv").read_text(encoding="utf-8")
    return tuple(_machine(row) for row in csv.DictReader(text.splitlines()))


def _machine(row: dict[str, str]) -> Machine:
    def number(key: str) -> float | None:
        return float(row[key]) if row[key] else None

    return Machine(
        cloud=row["cloud"],
        name=row["machine"],
        cpus=int(row["cpus"]),
        memory_gib=float(row["memory_gib"]),
        gpus=int(row["gpus"]),
        gpu=row["gpu"],
        gpu_gib=number("gpu_gib") or 0.0,
        tflops=number("tflops") or 0.0,
        price=number("price"),
        spot=number("spot"),
        region=row["region"],
        date=row["date"],
        source=row["source"],
    )


def pools_of(cluster: Cluster) -> tuple[Pool, ...]:
    """The pools of a cluster file, in its order; what the file leaves out is as the catalogue has it.

    Raises JobFileError, with every pool of which CPUs or the kind of its GPUs are neither told nor known.
    """
    known = _machines_of(cluster.config.kind)
    sections = cluster.config.pools
    if problems := [each for index, pool in enumerate(sections) for each in _problems(cluster, index, pool, known)]:
        raise JobFileError(problems)
    return tuple(_pool(section, known.get(section.machine or "")) for section in sections)


def pools_on(cluster: Cluster) -> tuple[Pool, ...]:
    """The pools as Ray knows their nodes: on Kubernetes a node of Ray is a pod, which takes less than its machine.

    Raises JobFileError as `pools_of` and `pod_size` do.
    """
    pools = pools_of(cluster)
    return tuple(as_pods(cluster, pool) for pool in pools) if cluster.config.kind == "kubernetes" else pools


def as_pods(cluster: Cluster, pool: Pool) -> Pool:
    cpus, gib = pod_size(cluster, pool)
    return replace(pool, cpus=cpus, memory_gib=gib)


def pod_size(cluster: Cluster, pool: Pool) -> tuple[int, float]:
    """CPUs and GiB of a pod: as the cluster file says, else what a node of that machine can spare.

    Raises JobFileError where the memory is neither told nor known.
    """
    index = [each.name for each in cluster.config.pools].index(pool.name)
    told = cluster.config.pools[index]
    if not pool.memory_gib:
        where = cluster.where("pools", str(index), "memory")
        raise JobFileError([Problem(where, f"pools.{index}.memory", "must be given: GiB that a pod of it may take")])
    cpus = told.cpus or max(1, pool.cpus - SYSTEM_CPUS)
    return cpus, told.memory or math.floor(pool.memory_gib * POD_SHARE)


def _machines_of(kind: str) -> dict[str, Machine]:
    """By name: those of the cloud; of all clouds where the cluster is not a cloud's own."""
    return {each.name: each for each in machines() if kind not in CLOUDS or each.cloud == kind}


def _problems(cluster: Cluster, index: int, pool: PoolSection, known: dict[str, Machine]) -> Iterable[Problem]:
    """What cannot be known of a pool."""
    machine = known.get(pool.machine or "")
    place = ("pools", str(index))
    if machine is None and pool.cpus is None:
        key, text = ("machine", _unknown(pool.machine, known)) if pool.machine else ("cpus", "must be given")
        why = "" if pool.machine else f": pool {pool.name} names no machine that the catalogue has"
        yield Problem(cluster.where(*place, key), ".".join((*place, key)), text + why)
    kind = pool.gpu or (machine.gpu if machine else "")
    if pool.gpus and not kind:
        text = f"must be given: pool {pool.name} has {pool.gpus} GPU(s) a node, and nothing says of which kind"
        yield Problem(cluster.where(*place, "gpus"), ".".join((*place, "gpu")), f"{text}, such as L4 or A100")


def _unknown(name: str, known: dict[str, Machine]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = (
        f"did you mean {close[0]}?" if close else f"known are {', '.join(list(known)[:3])} and {len(known) - 3} more;"
    )
    return f"no machine {name} in the catalogue; {hint} Else tell cpus, memory, gpus and gpu of its nodes"


def _pool(section: PoolSection, machine: Machine | None) -> Pool:
    gpus = machine.gpus if machine and section.gpus is None else section.gpus or 0
    kind = section.gpu or (machine.gpu if machine else "")
    kind, gib, tflops = _gpu(kind, machine) if gpus else ("", 0.0, 0.0)
    price, priced = _price(section, machine)
    return Pool(
        name=section.name,
        machine=section.machine or "",
        market=section.market,
        cpus=section.cpus or (machine.cpus if machine else 0),
        memory_gib=section.memory or (machine.memory_gib if machine else 0.0),
        gpus=gpus,
        gpu=kind,
        gpu_gib=gib,
        price=price,
        fewest=section.fewest,
        most=section.most,
        tflops=tflops,
        priced=priced,
    )


def _gpu(kind: str, machine: Machine | None) -> tuple[str, float, float]:
    """Ray's name, GiB and TFLOP/s of a kind of GPU; 0 where the catalogue has none of it. Where a kind has several
    sizes, the smallest: a job that fits it fits all."""
    if machine and kind == machine.gpu:
        return kind, machine.gpu_gib, machine.tflops
    name, least = LARGER.get(kind, (kind, 0.0))
    alike = [each for each in machines() if each.gpu.lower() == name.lower() and each.gpu_gib >= least]
    if not alike:
        return kind, 0.0, 0.0
    smallest = min(alike, key=lambda each: (each.gpu_gib, each.tflops))
    return smallest.gpu, smallest.gpu_gib, smallest.tflops


def _price(section: PoolSection, machine: Machine | None) -> tuple[float | None, str]:
    """Dollars an hour of a node, and where that is from."""
    if section.price is not None:
        return section.price, "price of the pool"
    found = None if machine is None else machine.spot if section.market == SPOT else machine.price
    if machine is None or found is None:
        return None, ""
    kind = "estimated spot price" if section.market == SPOT else "list price"
    return found, f"{kind}, {machine.region}, {machine.date}"

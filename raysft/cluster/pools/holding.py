"""`raysft check --cluster`: what a job takes on the pools of a cluster, before a node is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raysft.cluster.pools.capacity import Fit, fit, require_room
from raysft.cluster.pools.catalogue import Pool, pools_on
from raysft.cluster.pools.forecast import assumed
from raysft.cluster.pools.need import Need, need_of
from raysft.cluster.pools.room import slots_by_count
from raysft.config import Cluster, Job, load_job
from raysft.errors import NoCapacity
from raysft.plan.precision import may_use_gpu
from raysft.plan.preflight import Check, Measured, check_job, check_on
from raysft.plan.refusals import refuse_on
from raysft.preparation.start import base_of
from raysft.tuning.space import Space


@dataclass(frozen=True)
class Holding:
    """What a cluster can do for a job, pool by pool."""

    name: str  # of the cluster
    kind: str
    gpu: bool  # whether workers have a GPU each
    pools: tuple[Pool, ...]  # as the file has them; none: what there is shows when the job runs
    fits: tuple[Fit, ...]  # those that hold the job first, the cheapest before the others
    assumed: list[str]  # what hours and dollars rest on
    instead: str = ""  # why it is CPUs, where train.device: auto had no room on GPUs

    def to_json(self) -> dict[str, Any]:
        """The `cluster` section of `raysft check --json`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "device": "gpu" if self.gpu else "cpu",
            "pools": [asdict(pool) for pool in self.pools],
            "fits": [asdict(each) for each in self.fits],
            "assumed": self.assumed,
            "instead": self.instead,
        }


def check_on_cluster(path: Path, cluster: Cluster, overrides: Sequence[str] = ()) -> tuple[Check, Holding]:
    """Validate a job and predict its run on a cluster; the plan is that on the cheapest pools that hold it.

    Raises what raysft.check raises about job and data, JobFileError about the cluster's pools, and NoCapacity where
    none of them can ever hold the job.
    """
    pools = pools_on(cluster)
    job = load_job(path, overrides)
    if job.config.tune is not None:
        Space.of(job)  # for what it refuses
    if not pools:
        return _without_pools(job, cluster)
    device = job.config.train.device
    gpu = device == "gpu" or (device == "auto" and any(pool.gpus for pool in pools))
    found, measured = check_on(job, base_of(job), gpu, here=False)
    need, instead = _need_with_room(job, cluster, pools, measured, gpu)
    fits = fit(pools, need)
    plan = measured.plan(need.gpu, fits[0].workers, fits[0].device_bytes)
    config = cluster.config
    holding = Holding(config.name, config.kind, need.gpu, pools, fits, assumed(need), instead)
    return replace(found, plan=plan), holding


def _without_pools(job: Job, cluster: Cluster) -> tuple[Check, Holding]:
    """Of this machine, or of machines of which nothing is told."""
    config, base = cluster.config, base_of(job)
    here = config.kind == "local"
    gpu = may_use_gpu(job.config.train.device) if here else job.config.train.device != "cpu"
    found = check_job(job, base) if here else check_on(job, base, gpu, here=False)[0]
    return found, Holding(config.name, config.kind, gpu, (), (), [])


def _need_with_room(
    job: Job, cluster: Cluster, pools: Sequence[Pool], measured: Measured, gpu: bool
) -> tuple[Need, str]:
    """What the job needs on the device that it will get; and why that is CPUs, where train.device is auto and there
    are fewer GPUs than workers. GPUs that lack the memory are taken nevertheless, as the run itself takes them.

    Raises NoCapacity where no pool has room.
    """
    need = need_of(measured, gpu)
    try:
        require_room(cluster.config.name, pools, need)
    except NoCapacity as error:
        enough = sum(slots_by_count(pool, need) * pool.most for pool in pools) >= need.fewest
        if not gpu or job.config.train.device != "auto" or enough:
            raise
        on_cpus = need_of(measured, gpu=False)
        if not any(each.holds for each in fit(pools, on_cpus)):
            raise
        refuse_on(job, gpu=False)
        return on_cpus, error.message
    return need, ""

"""One job as a RayJob, with a Ray cluster that is made for it: which pools it takes, and how it waits and ends."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from raysft.cluster.files.manifest import read_manifests
from raysft.cluster.files.rayjob import START_S, rayjob
from raysft.cluster.rules.kubernetes import findings
from raysft.config import load_cluster, load_job
from raysft.errors import NoCapacity, UsageError
from raysft.jobs.job_manifest import job_manifest
from tests.support.jobs import run_cli, write_job
from tests.support.manifests import COMMAND, FILE, Manifest, job_spec


def test_a_queued_job_is_admitted_with_all_of_its_nodes() -> None:
    spec = job_spec(4, 1)
    assert shlex.split(spec["entrypoint"]) == COMMAND
    group = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    assert [group[key] for key in ("replicas", "minReplicas", "maxReplicas")] == [4, 4, 4]
    assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    assert "suspend" not in spec
    pod = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "raysft-pods"  # without an autoscaler no pod has a key to Kubernetes
    assert "api-access" not in {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("queue", ["raysft-jobs", "null"])
def test_nodes_that_came_do_not_wait_for_ever_for_those_that_do_not(queue: str) -> None:
    """KubeRay counts from when the job is admitted."""
    assert job_spec(4, 1, f"kubernetes.queue={queue}")["preRunningDeadlineSeconds"] == START_S


def test_a_job_without_a_queue_is_autoscaled_and_goes_on_to_the_pool_behind() -> None:
    """Of one kind of GPU; where there is no spot node, it would else wait for days."""
    pools = (
        "pools=[{name: l4-spot, market: spot, cpus: 7, memory: 28, gpus: 1, gpu: L4, most: 8}, "
        "{name: big, cpus: 7, memory: 28, gpus: 4, gpu: A100, most: 8}, "
        "{name: few, cpus: 7, memory: 28, gpus: 1, gpu: L4, most: 3}, "
        "{name: l4, cpus: 7, memory: 28, gpus: 2, gpu: L4, most: 4, fewest: 1}]"
    )
    spec = job_spec(4, 1, "kubernetes.queue=null", "kubernetes.node_labels={}", pools)["rayClusterSpec"]
    assert spec["autoscalerOptions"]["version"] == "v2"
    keys = ("groupName", "replicas", "minReplicas", "maxReplicas", "priority")
    assert [[group[key] for key in keys] for group in spec["workerGroupSpecs"]] == [
        ["l4-spot", 0, 0, 4, 2],
        ["l4", 0, 0, 2, 1],
    ]


@pytest.mark.parametrize(
    ("workers", "gpus", "pool", "nodes"),
    [(4, 1, "l4-spot", 4), (8, 1, "l4-spot", 8), (2, 0, "cpu", 2), (1, 0, "cpu", 1)],
)
def test_a_job_takes_the_first_pool_that_holds_it(workers: int, gpus: int, pool: str, nodes: int) -> None:
    group = job_spec(workers, gpus)["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (group["groupName"], group["maxReplicas"]) == (pool, nodes)


def test_a_job_that_no_pool_holds_is_refused() -> None:
    with pytest.raises(
        NoCapacity, match=r"no pool of raysft holds 9 worker\(s\) with 1 GPU\(s\) each \(l4-spot: 8 x 1"
    ):
        job_spec(9, 1)


@pytest.mark.parametrize("name", ["", "Job", "9j", "a_b", "j-", "x" * 48, "a.b", "a\n"])
def test_names_that_kubernetes_would_not_take_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a RayJob"):
        rayjob(load_cluster(FILE), name, COMMAND, 1, 1)


def test_a_job_file_becomes_a_manifest(tmp_path: Path) -> None:
    job = write_job(tmp_path, tmp_path, name="My_Job.2", train={"workers": 3, "device": "gpu"}, output="results")
    done = run_cli("cluster", "render", FILE, "--job", job)
    assert done.returncode == 0, done.stderr
    assert "# The job file, with its data beside it, has to lie at /mnt/raysft/jobs/job.yaml." in done.stdout
    (document,) = read_manifests(done.stdout)
    assert document["metadata"]["name"] == "my-job-2"
    # Below a pod's own folder other nodes would not find it, and each try would pay for a cluster to say so.
    assert document["spec"]["entrypoint"] == (
        "raysft train /mnt/raysft/jobs/job.yaml --set output=/mnt/raysft/results --json"
    )
    assert document["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] == 3
    assert findings({"job.yaml": done.stdout}) == []


def test_a_job_takes_as_many_workers_as_it_may_have_and_a_pool_holds(tmp_path: Path) -> None:
    def group(workers: object, device: str, *overrides: str) -> Manifest:
        job = load_job(write_job(tmp_path, tmp_path, train={"workers": workers, "device": device}, output="results"))
        _, text = job_manifest(load_cluster(FILE, overrides), job)
        found: Manifest = read_manifests(text)[0]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
        return found

    assert (group({"min": 2, "max": 20}, "gpu")["groupName"], group({"min": 2, "max": 20}, "gpu")["replicas"]) == (
        "l4-spot",
        8,
    )
    assert group(2, "cpu")["groupName"] == "cpu"
    assert group(1, "auto")["groupName"] == "l4-spot"
    with pytest.raises(NoCapacity, match=r"holds 9 worker\(s\) with 1 GPU"):
        group(9, "gpu")
    with pytest.raises(UsageError, match=r"output: .* is not on the storage of the cluster \(/mnt/raysft\)"):
        job_manifest(load_cluster(FILE), load_job(write_job(tmp_path, tmp_path, output="/elsewhere")))
    with pytest.raises(UsageError, match="manifests of jobs are for Kubernetes"):
        job = load_job(write_job(tmp_path, tmp_path))
        job_manifest(load_cluster(FILE.parents[1] / "slurm/cluster.yaml"), job)

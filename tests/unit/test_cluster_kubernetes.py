"""Manifests of a Ray cluster on Kubernetes: what is rendered, and what of a cluster file cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysft.cluster.files.kubernetes import RAY_VERSION, render
from raysft.cluster.files.manifest import read_manifests
from raysft.config import load_cluster
from raysft.errors import JobFileError
from tests.support.manifests import FILE, Manifest, job_spec, ray_cluster, rendered

ROOT = FILE.parents[2]


def test_the_files_are_those_that_are_expected() -> None:
    assert sorted(rendered()) == sorted(
        ["raycluster.yaml", "networkpolicy.yaml", "rbac.yaml", "pvc.yaml", "pdb.yaml", "kueue.yaml"]
    )
    assert "kueue.yaml" not in rendered("kubernetes.queue=null")


def test_the_head_runs_no_work_and_stays_off_spot_nodes() -> None:
    head = ray_cluster()["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    term = head["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["nodeSelectorTerms"][0]["matchExpressions"] == [
        {"key": "cloud.google.com/gke-spot", "operator": "NotIn", "values": ["true"]}
    ]
    assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "120"} in head["template"]["spec"]["containers"][0]["env"]


def test_the_key_to_kubernetes_is_mounted_for_the_autoscaler_alone() -> None:
    spec = ray_cluster()
    pod = spec["headGroupSpec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False and "serviceAccountName" not in pod
    assert "api-access" not in [mount["name"] for mount in pod["containers"][0]["volumeMounts"]]
    assert "api-access" in [mount["name"] for mount in spec["autoscalerOptions"]["volumeMounts"]]
    names = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in spec["autoscalerOptions"]["volumeMounts"]} <= names


def test_pools_become_groups_in_their_order_with_their_labels() -> None:
    groups = ray_cluster("idle_minutes=2.5")["workerGroupSpecs"]
    assert [(group["groupName"], group["priority"], group["maxReplicas"]) for group in groups] == [
        ("l4-spot", 3, 8),
        ("l4", 2, 4),
        ("cpu", 1, 4),
    ]
    assert groups[0]["labels"] == {"raysft.io/pool": "l4-spot", "raysft.io/market": "spot"}
    assert [each["key"] for each in groups[0]["template"]["spec"]["tolerations"]] == [
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
    ]
    assert "tolerations" not in groups[2]["template"]["spec"]
    assert groups[0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert ray_cluster("idle_minutes=2.5")["autoscalerOptions"]["idleTimeoutSeconds"] == 150


def told_pools(cluster: Manifest) -> list[tuple[str, float, int]]:
    container = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    (text,) = [each["value"] for each in container["env"] if each["name"] == "RAYSFT_POOLS"] or ["[]"]
    return [(pool["name"], pool["memory_gib"], pool["most"]) for pool in json.loads(text)]


def test_drivers_are_told_what_the_cluster_may_grow_to() -> None:
    assert told_pools(ray_cluster()) == [("l4-spot", 28, 8), ("l4", 28, 4), ("cpu", 56, 4)]
    free = job_spec(2, 1, "kubernetes.queue=null")["rayClusterSpec"]
    assert told_pools(free) == [("l4-spot", 28, 2), ("l4", 28, 2)]
    assert told_pools(job_spec(2, 1)["rayClusterSpec"]) == []


def test_a_head_that_forgets_keeps_nothing() -> None:
    assert ray_cluster()["gcsFaultToleranceOptions"]["storage"]["claimName"] == "raysft-storage"
    assert "gcsFaultToleranceOptions" not in ray_cluster("kubernetes.lost_head=starts-anew")


def test_a_pod_leaves_room_on_a_node_that_is_known_by_its_machine_alone(tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8").replace("cpus: 7, memory: 28, gpus: 1, gpu: L4", "machine: g6.2xlarge")
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    files = render(load_cluster(tmp_path / "cluster.yaml"))
    group = read_manifests(files["raycluster.yaml"])[0]["spec"]["workerGroupSpecs"][0]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "7", "memory": "27Gi", "nvidia.com/gpu": "1"}  # of 8 CPUs, 32 GiB


def test_quotas_are_those_of_the_pools() -> None:
    queue = next(each for each in read_manifests(rendered()["kueue.yaml"]) if each["kind"] == "ClusterQueue")
    group = queue["spec"]["resourceGroups"][0]
    quotas = {each["name"]: [part["nominalQuota"] for part in each["resources"]] for each in group["flavors"]}
    assert quotas["raysft-l4-spot"] == ["56", "224Gi", "8"]
    assert quotas["raysft-cpu"] == ["56", "224Gi", "0"]
    assert list(quotas) == ["raysft-head", "raysft-l4-spot", "raysft-l4", "raysft-cpu"]


def test_a_quota_is_enough_for_the_last_pod_too() -> None:
    overrides = ("pools=[{name: a, cpus: 3, memory: 10.5, most: 3}]", "kubernetes.node_labels={}")
    queue = next(each for each in read_manifests(rendered(*overrides)["kueue.yaml"]) if each["kind"] == "ClusterQueue")
    (_, quota) = queue["spec"]["resourceGroups"][0]["flavors"]
    (group,) = ray_cluster(*overrides)["workerGroupSpecs"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == f"{int(10.5 * 1024)}Mi"
    assert quota["resources"][1] == {"name": "memory", "nominalQuota": "32Gi"}  # of 31.5


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name=9lives", "name: must begin with a letter on Kubernetes; found '9lives'"),
        ("kubernetes.spot_taint=spot", "kubernetes.spot_taint: must be KEY=VALUE, such as"),
        (
            "kubernetes.node_labels.a100={gpu: a100}",
            "kubernetes.node_labels.a100: no pool is called so; pools are l4-spot, l4",
        ),
        ("pools=[{name: a, cpus: 4}]", "pools.0.memory: must be given"),
        ("kubernetes.api_cidr=[]", "kubernetes.api_cidr: must be given: addresses of the API of Kubernetes, such as"),
        ("kubernetes.api_cidr=[0.0.0.0/0]", "kubernetes.api_cidr: 0.0.0.0/0 is everyone"),
    ],
)
def test_a_cluster_file_that_cannot_be_rendered_says_where(override: str, expected: str) -> None:
    overrides = [override, *(["kubernetes.node_labels={}"] if "pools" in override else [])]
    with pytest.raises(JobFileError) as caught:
        render(load_cluster(FILE, overrides))
    assert expected in str(caught.value) and str(caught.value).startswith("--set")


def test_versions_agree() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={RAY_VERSION}\n" in constraints

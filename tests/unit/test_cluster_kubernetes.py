"""Manifests of Kubernetes: what is rendered is what KubeRay's and Kueue's schemas take, and what our rules ask."""

from __future__ import annotations

import ast
import copy
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysft.cluster.files.kubernetes import RAY_VERSION, render
from raysft.cluster.files.kubernetes_pods import DRAIN
from raysft.cluster.files.manifest import as_manifests, read_manifests
from raysft.cluster.files.rayjob import rayjob
from raysft.cluster.rules import kubernetes, kubernetes_pods, kueue
from raysft.cluster.rules import rayjob as rayjob_rules
from raysft.cluster.rules.kubernetes import findings
from raysft.config import load_cluster, load_job
from raysft.errors import JobFileError, NoCapacity, UsageError
from raysft.jobs.job_manifest import job_manifest
from tests.support.custom_resources import FILES, NO_SCHEMAS, SCHEMAS, errors
from tests.support.jobs import run_cli, write_job

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster/kubernetes/cluster.yaml"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
with_schemas = pytest.mark.skipif(not SCHEMAS.is_dir(), reason=NO_SCHEMAS)
Manifest = dict[str, Any]
COMMAND = ["raysft", "train", "/mnt/raysft/jobs/two words.yaml", "--json"]
# Maps whose keys are names that people choose, so that a schema cannot know them.
FREE = {"labels", "annotations", "rayStartParams", "nodeSelector", "matchLabels", "requests", "limits", "nodeLabels"}


def documents() -> dict[str, Manifest]:
    """All that is rendered, by kind and name; a job with a queue and one without."""
    queued, free = load_cluster(FILE), load_cluster(FILE, ["kubernetes.queue=null"])
    files = {
        **render(queued),
        "queued": rayjob(queued, "queued", COMMAND, workers=4, gpus=1),
        "free": rayjob(free, "free", COMMAND, workers=2, gpus=0),
    }
    found = [document for text in files.values() for document in read_manifests(text)]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


DOCUMENTS = documents()
CUSTOM = [key for key in DOCUMENTS if key.partition("/")[0] in FILES]


@cache
def rendered(*overrides: str) -> dict[str, str]:
    return render(load_cluster(FILE, overrides))


@cache
def ray_cluster(*overrides: str) -> Manifest:
    found: Manifest = read_manifests(rendered(*overrides)["raycluster.yaml"])[0]["spec"]
    return found


def test_the_files_are_those_that_are_expected() -> None:
    assert sorted(rendered()) == sorted(
        ["raycluster.yaml", "networkpolicy.yaml", "rbac.yaml", "pvc.yaml", "pdb.yaml", "kueue.yaml"]
    )
    assert "kueue.yaml" not in rendered("kubernetes.queue=null")
    assert len(CUSTOM) == 11


@with_schemas
@pytest.mark.parametrize("key", CUSTOM)
def test_schemas_made_strict_take_what_is_rendered(key: str) -> None:
    assert errors(DOCUMENTS[key]) == []


def test_our_rules_find_nothing_in_what_is_rendered() -> None:
    files = {key: as_manifests([document], "x") for key, document in DOCUMENTS.items()}
    assert findings(files) == []
    assert findings(rendered("kubernetes.lost_head=starts-anew", "kubernetes.queue=null")) == []


# --- schemas refuse typos


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all keys that a schema has to know."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not (path and path[-1] in FREE):
                yield (*path, key)
                yield from places(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from places(value, (*path, index))


PLACES = [(key, path) for key in CUSTOM for path in places(DOCUMENTS[key])]


def misspelt(document: Manifest, path: tuple[Any, ...], how: str) -> Manifest:
    document = copy.deepcopy(document)
    parent: Any = document
    for step in path[:-1]:
        parent = parent[step]
    key = path[-1]
    wrong = {"longer": f"{key}s", "shorter": key[:-1], "capital": key[0].swapcase() + key[1:]}[how]
    items = [(wrong if name == key else name, value) for name, value in parent.items()]
    parent.clear()
    parent.update(items)
    return document


@with_schemas
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(PLACES), how=st.sampled_from(["longer", "shorter", "capital"]))
def test_a_typo_at_any_depth_is_refused(place: tuple[str, tuple[Any, ...]], how: str) -> None:
    key, path = place
    document = DOCUMENTS[key]
    if path == ("kind",):
        return  # says which schema is asked
    assert errors(misspelt(document, path, how)) != []


@with_schemas
def test_typos_are_tried_at_many_places() -> None:
    assert len(PLACES) > 600
    assert max(len(path) for _, path in PLACES) >= 12


@with_schemas
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.workerGroupSpecs.0.maxReplicas", "8"),
        ("spec.autoscalerOptions.version", "v3"),
        ("spec.authOptions.mode", "password"),
        ("spec.workerGroupSpecs.0.template.spec.containers.0.env.0.value", 1),
        ("spec.headGroupSpec.template.spec.terminationGracePeriodSeconds", "120"),
    ],
)
def test_values_of_a_wrong_type_are_refused(path: str, value: object) -> None:
    document = copy.deepcopy(DOCUMENTS["RayCluster/raysft"])
    put(document, path, value)
    assert len(errors(document)) == 1


# --- each rule has a manifest that breaks it


def put(document: Any, path: str, value: object) -> None:
    """Set what stands at a dotted path; ... takes it away."""
    *steps, last = path.split(".")
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document.setdefault(step, {})
    if isinstance(document, list):
        document[int(last)] = value
    elif value is ...:
        document.pop(last, None)
    else:
        document[last] = value


def many_groups(document: Manifest) -> None:
    spec = document["spec"]["rayClusterSpec"]
    spec["workerGroupSpecs"] = [{**spec["workerGroupSpecs"][0], "groupName": f"g{i}"} for i in range(18)]


def secret(document: Manifest) -> None:
    container = document["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "HF_TOKEN", "value": "hf_1234"})


def borrows(document: Manifest) -> None:
    document["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["borrowingLimit"] = "1"


HEAD, POD = "spec.headGroupSpec", "spec.workerGroupSpecs.0.template.spec"
CONTAINER = f"{POD}.containers.0"
RIGHTS = f"{CONTAINER}.securityContext"
RULE = {"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED", "ttlSeconds": 60}}
BOTH = {"condition": {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}, "policy": "DeleteSelf"}
C, Q, F = "RayCluster/raysft", "RayJob/queued", "RayJob/free"
FLAVOR, CQ = "ResourceFlavor/raysft-l4-spot", "ClusterQueue/raysft"
TOLERATED = [{"key": "a", "operator": "Exists", "value": "b"}]
# (document, what is changed: pairs of path and value, or a function; the key of the finding)
BREAKS: list[tuple[str, Any, str]] = [
    (C, [("metadata.name", "9lives")], "metadata.name"),
    (Q, [("metadata.name", "x" * 48)], "metadata.name"),
    (C, [("spec.managedBy", "me")], "spec.managedBy"),
    (Q, [("spec.managedBy", "me")], "spec.managedBy"),
    (Q, [("spec.rayClusterSpec.managedBy", "me")], "spec.rayClusterSpec.managedBy"),
    (F, [("spec.rayClusterSpec", ...)], "spec.rayClusterSpec"),
    (F, [("spec.activeDeadlineSeconds", ...)], "spec.activeDeadlineSeconds"),
    (F, [("spec.ttlSecondsAfterFinished", -1)], "spec.ttlSecondsAfterFinished"),
    (F, [("spec.shutdownAfterJobFinishes", False)], "spec.ttlSecondsAfterFinished"),
    (F, [("spec.shutdownAfterJobFinishes", False), ("spec.suspend", True)], "spec.suspend"),
    (F, [("spec.backoffLimit", -1)], "spec.backoffLimit"),
    (F, [("spec.deletionStrategy", {"deletionRules": [RULE]})], "spec.deletionStrategy"),
    (
        F,
        [
            ("spec.deletionStrategy", {"deletionRules": [RULE], "onSuccess": {"policy": "DeleteSelf"}}),
            ("spec.shutdownAfterJobFinishes", ...),
            ("spec.ttlSecondsAfterFinished", ...),
        ],
        "spec.deletionStrategy",
    ),
    (F, [("spec.deletionStrategy", {"onSuccess": {"policy": "DeleteSelf"}})], "spec.deletionStrategy"),
    (F, [("spec.deletionStrategy", {"deletionRules": [BOTH]})], "spec.deletionStrategy.deletionRules.0.condition"),
    (F, [("spec.submissionMode", "InteractiveMode")], "spec.backoffLimit"),
    (F, [("spec.submissionMode", "SidecarMode")], "spec.submitterPodTemplate"),
    (F, [("spec.submitterPodTemplate", ...)], "spec.submitterPodTemplate"),
    (F, [("spec.submitterPodTemplate.spec.hostNetwork", True)], "spec.submitterPodTemplate.spec.hostNetwork"),
    (Q, [("spec.shutdownAfterJobFinishes", False)], "spec.shutdownAfterJobFinishes"),
    (Q, [("spec.clusterSelector", {"ray.io/cluster": "x"})], "spec.clusterSelector"),
    (Q, [("spec.suspend", True)], "spec.suspend"),
    (Q, [("spec.rayClusterSpec.enableInTreeAutoscaling", True)], "spec.rayClusterSpec.enableInTreeAutoscaling"),
    (Q, many_groups, "spec.rayClusterSpec.workerGroupSpecs"),
    (Q, [("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", 0)], "spec.rayClusterSpec.workerGroupSpecs.0.replicas"),
    (C, [("metadata.labels", {"kueue.x-k8s.io/queue-name": "x"})], "spec.enableInTreeAutoscaling"),
    (C, [("spec.workerGroupSpecs.1.groupName", "cpu")], "spec.workerGroupSpecs"),
    (C, [(f"{POD}.restartPolicy", "Always")], f"{POD}.restartPolicy"),
    (C, [("spec.authOptions", ...)], "spec.authOptions"),
    (C, [("spec.authOptions.secretName", ...)], "spec.authOptions"),
    (C, [("spec.rayVersion", "2.9.0")], "spec.rayVersion"),
    (C, [(f"{HEAD}.rayStartParams", {})], f"{HEAD}.rayStartParams.num-cpus"),
    (C, [(f"{HEAD}.serviceType", "LoadBalancer")], f"{HEAD}.serviceType"),
    (C, [(f"{HEAD}.enableIngress", True)], f"{HEAD}.enableIngress"),
    (C, [(f"{HEAD}.template.spec.tolerations", [{"key": "gke-spot", "operator": "Exists"}])], f"{HEAD}.template.spec"),
    (C, [(f"{HEAD}.labels", {"raysft.io/market": "spot"})], f"{HEAD}.template.spec"),
    (C, [("spec.gcsFaultToleranceOptions.storage.size", "1Gi")], "spec.gcsFaultToleranceOptions.storage"),
    (C, [("spec.gcsFaultToleranceOptions.redisAddress", "x:1")], "spec.gcsFaultToleranceOptions"),
    (
        C,
        [("spec.gcsFaultToleranceOptions", {"backend": "redis", "redisPassword": {"value": "x"}})],
        "spec.gcsFaultToleranceOptions.redisPassword",
    ),
    (C, [("spec.workerGroupSpecs.0.minReplicas", 3)], "spec.workerGroupSpecs.0.replicas"),
    (C, [(f"{POD}.nodeSelector", ...), (f"{POD}.tolerations", ...)], POD),
    (C, [(f"{CONTAINER}.lifecycle", ...)], POD),
    (
        C,
        [("spec.workerGroupSpecs.0.rayStartParams", {"labels": "a=b"})],
        "spec.workerGroupSpecs.0.rayStartParams.labels",
    ),
    (
        C,
        [
            ("spec.workerGroupSpecs.0.rayStartParams", {"num-cpus": "4"}),
            ("spec.workerGroupSpecs.0.resources", {"CPU": "4"}),
        ],
        "spec.workerGroupSpecs.0.resources",
    ),
    (C, [(f"{POD}.hostNetwork", True)], f"{POD}.hostNetwork"),
    (C, [(f"{POD}.volumes.0", {"name": "storage", "hostPath": {"path": "/"}})], f"{POD}.volumes.0.hostPath"),
    (C, [(f"{POD}.automountServiceAccountToken", ...)], f"{POD}.automountServiceAccountToken"),
    (C, [(f"{POD}.securityContext.runAsUser", 0)], f"{POD}.securityContext.runAsUser"),
    (C, [(f"{RIGHTS}.privileged", True)], f"{RIGHTS}.privileged"),
    (C, [(f"{RIGHTS}.allowPrivilegeEscalation", ...)], f"{RIGHTS}.allowPrivilegeEscalation"),
    (C, [(f"{RIGHTS}.runAsNonRoot", False)], f"{RIGHTS}.runAsNonRoot"),
    (C, [(f"{RIGHTS}.capabilities", ...)], f"{RIGHTS}.capabilities.drop"),
    (C, [(f"{RIGHTS}.capabilities.add", ["SYS_ADMIN"])], f"{RIGHTS}.capabilities.add"),
    (C, [(f"{RIGHTS}.readOnlyRootFilesystem", False)], f"{RIGHTS}.readOnlyRootFilesystem"),
    (C, [(f"{RIGHTS}.seccompProfile.type", "Unconfined")], f"{RIGHTS}.seccompProfile"),
    (C, [(f"{CONTAINER}.image", "raysft:latest")], f"{CONTAINER}.image"),
    (C, [(f"{CONTAINER}.image", "host:5000/raysft")], f"{CONTAINER}.image"),
    (C, [(f"{CONTAINER}.resources.limits", ...)], f"{CONTAINER}.resources.limits"),
    (C, [(f"{CONTAINER}.resources.requests.cpu", "1")], f"{CONTAINER}.resources"),
    (C, secret, f"{CONTAINER}.env.11"),
    (C, [(f"{POD}.volumes.2", {"name": "other", "emptyDir": {}})], f"{CONTAINER}.volumeMounts"),
    (C, [(f"{POD}.volumes.1.emptyDir", {})], f"{CONTAINER}.volumeMounts"),
    ("ServiceAccount/raysft", [("automountServiceAccountToken", ...)], "automountServiceAccountToken"),
    ("NetworkPolicy/raysft-within", [("spec.ingress.0", {})], "spec.ingress.0"),
    ("NetworkPolicy/raysft-within", [("spec.ingress.0.from.0", {"ipBlock": {"cidr": "0.0.0.0/0"}})], "spec.ingress.0"),
    ("NetworkPolicy/raysft-within", [("spec.egress.0.to.0", {"ipBlock": {"cidr": "::/0"}})], "spec.egress.0"),
    ("NetworkPolicy/raysft-autoscaler", [("spec.egress.0.to", ...)], "spec.egress.0"),
    ("NetworkPolicy/raysft-autoscaler", [("spec.egress.0.to", [])], "spec.egress.0"),
    (
        "NetworkPolicy/raysft-autoscaler",
        [("spec.egress.0.to.0", {"ipBlock": {"cidr": "0.0.0.0/0"}})],
        "spec.egress.0",
    ),
    ("PodDisruptionBudget/raysft-head", [("spec", {"minAvailable": 1})], "spec.maxUnavailable"),
    ("NetworkPolicy/raysft-deny-all", [("spec.podSelector.matchLabels", {"a": "b"})], "metadata"),
    (FLAVOR, [("spec.nodeTaints.0.effect", "Never")], "spec.nodeTaints.0.effect"),
    (FLAVOR, [("spec.tolerations", TOLERATED)], "spec.tolerations.0"),
    (FLAVOR, [("spec.topologyName", "t"), ("spec.nodeLabels", ...)], "spec.nodeLabels"),
    (CQ, [("spec.resourceGroups.0.coveredResources", ["cpu"])], "spec.resourceGroups.0.flavors.0.resources"),
    (CQ, borrows, "spec.resourceGroups.0.flavors.0.resources"),
    (CQ, [("spec.flavorFungibility", {"preference": "x"})], "spec.flavorFungibility.preference"),
    (CQ, [("spec.resourceGroups.0.flavors.0.name", "none")], "spec.resourceGroups"),
    ("LocalQueue/raysft-jobs", [("spec.clusterQueue", "none")], "spec.clusterQueue"),
    (Q, [("metadata.labels", {"kueue.x-k8s.io/queue-name": "x"})], "metadata.labels.kueue.x-k8s.io/queue-name"),
]


def changed(key: str, change: Any) -> dict[str, Manifest]:
    """All documents, one of them changed."""
    document = copy.deepcopy(DOCUMENTS[key])
    if callable(change):
        change(document)
    else:
        for path, value in copy.deepcopy(change):
            put(document, path, value)
    return {**DOCUMENTS, key: document}


@pytest.mark.parametrize(("key", "change", "expected"), BREAKS, ids=[f"{i}-{b[2]}" for i, b in enumerate(BREAKS)])
def test_a_manifest_that_breaks_a_rule_is_found(key: str, change: Any, expected: str) -> None:
    found = kubernetes.findings_in(list(changed(key, change).items()))
    assert expected in {finding.key for finding in found}
    assert all(finding.what and finding.fix.endswith(".") for finding in found)


def test_each_rule_has_a_manifest_that_breaks_it() -> None:
    """The lines of all rules that say what is wrong, against those that were reached."""
    modules = [kubernetes, kubernetes_pods, kueue, rayjob_rules]
    rules = {Path(str(module.__file__)): said(Path(str(module.__file__))) for module in modules}
    reached: set[tuple[str, int]] = set()

    def follow(frame: Any, event: str, _: object) -> Callable[..., Any] | None:
        if Path(frame.f_code.co_filename) not in rules:
            return None
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        return follow

    for key, change, _ in BREAKS:
        documents = changed(key, change)
        before = sys.gettrace()
        sys.settrace(follow)
        try:
            list(kubernetes._rules(documents[key]))
            list(kueue.kueue_rules(documents[key], list(documents.values())))
        finally:
            sys.settrace(before)
    missed = [(path.name, line) for path, lines in rules.items() for line in lines if (str(path), line) not in reached]
    assert missed == []
    assert sum(len(lines) for lines in rules.values()) > 50


def said(path: Path) -> list[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Yield)]


# --- what is rendered


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
    assert told_pools(job_spec(2, 1, "kubernetes.queue=null")["rayClusterSpec"]) == [("l4-spot", 28, 2)]
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


def test_policies_let_in_who_is_named_and_nobody_else() -> None:
    policies = read_manifests(rendered()["networkpolicy.yaml"])
    assert [policy["metadata"]["name"].removeprefix("raysft-") for policy in policies] == [
        "deny-all",
        "within",
        "names",
        "dashboard",
        "autoscaler",
    ]
    came = [
        (end, rule.get("ports"))
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        for end in rule["from"]
    ]
    assert len(came) == 3
    assert all("ipBlock" not in end for end, _ in came)
    assert [ports[0]["port"] for _, ports in came if ports] == [8265, 8265]


def test_drivers_reach_the_api_and_nobody_else_outside() -> None:
    out = [
        rule for policy in read_manifests(rendered()["networkpolicy.yaml"]) for rule in policy["spec"].get("egress", [])
    ]
    assert len(out) == 3 and all(rule["to"] for rule in out)
    blocks = [end["ipBlock"]["cidr"] for rule in out for end in rule["to"] if "ipBlock" in end]
    assert blocks == ["10.96.0.1/32", "172.16.0.2/32"]


def test_no_head_may_be_evicted_however_many_there_are() -> None:
    (budget,) = read_manifests(rendered()["pdb.yaml"])
    assert budget["spec"] == {
        "maxUnavailable": 0,
        "selector": {"matchLabels": {"raysft.io/cluster": "raysft", "raysft.io/role": "head"}},
    }


def test_a_claim_is_made_as_told_and_one_that_is_there_is_left_alone() -> None:
    (claim,) = read_manifests(rendered("kubernetes.storage_gib=64", "kubernetes.storage_class=nfs")["pvc.yaml"])
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "nfs",
        "resources": {"requests": {"storage": "64Gi"}},
    }
    (usual,) = read_manifests(rendered("kubernetes.storage_class=null")["pvc.yaml"])
    assert "storageClassName" not in usual["spec"]
    assert "pvc.yaml" not in rendered("kubernetes.storage_gib=null", "kubernetes.storage_class=null")
    with pytest.raises(JobFileError, match=r"yaml:\d+: kubernetes.storage_class: takes no effect without storage_gib"):
        rendered("kubernetes.storage_gib=null")


def test_quotas_are_those_of_the_pools() -> None:
    queue = next(each for each in read_manifests(rendered()["kueue.yaml"]) if each["kind"] == "ClusterQueue")
    group = queue["spec"]["resourceGroups"][0]
    quotas = {each["name"]: [part["nominalQuota"] for part in each["resources"]] for each in group["flavors"]}
    assert quotas["raysft-l4-spot"] == ["56", "224Gi", "8"]
    assert quotas["raysft-cpu"] == ["56", "224Gi", "0"]
    assert list(quotas) == ["raysft-head", "raysft-l4-spot", "raysft-l4", "raysft-cpu"]


# --- one job


def job_spec(workers: int, gpus: int, *overrides: str) -> Manifest:
    cluster = load_cluster(FILE, overrides)
    found: Manifest = read_manifests(rayjob(cluster, "j", COMMAND, workers, gpus))[0]["spec"]
    return found


def test_a_queued_job_is_admitted_with_all_of_its_nodes() -> None:
    spec = job_spec(4, 1)
    assert shlex.split(spec["entrypoint"]) == COMMAND
    group = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    assert [group[key] for key in ("replicas", "minReplicas", "maxReplicas")] == [4, 4, 4]
    assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    assert "suspend" not in spec and "preRunningDeadlineSeconds" not in spec
    pod = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "raysft"  # without an autoscaler no pod has a key to Kubernetes
    assert "api-access" not in {volume["name"] for volume in pod["volumes"]}


def test_a_job_without_a_queue_is_autoscaled() -> None:
    spec = job_spec(4, 1, "kubernetes.queue=null")
    group = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    assert [group[key] for key in ("replicas", "minReplicas", "maxReplicas")] == [0, 0, 4]
    assert spec["rayClusterSpec"]["autoscalerOptions"]["version"] == "v2"


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
        job_manifest(load_cluster(ROOT / "cluster/slurm/cluster.yaml"), job)


# --- bad cluster files


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


def test_the_files_beside_the_cluster_file_are_what_it_renders_to() -> None:
    for name, text in rendered().items():
        assert (FILE.parent / name).read_text(encoding="utf-8") == text, name


def test_the_hook_that_drains_a_pod_is_a_script_without_fault(tmp_path: Path) -> None:
    script = tmp_path / "drain.sh"
    script.write_text(f"#!/bin/bash\n{DRAIN}", encoding="utf-8")
    done = subprocess.run([SHELLCHECK, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_hook_ends_at_once_where_no_ray_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            "bash",
            "-c",
            DRAIN,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    if re.search("unshare.*(not permitted|failed)", done.stderr):
        pytest.skip("this machine gives no process a space of its own")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

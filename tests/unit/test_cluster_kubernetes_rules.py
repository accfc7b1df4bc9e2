"""Each rule for manifests of Kubernetes has a manifest that breaks it, and finds nothing in what is rendered."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysft.cluster.files.manifest import as_manifests
from raysft.cluster.rules import kubernetes, kubernetes_pods, kueue
from raysft.cluster.rules import rayjob as rayjob_rules
from raysft.cluster.rules.kubernetes import findings
from tests.support.manifests import Manifest, documents, put, rendered

DOCUMENTS = documents()


def test_our_rules_find_nothing_in_what_is_rendered() -> None:
    files = {key: as_manifests([document], "x") for key, document in DOCUMENTS.items()}
    assert findings(files) == []
    assert findings(rendered("kubernetes.lost_head=starts-anew", "kubernetes.queue=null")) == []


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
    (C, [(f"{POD}.serviceAccountName", "raysft")], f"{POD}.serviceAccountName"),
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
    ("ServiceAccount/raysft-pods", [("automountServiceAccountToken", ...)], "automountServiceAccountToken"),
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

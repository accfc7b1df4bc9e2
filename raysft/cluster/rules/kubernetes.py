"""What the schemas of KubeRay and Kueue cannot say of a manifest, and what we ask of one beyond them.

A rule is a function that yields (key, what is wrong, what to do) for one part of a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from raysft.cluster.files.manifest import Manifest, read_manifests
from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.kubernetes_pods import Broken, pod_rules
from raysft.cluster.rules.kueue import kueue_rules
from raysft.cluster.rules.rayjob import job_rules, queued_cluster_rules
from raysft.config.cluster import ANYWHERE
from raysft.config.labels import MARKET

MANAGERS = ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST = {"RayCluster": 63, "RayJob": 47}
OLDEST_WITH_TOKEN = (2, 52)


def findings(files: Mapping[str, str]) -> list[Finding]:
    """Everything that is wrong in these manifests. files: name -> text. Raises YAMLError for what is no YAML."""
    return findings_in([(name, document) for name, text in files.items() for document in read_manifests(text)])


def findings_in(documents: Sequence[tuple[str, Manifest]]) -> list[Finding]:
    """The same of documents that are read, each with the name of its file."""
    together = [document for _, document in documents]
    found = []
    for name, document in documents:
        rules = (_rules(document), kueue_rules(document, together))
        found += [Finding(name, *broken) for rule in rules for broken in rule]
    return found + _without_policy(documents)


def _rules(document: Manifest) -> Iterator[Broken]:
    kind, spec = document.get("kind"), document.get("spec") or {}
    if kind in LONGEST:
        yield from _names(document)
    if kind == "RayCluster":
        yield from _managed(spec, "spec")
        yield from _cluster(spec, "spec")
        yield from _accounts(document, spec)
        yield from queued_cluster_rules(document, spec, "spec")
    elif kind == "RayJob":
        yield from _job(document, spec)
    elif kind == "NetworkPolicy":
        yield from _policy(spec)
    elif kind == "PodDisruptionBudget" and spec.get("maxUnavailable") != 0:
        yield (
            "spec.maxUnavailable",
            "of several heads one may be evicted, with its jobs",
            "Set it to 0, and nothing else.",
        )
    elif kind == "ServiceAccount" and document.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken", "pods get a key to the API of Kubernetes", "Set it to false."


def _names(document: Manifest) -> Iterator[Broken]:
    name, longest = document.get("metadata", {}).get("name", ""), LONGEST[document["kind"]]
    if not NAME.fullmatch(name) or len(name) > longest:
        yield (
            "metadata.name",
            f"{name!r} is no name for a {document['kind']}",
            f"Small letters, digits and dashes, a letter first, at most {longest}.",
        )


def _managed(spec: Mapping[str, Any], at: str) -> Iterator[Broken]:
    if spec.get("managedBy", MANAGERS[0]) not in MANAGERS:
        yield f"{at}.managedBy", f"{spec['managedBy']!r} manages no cluster", f"One of {', '.join(MANAGERS)}."


def _job(document: Manifest, spec: Mapping[str, Any]) -> Iterator[Broken]:
    yield from _managed(spec, "spec")
    yield from job_rules(document)
    if cluster := spec.get("rayClusterSpec"):
        yield from _managed(cluster, "spec.rayClusterSpec")
        yield from _cluster(cluster, "spec.rayClusterSpec")
        yield from queued_cluster_rules(document, cluster, "spec.rayClusterSpec")
    if template := spec.get("submitterPodTemplate"):
        yield from pod_rules(template, "spec.submitterPodTemplate")


def _cluster(spec: Mapping[str, Any], at: str) -> Iterator[Broken]:
    yield from _access(spec, at)
    yield from _head(spec.get("headGroupSpec") or {}, f"{at}.headGroupSpec")
    yield from _memory_of_head(spec.get("gcsFaultToleranceOptions"), f"{at}.gcsFaultToleranceOptions")
    groups = spec.get("workerGroupSpecs") or []
    names = [group.get("groupName") for group in groups]
    if len(set(names)) < len(names):
        yield f"{at}.workerGroupSpecs", "two groups have one name", "Give each a name of its own."
    for index, group in enumerate(groups):
        yield from _group(group, f"{at}.workerGroupSpecs.{index}")
    for place, group in [("headGroupSpec", spec.get("headGroupSpec") or {}), *_numbered("workerGroupSpecs", groups)]:
        yield from _start(group, f"{at}.{place}")
        policy = (group.get("template") or {}).get("spec", {}).get("restartPolicy", "Never")
        if spec.get("enableInTreeAutoscaling") and policy != "Never":
            yield (
                f"{at}.{place}.template.spec.restartPolicy",
                "the autoscaler needs pods that end once",
                "Leave it out.",
            )


def _numbered(name: str, groups: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(f"{name}.{index}", group) for index, group in enumerate(groups)]


def _access(spec: Mapping[str, Any], at: str) -> Iterator[Broken]:
    options = spec.get("authOptions") or {}
    if options.get("mode") != "token" or not options.get("secretName"):
        yield f"{at}.authOptions", "whoever reaches the dashboard may run anything", "Set mode: token and secretName."
    version = tuple(int(part) for part in re.findall(r"\d+", str(spec.get("rayVersion", "")))[:2])
    if version < OLDEST_WITH_TOKEN:
        yield f"{at}.rayVersion", "tokens are known from Ray 2.52 on", "Give the version of the image, such as 2.60.0."


def _head(head: Mapping[str, Any], at: str) -> Iterator[Broken]:
    if (head.get("rayStartParams") or {}).get("num-cpus") != "0":
        yield f"{at}.rayStartParams.num-cpus", "the head would run work of jobs", 'Set it to "0".'
    if head.get("serviceType", "ClusterIP") != "ClusterIP":
        yield (
            f"{at}.serviceType",
            "opens the dashboard to others",
            "Set it to ClusterIP; reach it by kubectl port-forward.",
        )
    if head.get("enableIngress"):
        yield f"{at}.enableIngress", "opens the dashboard to others", "Leave it out; reach it by kubectl port-forward."
    spec = (head.get("template") or {}).get("spec") or {}
    places = {**(spec.get("nodeSelector") or {}), **(head.get("labels") or {})}
    tolerated = [each.get("key", "") for each in spec.get("tolerations") or []]
    if places.get(MARKET) == "spot" or any("spot" in key for key in [*tolerated, *places]):
        yield (
            f"{at}.template.spec",
            "the head may stand on a spot node, and takes all jobs with it",
            "Keep it off them.",
        )


def _accounts(document: Manifest, spec: Mapping[str, Any]) -> Iterator[Broken]:
    """KubeRay calls the account of an autoscaler as the cluster is called, and gives it the right to scale."""
    for place, group in _numbered("workerGroupSpecs", spec.get("workerGroupSpecs") or []):
        account = (group.get("template") or {}).get("spec", {}).get("serviceAccountName")
        if spec.get("enableInTreeAutoscaling") and account == document["metadata"]["name"]:
            key = f"spec.{place}.template.spec.serviceAccountName"
            yield key, "pods where jobs run have the account that may scale", "Give them another one."


def _memory_of_head(options: Mapping[str, Any] | None, at: str) -> Iterator[Broken]:
    if options is None:
        return
    storage = options.get("storage") or {}
    given = [key for key in ("size", "storageClassName", "accessModes", "deletionPolicy") if key in storage]
    if "claimName" in storage and given:
        yield f"{at}.storage", f"claimName excludes {', '.join(given)}", "Keep claimName."
    redis = [key for key in ("redisAddress", "redisUsername", "redisPassword") if key in options]
    if options.get("backend") == "rocksdb" and redis:
        yield at, f"rocksdb excludes {', '.join(redis)}", "Leave them out."
    for key in ("redisUsername", "redisPassword"):
        if (options.get(key) or {}).get("value"):
            yield f"{at}.{key}", "a secret in the open", "Give valueFrom.secretKeyRef."


def _group(group: Mapping[str, Any], at: str) -> Iterator[Broken]:
    least, some, most = (group.get(key, 0) for key in ("minReplicas", "replicas", "maxReplicas"))
    if not least <= some <= most:
        yield (
            f"{at}.replicas",
            f"{some} is not between {least} and {most}",
            "Set minReplicas <= replicas <= maxReplicas.",
        )
    spec = (group.get("template") or {}).get("spec") or {}
    spot = (group.get("labels") or {}).get(MARKET) == "spot"
    if spot and not spec.get("nodeSelector") and not spec.get("tolerations"):
        yield (
            f"{at}.template.spec",
            "nothing leads its pods to spot nodes",
            "Give node_labels of the pool, or spot_taint.",
        )
    hooks = [(container.get("lifecycle") or {}).get("preStop") for container in spec.get("containers") or []]
    if not any(hooks):
        yield f"{at}.template.spec", "a pod that is ended does not say so to Ray", "Give a preStop hook that drains it."


def _start(group: Mapping[str, Any], at: str) -> Iterator[Broken]:
    given = group.get("rayStartParams") or {}
    if "labels" in given:
        yield f"{at}.rayStartParams.labels", "KubeRay takes labels from the group", f"Move them to {at}.labels."
    if group.get("resources") and set(given) & {"num-cpus", "num-gpus", "memory", "resources"}:
        yield f"{at}.resources", "says again what rayStartParams say", "Keep one of the two."
    yield from pod_rules(group.get("template") or {}, f"{at}.template")


def _policy(spec: Mapping[str, Any]) -> Iterator[Broken]:
    for way, ends in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(way) or []):
            blocks = [(end.get("ipBlock") or {}).get("cidr") for end in rule.get(ends) or []]
            if way == "ingress" and (not rule.get(ends) or set(blocks) & ANYWHERE):
                yield f"spec.{way}.{index}", "lets everybody in", "Name pods, namespaces or a range of addresses."
            if way == "egress" and (not rule.get(ends) or set(blocks) & ANYWHERE):
                yield f"spec.{way}.{index}", "lets pods reach everybody", "Name who: pods, or a range of addresses."


def _without_policy(documents: Sequence[tuple[str, Manifest]]) -> list[Finding]:
    """Each cluster has its policy that denies what no other allows."""
    denied = [
        document["spec"].get("podSelector", {}).get("matchLabels", {}).items()
        for _, document in documents
        if document.get("kind") == "NetworkPolicy" and not {"ingress", "egress"} & set(document["spec"])
    ]
    open_ = [
        (name, document)
        for name, document in documents
        if document.get("kind") == "RayCluster"
        and not any(labels <= document["metadata"].get("labels", {}).items() for labels in denied)
    ]
    fix = "Render networkpolicy.yaml beside it."
    return [Finding(name, "metadata", "no NetworkPolicy denies what is not allowed", fix) for name, _ in open_]

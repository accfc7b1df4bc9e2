"""What schemas cannot say of a RayJob: how it ends, how it is handed in, and what Kueue asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raysft.cluster.files.kueue import QUEUE
from raysft.cluster.files.manifest import Manifest
from raysft.cluster.rules.kubernetes_pods import Broken

MOST_GROUPS = 17  # of workers that Kueue counts in one RayJob


def job_rules(document: Manifest) -> Iterator[Broken]:
    """All that is wrong in a RayJob, but for its cluster and its pods."""
    spec = document.get("spec") or {}
    yield from _ending(spec)
    yield from _deletion(spec)
    yield from _submission(spec)
    if not spec.get("rayClusterSpec") and not spec.get("clusterSelector"):
        yield "spec.rayClusterSpec", "no cluster to run on", "Give rayClusterSpec."
    if not spec.get("activeDeadlineSeconds"):
        yield "spec.activeDeadlineSeconds", "a job that hangs costs money for ever", "Give a limit in seconds."
    if _queue(document):
        yield from _queued_job(spec)


def queued_cluster_rules(document: Manifest, spec: Mapping[str, Any], at: str) -> Iterator[Broken]:
    """Of a cluster in a queue: Kueue admits a size once, and what grows afterwards would be counted by nobody."""
    if not _queue(document):
        return
    if spec.get("enableInTreeAutoscaling"):
        yield f"{at}.enableInTreeAutoscaling", "Kueue admits what does not grow", "Set it to false."
    groups = spec.get("workerGroupSpecs") or []
    if len(groups) > MOST_GROUPS:
        yield f"{at}.workerGroupSpecs", f"{len(groups)} groups", f"Kueue counts {MOST_GROUPS} at most."
    for index, group in enumerate(groups):
        sizes = {group.get(key) for key in ("replicas", "minReplicas", "maxReplicas")}
        if len(sizes) > 1:
            key = f"{at}.workerGroupSpecs.{index}.replicas"
            yield key, "would be admitted without all of its nodes", "Set replicas, minReplicas and maxReplicas alike."


def _ending(spec: Mapping[str, Any]) -> Iterator[Broken]:
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "spec.ttlSecondsAfterFinished", "is negative", "Seconds, 0 or more."
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        yield (
            "spec.ttlSecondsAfterFinished",
            "has no effect where nothing is shut down",
            "Set shutdownAfterJobFinishes to true.",
        )
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield (
            "spec.suspend",
            "a job that keeps its cluster cannot be suspended",
            "Set shutdownAfterJobFinishes to true.",
        )
    if spec.get("backoffLimit", 0) < 0:
        yield "spec.backoffLimit", "is negative", "Retries, 0 or more."


def _deletion(spec: Mapping[str, Any]) -> Iterator[Broken]:
    """The rules that stand in the schema as x-kubernetes-validations, and KubeRay's own of the two ways together."""
    at, strategy = "spec.deletionStrategy", spec.get("deletionStrategy")
    if strategy is None:
        return
    rules = strategy.get("deletionRules")
    legacy = [key for key in ("onSuccess", "onFailure") if key in strategy]
    if rules is not None and legacy:
        yield at, f"deletionRules and {' and '.join(legacy)} exclude each other", "Keep deletionRules."
    if rules is None and len(legacy) < 2:
        yield at, "says nothing", "Give deletionRules, or both onSuccess and onFailure."
    if rules is not None and (spec.get("shutdownAfterJobFinishes") or spec.get("ttlSecondsAfterFinished")):
        yield (
            at,
            "deletionRules exclude shutdownAfterJobFinishes and ttlSecondsAfterFinished",
            "Keep one of the two ways.",
        )
    for index, rule in enumerate(rules or []):
        states = [key for key in ("jobStatus", "jobDeploymentStatus") if key in rule.get("condition", {})]
        if len(states) != 1:
            key = f"{at}.deletionRules.{index}.condition"
            yield key, "names one state, either way", "Give jobStatus or jobDeploymentStatus, and not both."


def _submission(spec: Mapping[str, Any]) -> Iterator[Broken]:
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode == "InteractiveMode" and spec.get("backoffLimit"):
        yield "spec.backoffLimit", "an interactive job is not tried again", "Set it to 0."
    for key in ("submitterPodTemplate", "submitterConfig"):
        if mode == "SidecarMode" and spec.get(key):
            yield f"spec.{key}", "has no place beside a sidecar", "Leave it out, or use K8sJobMode."
    if mode == "K8sJobMode" and not spec.get("submitterPodTemplate"):
        yield (
            "spec.submitterPodTemplate",
            "KubeRay's own submitter may be root, and may write its file system",
            "Give a template that may not.",
        )


def _queue(document: Manifest) -> str:
    labels = document.get("metadata", {}).get("labels") or {}
    return str(labels.get(QUEUE, ""))


def _queued_job(spec: Mapping[str, Any]) -> Iterator[Broken]:
    if not spec.get("shutdownAfterJobFinishes"):
        yield "spec.shutdownAfterJobFinishes", "Kueue would hold the quota of a finished job", "Set it to true."
    if spec.get("clusterSelector"):
        yield "spec.clusterSelector", "Kueue admits jobs with clusters of their own alone", "Give rayClusterSpec."
    if "suspend" in spec:
        yield "spec.suspend", "is Kueue's to set", "Leave it out."

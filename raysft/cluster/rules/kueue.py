"""What Kueue's schemas cannot say of its queues and flavors, and whether they know each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raysft.cluster.files.kueue import PRIORITY, QUEUE
from raysft.cluster.files.manifest import Manifest
from raysft.cluster.rules.kubernetes_pods import Broken

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def kueue_rules(document: Manifest, together: Sequence[Manifest]) -> Iterator[Broken]:
    """All that is wrong in one document. together: those that it is applied with."""
    kind, spec = document.get("kind"), document.get("spec") or {}
    if kind == "ResourceFlavor":
        yield from _flavor(spec)
    elif kind == "ClusterQueue":
        yield from _quotas(spec)
        yield from _known_flavors(spec, _names(together, "ResourceFlavor"))
    elif kind == "LocalQueue" and spec.get("clusterQueue") not in _names(together, "ClusterQueue"):
        yield (
            "spec.clusterQueue",
            f"no ClusterQueue {spec.get('clusterQueue')} beside it",
            "Name the one that is there.",
        )
    elif kind == "RayJob":
        yield from _asked_for(document, together)


def _names(together: Sequence[Manifest], kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in together if each.get("kind") == kind}


def _flavor(spec: Mapping[str, Any]) -> Iterator[Broken]:
    """The schema's x-kubernetes-validations."""
    for index, taint in enumerate(spec.get("nodeTaints") or []):
        if taint.get("effect") not in EFFECTS:
            yield f"spec.nodeTaints.{index}.effect", f"{taint.get('effect')!r} is none", f"One of {', '.join(EFFECTS)}."
    for index, each in enumerate(spec.get("tolerations") or []):
        operator = each.get("operator", "Equal")
        wrong = operator not in ("Equal", "Exists") or (operator == "Exists" and "value" in each)
        wrong |= "key" not in each and operator != "Exists"
        wrong |= "tolerationSeconds" in each and each.get("effect") != "NoExecute"
        if wrong or each.get("effect", EFFECTS[0]) not in EFFECTS:
            yield f"spec.tolerations.{index}", "tolerates nothing", "Give key, operator, value and effect of a taint."
    if spec.get("topologyName") and not spec.get("nodeLabels"):
        yield "spec.nodeLabels", "a topology has labels", "Give one at least."


def _quotas(spec: Mapping[str, Any]) -> Iterator[Broken]:
    for place, group in enumerate(spec.get("resourceGroups") or []):
        covered = group.get("coveredResources", [])
        for index, flavor in enumerate(group.get("flavors", [])):
            at = f"spec.resourceGroups.{place}.flavors.{index}"
            if [each.get("name") for each in flavor.get("resources", [])] != covered:
                yield f"{at}.resources", "are not those of coveredResources", "Give each of them, in that order."
            if "cohortName" not in spec and any("borrowingLimit" in each for each in flavor.get("resources", [])):
                yield f"{at}.resources", "borrows where there is no cohort", "Leave borrowingLimit out."
    fungible = spec.get("flavorFungibility") or {}
    tried = {fungible.get("whenCanBorrow", "MayStopSearch"), fungible.get("whenCanPreempt", "TryNextFlavor")}
    if "preference" in fungible and tried != {"TryNextFlavor"}:
        yield "spec.flavorFungibility.preference", "has no effect", "Set both of the others to TryNextFlavor."


def _known_flavors(spec: Mapping[str, Any], known: set[str]) -> Iterator[Broken]:
    for group in spec.get("resourceGroups") or []:
        for flavor in group.get("flavors", []):
            if flavor.get("name") not in known:
                yield (
                    "spec.resourceGroups",
                    f"no ResourceFlavor {flavor.get('name')} beside it",
                    "Add it, or its quota goes.",
                )


def _asked_for(document: Manifest, together: Sequence[Manifest]) -> Iterator[Broken]:
    """Where queues stand beside a job, its own is among them."""
    labels = document.get("metadata", {}).get("labels") or {}
    for label, kind in ((QUEUE, "LocalQueue"), (PRIORITY, "WorkloadPriorityClass")):
        known = _names(together, kind)
        if known and label in labels and labels[label] not in known:
            yield (
                f"metadata.labels.{label}",
                f"no {kind} {labels[label]} beside it",
                f"One of {', '.join(sorted(known))}.",
            )

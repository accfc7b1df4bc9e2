"""Who may reach whom on Kubernetes, and what all pods share: policies of the network, an account, a claim, a budget."""

from __future__ import annotations

import pytest

from raysft.cluster.files.manifest import read_manifests
from raysft.errors import JobFileError
from tests.support.manifests import Manifest, ray_cluster, rendered


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


def ways_out() -> dict[str, Manifest]:
    """By the name of the policy."""
    policies = read_manifests(rendered()["networkpolicy.yaml"])
    return {policy["metadata"]["name"]: rule for policy in policies for rule in policy["spec"].get("egress", [])}


def blocks(rule: Manifest) -> list[str]:
    return [end["ipBlock"]["cidr"] for end in rule["to"] if "ipBlock" in end]


def test_drivers_reach_the_api_and_nobody_else_outside() -> None:
    out = ways_out()
    assert list(out) == ["raysft-within", "raysft-names", "raysft-autoscaler"] and all(
        rule["to"] for rule in out.values()
    )
    assert blocks(out["raysft-autoscaler"]) == ["10.96.0.1/32", "172.16.0.2/32"] and blocks(out["raysft-within"]) == []


def test_names_are_asked_of_the_service_and_of_its_cache_on_the_node() -> None:
    """On clusters with such a cache, as all of GKE's Autopilot, no pod would find the head without the latter."""
    names = ways_out()["raysft-names"]
    asked = [end["podSelector"]["matchLabels"]["k8s-app"] for end in names["to"] if "podSelector" in end]
    assert asked == ["kube-dns", "node-local-dns"] and blocks(names) == ["169.254.20.10/32"]
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {(53, "UDP"), (53, "TCP")}


def test_pods_where_jobs_run_have_another_account_than_the_one_that_may_scale() -> None:
    """KubeRay calls the latter as the cluster is called, and would give its rights to a pod of the same account."""
    (account,) = read_manifests(rendered()["rbac.yaml"])
    groups = ray_cluster()["workerGroupSpecs"]
    used = {group["template"]["spec"]["serviceAccountName"] for group in groups}
    assert used == {account["metadata"]["name"]} == {"raysft-pods"}
    with pytest.raises(JobFileError, match=r"kubernetes\.service_account: raysft is the account that KubeRay makes"):
        rendered("kubernetes.service_account=raysft")


def test_two_clusters_in_one_namespace_share_nothing_that_goes_with_one_of_them() -> None:
    def made(name: str) -> set[tuple[str, str]]:
        files = rendered(f"name={name}", f"kubernetes.queue={name}-jobs")
        found = {
            (each["kind"], each["metadata"]["name"])
            for file, text in files.items()
            for each in read_manifests(text)
            if file != "pvc.yaml"  # it stays
        }
        secret = read_manifests(files["raycluster.yaml"])[0]["spec"]["authOptions"]["secretName"]
        return found | {("Secret", secret)}

    assert not made("one") & made("two")
    assert ("Secret", "one-token") in made("one")


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

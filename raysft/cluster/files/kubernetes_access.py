"""Who may reach whom on Kubernetes, and what all pods share: policies of the network, an account, storage, a budget."""

from __future__ import annotations

from typing import Any

from raysft.cluster.files.kubernetes_pods import CLUSTER, PORTS, ROLE, account
from raysft.cluster.files.manifest import Manifest
from raysft.config import Cluster
from raysft.errors import JobFileError, Problem

# Who answers names: pods, and the cache on each node that many clusters have, at an address of the node itself.
DNS = [
    {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": app}},
    }
    for app in ("kube-dns", "node-local-dns")
] + [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
# KubeRay's operator asks the dashboard how a RayJob is doing.
OPERATOR = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}},
}
API_PORTS = (443, 6443)


def metadata(cluster: Cluster, name: str) -> dict[str, Any]:
    """Of a thing in the cluster's namespace."""
    section = cluster.config.kubernetes
    assert section is not None
    labels = {"app.kubernetes.io/part-of": "raysft", CLUSTER: cluster.config.name}
    return {"name": name, "namespace": section.namespace, "labels": labels}


def network_policies(cluster: Cluster) -> list[Manifest]:
    """Nothing in or out, but: within the cluster, names, the dashboard from this namespace, and the head to the API.

    Raises JobFileError where the addresses of the API are not told.
    """
    name = cluster.config.name
    ours = {"matchLabels": {CLUSTER: name}}
    head = {"matchLabels": {CLUSTER: name, ROLE: "head"}}
    dashboard = {"from": [{"podSelector": {}}, OPERATOR], "ports": [_port(PORTS["dashboard"])]}
    rules = {
        f"{name}-deny-all": {"podSelector": ours, "policyTypes": ["Ingress", "Egress"]},
        f"{name}-within": {
            "podSelector": ours,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": ours}]}],
            "egress": [{"to": [{"podSelector": ours}]}],
        },
        f"{name}-names": {
            "podSelector": ours,
            "policyTypes": ["Egress"],
            "egress": [{"to": DNS, "ports": [_port(53, "UDP"), _port(53)]}],
        },
        f"{name}-dashboard": {"podSelector": head, "policyTypes": ["Ingress"], "ingress": [dashboard]},
        # The autoscaler asks for pods there. Drivers of jobs run in the same pod, so that nothing else may be let out.
        f"{name}-autoscaler": {
            "podSelector": head,
            "policyTypes": ["Egress"],
            "egress": [{"to": _api(cluster), "ports": [_port(port) for port in API_PORTS]}],
        },
    }
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(cluster, key),
            "spec": spec,
        }
        for key, spec in rules.items()
    ]


def _api(cluster: Cluster) -> list[dict[str, Any]]:
    """No label names the API of Kubernetes, so that its addresses have to."""
    section = cluster.config.kubernetes
    assert section is not None
    if not section.api_cidr:
        text = (
            "must be given: addresses of the API of Kubernetes, such as [10.96.0.1/32, 172.16.0.2/32], without which "
            "the autoscaler gets no pods; `kubectl get service,endpoints kubernetes` tells them"
        )
        raise JobFileError([Problem(cluster.where("kubernetes", "api_cidr"), "kubernetes.api_cidr", text)])
    return [{"ipBlock": {"cidr": cidr}} for cidr in section.api_cidr]


def _port(number: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"protocol": protocol, "port": number}


def service_account(cluster: Cluster) -> Manifest:
    """Of all pods but an autoscaled head. No role is bound to it."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(cluster, account(cluster)),
        "automountServiceAccountToken": False,
    }


def claim(cluster: Cluster) -> Manifest:
    """Storage that all pods see under one path, where it is made for the cluster."""
    section = cluster.config.kubernetes
    assert section is not None and section.storage_gib is not None
    storage = {} if section.storage_class is None else {"storageClassName": section.storage_class}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(cluster, section.claim),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            **storage,
            "resources": {"requests": {"storage": f"{section.storage_gib}Gi"}},
        },
    }


def disruption_budget(cluster: Cluster) -> Manifest:
    """Nobody empties the node of a head while it is there: its drivers are the jobs.

    The heads of RayJobs have the same labels. Of several heads a budget of one that stays would let the others go.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(cluster, f"{cluster.config.name}-head"),
        "spec": {
            "maxUnavailable": 0,
            "selector": {"matchLabels": {CLUSTER: cluster.config.name, ROLE: "head"}},
        },
    }

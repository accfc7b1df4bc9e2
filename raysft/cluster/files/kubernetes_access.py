"""Who may reach whom on Kubernetes, and what all pods share: policies of the network, an account, storage, a budget."""

from __future__ import annotations

from typing import Any

from raysft.cluster.files.kubernetes_pods import CLUSTER, PORTS, ROLE
from raysft.cluster.files.manifest import Manifest
from raysft.config import Cluster

DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
# KubeRay's operator asks the dashboard how a RayJob is doing.
OPERATOR = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}},
}
API_PORTS = (443, 6443)
STORAGE_GIB = 500


def metadata(cluster: Cluster, name: str) -> dict[str, Any]:
    """Of a thing in the cluster's namespace."""
    section = cluster.config.kubernetes
    assert section is not None
    labels = {"app.kubernetes.io/part-of": "raysft", CLUSTER: cluster.config.name}
    return {"name": name, "namespace": section.namespace, "labels": labels}


def network_policies(cluster: Cluster) -> list[Manifest]:
    """Nothing in or out, but: within the cluster, names, the dashboard from this namespace, and the head to the API."""
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
            "egress": [{"to": [DNS], "ports": [_port(53, "UDP"), _port(53)]}],
        },
        f"{name}-dashboard": {"podSelector": head, "policyTypes": ["Ingress"], "ingress": [dashboard]},
        # The autoscaler asks for pods there. No label names the API, so the port does; narrow it with an ipBlock.
        f"{name}-autoscaler": {
            "podSelector": head,
            "policyTypes": ["Egress"],
            "egress": [{"ports": [_port(port) for port in API_PORTS]}],
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


def _port(number: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"protocol": protocol, "port": number}


def service_account(cluster: Cluster) -> Manifest:
    """Of all pods but an autoscaled head. No role is bound to it."""
    section = cluster.config.kubernetes
    assert section is not None
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(cluster, section.service_account),
        "automountServiceAccountToken": False,
    }


def claim(cluster: Cluster) -> Manifest:
    """Storage that all pods see under one path."""
    section = cluster.config.kubernetes
    assert section is not None
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(cluster, section.claim),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": f"{STORAGE_GIB}Gi"}},
        },
    }


def disruption_budget(cluster: Cluster) -> Manifest:
    """Nobody empties the node of the head while it is there: its drivers are the jobs."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(cluster, f"{cluster.config.name}-head"),
        "spec": {
            "minAvailable": 1,
            "selector": {"matchLabels": {CLUSTER: cluster.config.name, ROLE: "head"}},
        },
    }

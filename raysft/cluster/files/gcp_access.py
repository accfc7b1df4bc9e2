"""Network and roles of a cluster on Google Cloud, as Terraform in JSON.

The head starts and ends machines that are named as its cluster's are, with the workers' account and never its own.
Workers may start nothing. No rule lets anyone in but the nodes themselves, and ssh through Identity-Aware Proxy.
"""

from __future__ import annotations

import re
from typing import Any

from raysft.config import Cluster
from raysft.config.cluster import GcpSection
from raysft.errors import JobFileError, Problem

IAP_RANGE = "35.235.240.0/20"  # from which Google's Identity-Aware Proxy comes, and nobody else
ON_OWN = (
    "compute.disks.create",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
)
LOOK = ("compute.images.useReadOnly", "compute.instances.list", "compute.zoneOperations.get")
KINDS = ("head", "worker")
# Google takes names of 63 letters, and Ray makes ray-NAME-worker-0a1b2c3d-compute of a cluster's.
LONGEST = 63 - len("ray--worker-0a1b2c3d-compute")
AMBIGUOUS = re.compile(rf"-({'|'.join(KINDS)})(-|$)")
REPOSITORY = re.compile(r"^(?P<location>[a-z0-9-]+)-docker\.pkg\.dev/(?P<project>[^/]+)/(?P<name>[^/]+)/")


def network(cluster: Cluster) -> dict[str, Any]:
    """Firewall rules. The network is that of the subnetwork."""
    section, name = _section(cluster), cluster.config.name
    accounts = [section.head_account, section.worker_account]
    common = {
        "project": section.project,
        "network": "${data.google_compute_subnetwork.nodes.network}",
        "direction": "INGRESS",
    }
    return {
        "data": {"google_compute_subnetwork": {"nodes": _subnet(section)}},
        "resource": {
            "google_compute_firewall": {
                "among_nodes": {
                    **common,
                    "name": f"raysft-{name}-among-nodes",
                    "allow": [{"protocol": "tcp"}, {"protocol": "udp"}, {"protocol": "icmp"}],
                    "source_service_accounts": accounts,
                    "target_service_accounts": accounts,
                },
                "ssh_through_proxy": {
                    **common,
                    "name": f"raysft-{name}-ssh",
                    "allow": [{"protocol": "tcp", "ports": ["22"]}],
                    "source_ranges": [IAP_RANGE],
                    "target_service_accounts": [section.head_account],
                },
            }
        },
    }


def roles(cluster: Cluster) -> dict[str, Any]:
    """Two roles of the head, and what each account is bound to."""
    section = _section(cluster)
    head = f"serviceAccount:{section.head_account}"
    resource: dict[str, Any] = {
        "google_project_iam_custom_role": {
            "on_own": _role(cluster, "OnOwn", "Starts and ends machines of its cluster", ON_OWN),
            "look": _role(cluster, "Look", "Sees which machines there are", LOOK),
        },
        "google_project_iam_member": {
            "on_own": {
                "project": section.project,
                "role": "${google_project_iam_custom_role.on_own.name}",
                "member": head,
                "condition": {"title": f"only {cluster.config.name}", "expression": _own(cluster)},
            },
            "look": {
                "project": section.project,
                "role": "${google_project_iam_custom_role.look.name}",
                "member": head,
            },
        },
        "google_compute_subnetwork_iam_member": {
            "head": {**_subnet(section, "subnetwork"), "role": "roles/compute.networkUser", "member": head}
        },
        "google_service_account_iam_member": {
            "head_gives_workers_their_account": {
                "service_account_id": f"projects/{section.project}/serviceAccounts/{section.worker_account}",
                "role": "roles/iam.serviceAccountUser",
                "member": head,
            }
        },
    }
    if readers := _image_readers(cluster):
        resource["google_artifact_registry_repository_iam_member"] = readers
    return {"resource": resource}


def _section(cluster: Cluster) -> GcpSection:
    assert cluster.config.gcp is not None
    return cluster.config.gcp


def _subnet(section: GcpSection, key: str = "name") -> dict[str, str]:
    region = section.zone.rpartition("-")[0]
    project = section.project
    if found := re.search(r"projects/([^/]+)/", section.subnet):  # a network that several projects share
        project = found[1]
    return {"project": project, "region": region, key: section.subnet.rpartition("/")[2]}


def _role(cluster: Cluster, what: str, title: str, permissions: tuple[str, ...]) -> dict[str, Any]:
    return {
        "project": _section(cluster).project,
        "role_id": f"raysft_{cluster.config.name.replace('-', '_')}_{what}",
        "title": f"raysft {cluster.config.name}: {title}",
        "permissions": list(permissions),
    }


def _own(cluster: Cluster) -> str:
    """Ray names machines, and their disks with them, ray-CLUSTER-head-... and ray-CLUSTER-worker-..."""
    section = _section(cluster)
    zone = f"projects/{section.project}/zones/{section.zone}"
    starts = (
        f'resource.name.startsWith("{zone}/{kind}/{names}")'
        for kind in ("instances", "disks")
        for names in names_of_machines(cluster.config.name)
    )
    return " || ".join(starts)


def names_of_machines(name: str) -> list[str]:
    """How the names of a cluster's machines begin, and those of no other cluster whose name `checked_name` takes."""
    return [f"ray-{name}-{kind}-" for kind in KINDS]


def checked_name(cluster: Cluster) -> None:
    """Machines of a cluster `demo-worker-2` would have names like those of workers of `demo`, whose head may end them.

    Raises JobFileError for such a name, and for one of which no machine could be called.
    """
    name, text = cluster.config.name, ""
    if AMBIGUOUS.search(name):
        text = "no part `head` or `worker` behind a dash on Google Cloud, since machines are told apart by their names"
    elif len(name) > LONGEST:
        text = f"at most {LONGEST} letters on Google Cloud, since machines are called by it and more"
    if text:
        raise JobFileError([Problem(cluster.where("name"), "name", f"must have {text}; found {name!r}")])


def _image_readers(cluster: Cluster) -> dict[str, Any]:
    """Both accounts may fetch the image, where it is in Google's registry."""
    found = REPOSITORY.match(cluster.config.image or "")
    if not found:
        return {}
    section = _section(cluster)
    repository = {"project": found["project"], "location": found["location"], "repository": found["name"]}
    reader = {**repository, "role": "roles/artifactregistry.reader"}
    return {
        "head": {**reader, "member": f"serviceAccount:{section.head_account}"},
        "workers": {**reader, "member": f"serviceAccount:{section.worker_account}"},
    }

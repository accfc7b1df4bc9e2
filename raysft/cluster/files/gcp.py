"""Files of a cluster on Google Compute Engine: cluster file of `ray up`, network and roles as Terraform in JSON."""

from __future__ import annotations

import re
from typing import Any

from raysft.cluster.files.gcp_access import checked_name, network, roles
from raysft.cluster.files.manifest import as_manifests
from raysft.cluster.files.ray_up import Cloud, as_json, config_of, nfs_mount
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.cluster import GcpSection
from raysft.errors import JobFileError, Problem

# GPUs that are plugged into machines of a general kind, by Ray's name; other machines come with theirs.
PLUGGED = {"T4": "nvidia-tesla-t4", "P4": "nvidia-tesla-p4", "P100": "nvidia-tesla-p100", "V100": "nvidia-tesla-v100"}
PLUGGED_INTO = "n1-"
REGISTRY = re.compile(r"^([a-z0-9-]+-docker\.pkg\.dev)/")
# Through Identity-Aware Proxy, so that no node has an address that the world sees.
IAP = "gcloud compute start-iap-tunnel %h %p --listen-on-stdin --project={project} --zone={zone}"


def render(cluster: Cluster) -> dict[str, str]:
    """ray.yaml, network.tf.json and roles.tf.json.

    Raises JobFileError where the catalogue and the file do not say enough of a pool, or GPUs cannot be plugged in, and
    for a name whose machines could be taken for those of another cluster.
    """
    section = section_of(cluster)
    checked_name(cluster)
    cloud = Cloud(
        name="gcp",
        client="googleapiclient",
        provider={
            "project_id": section.project,
            "region": region_of(section),
            "availability_zone": section.zone,
            "use_internal_ips": True,
            "cache_stopped_nodes": False,
        },
        auth={
            "ssh_user": "ubuntu",
            "ssh_proxy_command": IAP.format(project=section.project, zone=section.zone),
            "ssh_proxy_use_node_id": True,
        },
        head=_node(cluster, section.head_machine, section.head_account, "head"),
        workers={pool.name: _worker(cluster, place, pool) for place, pool in enumerate(pools_of(cluster))},
        on_host=(*_mount(cluster), *_login(cluster)),
    )
    return {
        "ray.yaml": as_manifests([config_of(cluster, cloud)], cluster.path.name),
        "network.tf.json": as_json(network(cluster)),
        "roles.tf.json": as_json(roles(cluster)),
    }


def section_of(cluster: Cluster) -> GcpSection:
    """The section that is there when the kind is gcp."""
    assert cluster.config.gcp is not None
    return cluster.config.gcp


def region_of(section: GcpSection) -> str:
    """europe-west4 of europe-west4-a."""
    return section.zone.rpartition("-")[0]


def subnet_of(section: GcpSection) -> str:
    """Path of the subnetwork, of which the file may have the name alone."""
    if "/" in section.subnet:
        return section.subnet
    return f"projects/{section.project}/regions/{region_of(section)}/subnetworks/{section.subnet}"


def _node(cluster: Cluster, machine: str, account: str, pool: str) -> dict[str, Any]:
    """What Compute Engine is asked for (instances.insert), on demand. Without accessConfigs: no external address."""
    section = section_of(cluster)
    return {
        "machineType": machine,
        "canIpForward": False,
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "type": "PERSISTENT",
                "initializeParams": {
                    "diskSizeGb": section.disk,
                    "diskType": f"projects/{section.project}/zones/{section.zone}/diskTypes/pd-balanced",
                    "sourceImage": section.source_image,
                },
            }
        ],
        "networkInterfaces": [{"subnetwork": subnet_of(section)}],
        # What the account may do is said by its roles; scopes are an older, coarser way that must not be in the way.
        "serviceAccounts": [{"email": account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}],
        "scheduling": {"provisioningModel": "STANDARD", "onHostMaintenance": "MIGRATE", "automaticRestart": True},
        "shieldedInstanceConfig": {"enableSecureBoot": True, "enableVtpm": True, "enableIntegrityMonitoring": True},
        "labels": {"raysft-pool": pool},
    }


def _worker(cluster: Cluster, place: int, pool: Pool) -> dict[str, Any]:
    node = _node(cluster, pool.machine, section_of(cluster).worker_account, pool.name)
    if pool.gpus:
        # NVIDIA's driver is seldom signed for secure boot, and machines with GPUs cannot be moved while they run.
        node["shieldedInstanceConfig"]["enableSecureBoot"] = False
        node["scheduling"] |= {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
        if pool.machine.startswith(PLUGGED_INTO):
            node["guestAccelerators"] = [
                {"acceleratorType": _plugged(cluster, place, pool), "acceleratorCount": pool.gpus}
            ]
    if pool.spot:
        node["scheduling"] = {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        }
    return node


def _plugged(cluster: Cluster, place: int, pool: Pool) -> str:
    if pool.gpu not in PLUGGED:
        known = ", ".join(PLUGGED)
        text = f"{PLUGGED_INTO}machines take {known}; found {pool.gpu}. For other GPUs name a machine that has them"
        key = ("pools", str(place), "gpu")
        raise JobFileError([Problem(cluster.where(*key), ".".join(key), text)])
    return PLUGGED[pool.gpu]


def _mount(cluster: Cluster) -> tuple[str, ...]:
    assert cluster.config.storage is not None
    return nfs_mount(cluster.config.storage, section_of(cluster).filestore, "mount -t nfs -o hard,timeo=600,retrans=3")


def _login(cluster: Cluster) -> tuple[str, ...]:
    """Images in Google's registry are fetched with the node's account."""
    found = REGISTRY.match(cluster.config.image or "")
    return (f"gcloud auth configure-docker {found[1]} --quiet",) if found else ()

"""Files of a cluster on Azure: cluster file of `ray up`, network (ARM template) and the role of its identity."""

from __future__ import annotations

import hashlib
import re
from shlex import quote
from typing import Any

from raysft.cluster.files.manifest import as_manifests
from raysft.cluster.files.ray_up import Cloud, as_json, config_of, nfs_mount
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.cluster import AzureSection

REGISTRY = re.compile(r"^(([a-z0-9]+)\.azurecr\.io)/")
DISK_GIB = 200  # for the image and what jobs cache
NOBODY_ELSE = 4096  # the last priority that a rule may have
ACTIONS = (
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/disks/read",
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/virtualMachines/instanceView/read",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
    "Microsoft.ManagedIdentity/userAssignedIdentities/read",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Network/networkSecurityGroups/read",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
    "Microsoft.Network/virtualNetworks/subnets/read",
    "Microsoft.Resources/deployments/operationStatuses/read",
    "Microsoft.Resources/deployments/read",
    "Microsoft.Resources/deployments/validate/action",
    "Microsoft.Resources/deployments/write",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
)


def render(cluster: Cluster) -> dict[str, str]:
    """ray.yaml, network.json (a security group) and role.json (what the nodes' identity may do).

    Raises JobFileError where the catalogue and the file do not say enough of a pool.
    """
    section = section_of(cluster)
    cloud = Cloud(
        name="azure",
        client="azure.mgmt.compute",
        provider={
            "location": section.location,
            "resource_group": section.resource_group,
            "subscription_id": section.subscription,
            "unique_id": hashlib.sha256(section.resource_group.encode()).hexdigest()[:4],  # as Ray makes one
            "msi": section.identity,
            "nsg": f"{_group(section)}/providers/Microsoft.Network/networkSecurityGroups/{_security_group(cluster)}",
            "subnet": section.subnet,
            "use_internal_ips": True,
            "cache_stopped_nodes": False,
        },
        auth={"ssh_user": "ubuntu"},
        head=_node(cluster, section.head_machine, "head"),
        workers={pool.name: _worker(cluster, pool) for pool in pools_of(cluster)},
        on_host=(*_mount(cluster), *_login(cluster)),
    )
    return {
        "ray.yaml": as_manifests([config_of(cluster, cloud)], cluster.path.name),
        "network.json": as_json(_network(cluster)),
        "role.json": as_json(_role(cluster)),
    }


def section_of(cluster: Cluster) -> AzureSection:
    """The section that is there when the kind is azure."""
    assert cluster.config.azure is not None
    return cluster.config.azure


def _node(cluster: Cluster, machine: str, pool: str) -> dict[str, Any]:
    """Parameters of Ray's template of a machine, on demand. Its disk is encrypted at rest, as all are on Azure."""
    section = section_of(cluster)
    publisher, offer, sku, version = section.image.split(":")
    return {
        "azure_arm_parameters": {
            "vmSize": machine,
            "imagePublisher": publisher,
            "imageOffer": offer,
            "imageSku": sku,
            "imageVersion": version,
            "osDiskSize": DISK_GIB,
            # Any zone of the region; asking which there are needs a right on the whole subscription.
            "availability_zone": "none",
        },
        "tags": {"raysft-pool": pool},
    }


def _worker(cluster: Cluster, pool: Pool) -> dict[str, Any]:
    node = _node(cluster, pool.machine, pool.name)
    if pool.spot:
        # -1: up to the price on demand, so that a machine is taken for want of room and never for its price.
        spot = {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}
        node["azure_arm_parameters"] |= spot
    return node


def _mount(cluster: Cluster) -> tuple[str, ...]:
    assert cluster.config.storage is not None
    return nfs_mount(cluster.config.storage, section_of(cluster).share, "mount -t nfs -o vers=4,minorversion=1,sec=sys")


def _login(cluster: Cluster) -> tuple[str, ...]:
    """Images in Azure's registry are fetched with the node's identity."""
    found = REGISTRY.match(cluster.config.image or "")
    if not found:
        return ()
    identity = section_of(cluster).identity
    return (f"az login --identity --resource-id {quote(identity)} --output none", f"az acr login --name {found[2]}")


def _group(section: AzureSection) -> str:
    return f"/subscriptions/{section.subscription}/resourceGroups/{section.resource_group}"


def _security_group(cluster: Cluster) -> str:
    return f"raysft-{cluster.config.name}"


def _network(cluster: Cluster) -> dict[str, Any]:
    """Azure lets the whole virtual network in unless told otherwise, so the last rule ends what the first allows."""
    section = section_of(cluster)
    subnet = "[reference(parameters('subnet'), '2024-05-01').addressPrefix]"
    rules = [
        _rule("among-nodes", 100, "Allow", subnet, "*", "Ray, ssh from the head, NCCL"),
        _rule(
            "ssh-from-network", 200, "Allow", "VirtualNetwork", "22", "People, through Bastion or a VPN; by key alone"
        ),
        _rule("nobody-else", NOBODY_ELSE, "Deny", "*", "*", "Not the internet, and no other port from other subnets"),
    ]
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {"subnet": {"type": "string", "defaultValue": section.subnet}},
        "resources": [
            {
                "type": "Microsoft.Network/networkSecurityGroups",
                "apiVersion": "2024-05-01",
                "name": _security_group(cluster),
                "location": section.location,
                "tags": {"raysft-cluster": cluster.config.name},
                "properties": {"securityRules": rules},
            }
        ],
    }


def _rule(name: str, priority: int, access: str, source: str, ports: str, why: str) -> dict[str, Any]:
    return {
        "name": name,
        "properties": {
            "description": why,
            "priority": priority,
            "direction": "Inbound",
            "access": access,
            "protocol": "*",
            "sourceAddressPrefix": source,
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": ports,
        },
    }


def _role(cluster: Cluster) -> dict[str, Any]:
    """A custom role for the identity of the nodes: it starts and ends machines in its resource group."""
    section = section_of(cluster)
    scopes = {_group(section), section.subnet.partition("/providers/")[0]}
    return {
        "Name": f"raysft {cluster.config.name}",
        "IsCustom": True,
        "Description": f"Starts and ends the nodes of {cluster.config.name}",
        "Actions": list(ACTIONS),
        "NotActions": [],
        "DataActions": [],
        "NotDataActions": [],
        "AssignableScopes": sorted(scopes),
    }

"""Rules for clusters on Google Compute Engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from raysft.cluster.files.gcp_access import IAP_RANGE, names_of_machines
from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.rendered import RAY, Rendered, walk

NETWORK, ROLES = "network.tf.json", "roles.tf.json"
# Of instances.insert, as far as they are used here; Ray hands on any other key, and Google ignores it.
KEYS = {
    *("machineType", "canIpForward", "disks", "networkInterfaces", "serviceAccounts", "scheduling", "labels", "tags"),
    *("shieldedInstanceConfig", "guestAccelerators", "metadata", "minCpuPlatform", "reservationAffinity"),
}
STARTS = re.compile(r'resource\.name\.startsWith\("projects/[^/"]+/zones/[^/"]+/(?:instances|disks)/([^/"]*)"\)')
COMPLETE = ("machineType", "disks", "networkInterfaces", "serviceAccounts")


def _node_configs(rendered: Rendered) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, kind in rendered.ray["available_node_types"].items():
        yield name, f"available_node_types.{name}.node_config", kind["node_config"]


def known_keys(rendered: Rendered) -> Iterator[Finding]:
    """A key that is misspelt would be passed over."""
    for _, key, config in _node_configs(rendered):
        yield from (
            Finding(RAY, f"{key}.{name}", "no such key", f"Known are {', '.join(sorted(KEYS))}.")
            for name in config.keys() - KEYS
        )
        yield from (
            Finding(RAY, f"{key}.{name}", "missing", "Give it, or Ray takes what the project has.")
            for name in COMPLETE
            if not config.get(name)
        )


def spot_where_told(rendered: Rendered) -> Iterator[Finding]:
    """The head and on-demand pools are never on spot, and spot pools always."""
    markets = {pool.name: pool.market for pool in rendered.cluster.config.pools}
    for name, key, config in _node_configs(rendered):
        scheduling = config.get("scheduling", {})
        spot = scheduling.get("provisioningModel") == "SPOT" or scheduling.get("preemptible") is True
        if spot != (markets.get(name) == "spot"):
            found = "spot" if spot else "on demand"
            right = markets.get(name, "on-demand")
            yield Finding(RAY, f"{key}.scheduling", f"is {found}", f"The cluster file says {right}.")


def may_not_be_moved(rendered: Rendered) -> Iterator[Finding]:
    """Google refuses machines with GPUs that it could not end for maintenance."""
    for name, key, config in _node_configs(rendered):
        gpus = rendered.ray["available_node_types"][name]["resources"].get("GPU", 0)
        if gpus and config.get("scheduling", {}).get("onHostMaintenance") != "TERMINATE":
            yield Finding(
                RAY, f"{key}.scheduling.onHostMaintenance", "machines with GPUs cannot move", "Set: TERMINATE"
            )


def no_public_interface(rendered: Rendered) -> Iterator[Finding]:
    """accessConfigs are addresses that the world sees."""
    for _, key, config in _node_configs(rendered):
        for place, value in walk(config, key):
            if place.endswith("accessConfigs") and value:
                yield Finding(RAY, place, "an address that the world sees", "Take it out.")


def shielded(rendered: Rendered) -> Iterator[Finding]:
    """What boots is what was built."""
    for _, key, config in _node_configs(rendered):
        options = config.get("shieldedInstanceConfig", {})
        if not (options.get("enableVtpm") and options.get("enableIntegrityMonitoring")):
            yield Finding(RAY, f"{key}.shieldedInstanceConfig", "not shielded", "Set enableVtpm and the like to true.")


def only_nodes_and_proxy(rendered: Rendered) -> Iterator[Finding]:
    """By address only Google's proxy gets in, and to ssh alone."""
    for name, rule in rendered.document(NETWORK)["resource"]["google_compute_firewall"].items():
        ranges, key = rule.get("source_ranges", []), f"resource.google_compute_firewall.{name}"
        if any(each != IAP_RANGE for each in ranges):
            yield Finding(NETWORK, f"{key}.source_ranges", f"lets {', '.join(ranges)} in", f"Only {IAP_RANGE}.")
        if ranges and rule["allow"] != [{"protocol": "tcp", "ports": ["22"]}]:
            yield Finding(NETWORK, f"{key}.allow", "more than ssh is open to the proxy", "Port 22 alone.")
        if not ranges and not rule.get("source_service_accounts"):
            yield Finding(NETWORK, key, "lets everyone in", "Name source_service_accounts.")


def starts_only_its_own(rendered: Rendered) -> Iterator[Finding]:
    """What starts and ends machines is bound to names of this cluster."""
    resource = rendered.document(ROLES)["resource"]
    for name, member in resource["google_project_iam_member"].items():
        role = member["role"].removeprefix("${google_project_iam_custom_role.").removesuffix(".name}")
        permissions = resource["google_project_iam_custom_role"].get(role, {}).get("permissions", [])
        changes = [each for each in permissions if each.endswith((".create", ".delete")) or ".set" in each]
        names = names_of_machines(rendered.cluster.config.name)
        bound = _begin_so(member.get("condition", {}).get("expression", ""), names)
        if changes and not bound:
            key = f"resource.google_project_iam_member.{name}"
            yield Finding(
                ROLES, key, f"{', '.join(changes)} on machines of others", "Bind it to names of this cluster."
            )


def _begin_so(expression: str, names: list[str]) -> bool:
    """Whether a condition asks for names that begin in these ways, and for nothing else."""
    parts = [part.strip() for part in expression.split("||")]
    asked = [STARTS.fullmatch(part) for part in parts]
    return all(each is not None and each[1] in names for each in asked)


RULES: tuple[Callable[[Rendered], Iterator[Finding]], ...] = (
    known_keys,
    spot_where_told,
    may_not_be_moved,
    no_public_interface,
    shielded,
    only_nodes_and_proxy,
    starts_only_its_own,
)

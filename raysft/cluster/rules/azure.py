"""Rules for clusters on Azure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.rendered import RAY, Rendered

NETWORK, ROLE = "network.json", "role.json"
# Parameters of the template that Ray makes machines with.
PARAMETERS = {
    *("vmSize", "imagePublisher", "imageOffer", "imageSku", "imageVersion", "imageId", "osDiskSize", "priority"),
    *("evictionPolicy", "billingProfile", "enableAcceleratedNetworking", "availability_zone", "zones"),
}
SPOT = {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}
INTERNET = {"*", "Internet", "Any"}
NAMED = ("msi", "nsg", "subnet", "subscription_id", "unique_id")


def _parameters(rendered: Rendered) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, kind in rendered.ray["available_node_types"].items():
        key = f"available_node_types.{name}.node_config.azure_arm_parameters"
        yield name, key, kind["node_config"].get("azure_arm_parameters", {})


def known_parameters(rendered: Rendered) -> Iterator[Finding]:
    """Azure refuses a template with a parameter that it does not have, and does so only when a node is asked for."""
    for _, key, parameters in _parameters(rendered):
        yield from (
            Finding(RAY, f"{key}.{name}", "no such parameter", f"Known are {', '.join(sorted(PARAMETERS))}.")
            for name in parameters.keys() - PARAMETERS
        )


def spot_where_told(rendered: Rendered) -> Iterator[Finding]:
    """The head and on-demand pools are never on spot; spot pools always, and what is taken away is gone for good."""
    markets = {pool.name: pool.market for pool in rendered.cluster.config.pools}
    for name, key, parameters in _parameters(rendered):
        found = {part: parameters[part] for part in SPOT if part in parameters}
        right = SPOT if markets.get(name) == "spot" else {}
        if found != right:
            yield Finding(RAY, key, f"has {found}", f"For {markets.get(name, 'the head')}: {right or 'none of these'}.")


def nothing_left_to_ray(rendered: Rendered) -> Iterator[Finding]:
    """What is not named, Ray makes itself: an identity that may do everything, and ssh open to the world."""
    for name in NAMED:
        if not rendered.ray["provider"].get(name):
            yield Finding(RAY, f"provider.{name}", "missing", "Give it, or Ray makes one that is open wide.")


def pinned_node_image(rendered: Rendered) -> Iterator[Finding]:
    """The same image tomorrow."""
    for _, key, parameters in _parameters(rendered):
        if parameters.get("imageVersion") == "latest":
            yield Finding(RAY, f"{key}.imageVersion", "latest is another every week", "Give a version.")


def nobody_from_the_internet(rendered: Rendered) -> Iterator[Finding]:
    """What is let in comes from the subnet, or from inside the network by ssh; the last rule ends the rest."""
    rules = [rule for each in rendered.document(NETWORK)["resources"] for rule in each["properties"]["securityRules"]]
    inbound = [rule for rule in rules if rule["properties"]["direction"] == "Inbound"]
    for rule in inbound:
        facts = rule["properties"]
        if facts["access"] == "Allow" and facts["sourceAddressPrefix"] in INTERNET:
            yield Finding(NETWORK, rule["name"], "lets everyone in", "Name the subnet.")
        if facts["sourceAddressPrefix"] == "VirtualNetwork" and facts["destinationPortRange"] != "22":
            yield Finding(NETWORK, rule["name"], "more than ssh is open to other subnets", "Port 22 alone.")
    last = max(inbound, key=lambda rule: rule["properties"]["priority"], default=None)
    if last is None or last["properties"]["access"] != "Deny" or last["properties"]["sourceAddressPrefix"] != "*":
        fix = "Deny everyone at the last priority: Azure itself lets the whole network in."
        yield Finding(NETWORK, "resources", "no last rule that denies", fix)


def only_in_its_group(rendered: Rendered) -> Iterator[Finding]:
    """The role holds in resource groups, never in a whole subscription."""
    for place, scope in enumerate(rendered.document(ROLE)["AssignableScopes"]):
        if "/resourceGroups/" not in scope:
            yield Finding(ROLE, f"AssignableScopes.{place}", f"{scope} is a whole subscription", "Name the group.")


RULES: tuple[Callable[[Rendered], Iterator[Finding]], ...] = (
    known_parameters,
    spot_where_told,
    nothing_left_to_ray,
    pinned_node_image,
    nobody_from_the_internet,
    only_in_its_group,
)

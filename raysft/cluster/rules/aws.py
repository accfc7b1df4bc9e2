"""Rules for clusters on EC2: what EC2 is asked for, its network and who may start what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

from raysft.cluster.files.aws_policies import CLUSTER_TAG
from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.rendered import RAY, Rendered, walk

NETWORK, HEAD_POLICY = "network.json", "head-policy.json"
RAYS_OWN = {"SubnetIds"}  # of which Ray makes SubnetId
# Ray adds these to what it asks for.
ADDED = {"MinCount": 1, "MaxCount": 1, "SubnetId": "subnet-0"}
HOPS = 2
COMPLETE = ("InstanceType", "ImageId", "SubnetIds", "SecurityGroupIds", "IamInstanceProfile", "TagSpecifications")


def node_configs(rendered: Rendered) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name of each node type, key of its settings, and these."""
    for name, kind in rendered.ray["available_node_types"].items():
        yield name, f"available_node_types.{name}.node_config", kind["node_config"]


def as_ec2_takes_it(rendered: Rendered) -> Iterator[Finding]:
    """The model that Amazon's own client checks requests against."""
    if find_spec("botocore") is None:
        return
    from botocore.validate import ParamValidator

    shape = _run_instances()
    for _, key, config in node_configs(rendered):
        asked = {name: value for name, value in config.items() if name not in RAYS_OWN} | ADDED
        report = ParamValidator().validate(asked, shape)
        if report.has_errors():
            for line in report.generate_report().splitlines():
                yield Finding(RAY, key, line, "EC2 would refuse it; see the API of RunInstances.")


@cache
def _run_instances() -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    model = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")
    return model.operation_model("RunInstances").input_shape


def nothing_left_to_ray(rendered: Rendered) -> Iterator[Finding]:
    """What is not told, Ray makes itself: roles that may do everything, and a group that lets the world in."""
    for _, key, config in node_configs(rendered):
        for name in COMPLETE:
            if not config.get(name):
                yield Finding(RAY, f"{key}.{name}", "missing", "Give it, or Ray makes one that is open wide.")


def tokens_of_metadata(rendered: Rendered) -> Iterator[Finding]:
    """IMDSv2: a page that can be made to fetch an address cannot fetch the role's keys."""
    for _, key, config in node_configs(rendered):
        options = config.get("MetadataOptions", {})
        if options.get("HttpTokens") != "required":
            yield Finding(RAY, f"{key}.MetadataOptions.HttpTokens", "keys of the role without a token", "Set: required")
        if options.get("HttpPutResponseHopLimit", 1) > HOPS:
            place = f"{key}.MetadataOptions.HttpPutResponseHopLimit"
            yield Finding(RAY, place, "reaches beyond containers of the node", f"At most {HOPS}.")


def encrypted_disks(rendered: Rendered) -> Iterator[Finding]:
    """Every disk, named or not."""
    for _, key, config in node_configs(rendered):
        disks = config.get("BlockDeviceMappings", [])
        if not disks:
            yield Finding(RAY, f"{key}.BlockDeviceMappings", "missing", "Give an encrypted root disk.")
        for place, disk in enumerate(disks):
            if disk.get("Ebs", {}).get("Encrypted") is not True:
                yield Finding(RAY, f"{key}.BlockDeviceMappings.{place}.Ebs.Encrypted", "not encrypted", "Set: true")


def spot_where_told(rendered: Rendered) -> Iterator[Finding]:
    """The head and on-demand pools are never on spot, and spot pools always."""
    markets = {pool.name: pool.market for pool in rendered.cluster.config.pools}
    for name, key, config in node_configs(rendered):
        found = config.get("InstanceMarketOptions", {}).get("MarketType", "on-demand")
        right = markets.get(name, "on-demand")
        if found != right:
            yield Finding(RAY, f"{key}.InstanceMarketOptions", f"is {found}", f"The cluster file says {right}.")


def no_public_interface(rendered: Rendered) -> Iterator[Finding]:
    """No public address, whatever the subnet would give."""
    for _, key, config in node_configs(rendered):
        for place, value in walk(config, key):
            if place.endswith("AssociatePublicIpAddress") and value:
                yield Finding(RAY, place, "an address that the world sees", "Take it out.")


def only_from_the_group(rendered: Rendered) -> Iterator[Finding]:
    """Nobody gets in by address, not even from inside: people come through Session Manager."""
    for key, value in walk(rendered.document(NETWORK)):
        if key.rpartition(".")[2] in {"CidrIp", "CidrIpv6"} and "Egress" not in key:
            yield Finding(NETWORK, key, f"lets {value} in", "Name SourceSecurityGroupId instead.")


def starts_only_its_own(rendered: Rendered) -> Iterator[Finding]:
    """Machines that the head starts and ends have the cluster's tag; it gives away one role alone."""
    for place, statement in enumerate(rendered.document(HEAD_POLICY)["Statement"]):
        key, actions = f"Statement.{place}", set(statement["Action"])
        condition = str(statement.get("Condition", ""))
        on_machines = any(
            str(each).endswith(("instance/*", "*:*", "volume/*")) for each in _listed(statement["Resource"])
        )
        changes = actions & {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags"}
        if changes and (on_machines or statement["Resource"] == "*") and f"/{CLUSTER_TAG}" not in condition:
            fix = f"Bind it to the tag {CLUSTER_TAG}."
            yield Finding(HEAD_POLICY, key, f"{', '.join(sorted(changes))} on machines of others", fix)
        if "iam:PassRole" in actions and any(each.endswith("*") for each in _listed(statement["Resource"])):
            yield Finding(HEAD_POLICY, key, "may give any role to a machine", "Name the role of the workers.")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


RULES: tuple[Callable[[Rendered], Iterator[Finding]], ...] = (
    as_ec2_takes_it,
    nothing_left_to_ray,
    tokens_of_metadata,
    encrypted_disks,
    spot_where_told,
    no_public_interface,
    only_from_the_group,
    starts_only_its_own,
)

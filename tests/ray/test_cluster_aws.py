"""The files of a cluster on AWS, taken through Ray's own provider to an EC2 that is on this machine (moto)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from raysft.cli.main import run
from raysft.cluster.render import render
from raysft.cluster.rules.lint import lint
from raysft.cluster.state import keep
from raysft.config import Cluster, load_cluster
from tests.support.iam import allowed

REGION = "eu-west-1"
FILE = """
name: rehearsal
storage: /mnt/raysft
image: raysft:0.1.0
pools:
  - {{name: l4-spot, machine: g6.xlarge, market: spot, most: 2}}
  - {{name: l4, machine: g6.xlarge, most: 2}}
aws:
  region: {region}
  vpc: {vpc}
  subnets: [{subnets}]
  security_group: {group}
  head_profile: raysft-head
  worker_profile: raysft-worker
  ami: {ami}
  bucket: s3://corpora/of-ours
"""


@pytest.fixture(scope="module")
def ec2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of the EC2 on loopback, which everything in this process that asks AWS reaches."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # some hundred, which take long to load
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes its key pair to ~/.ssh
        _forget_clients()
        yield boto3.client("ec2", region_name=REGION)
    _forget_clients()
    server.stop()


def _forget_clients() -> None:
    from ray.autoscaler._private.aws.utils import client_cache, resource_cache

    client_cache.cache_clear()
    resource_cache.cache_clear()


@pytest.fixture(scope="module")
def cluster(ec2: Any, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A cluster file whose network is there, made as network.json says."""
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{place}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]
        for place, zone in enumerate("ab")
    ]
    facts = {
        "region": REGION,
        "vpc": vpc,
        "subnets": ", ".join(each["SubnetId"] for each in subnets),
        "ami": ec2.register_image(Name="nodes")["ImageId"],
    }
    path = tmp_path_factory.mktemp("cluster") / "cluster.yaml"
    path.write_text(FILE.format(**facts, group="sg-00000000"), encoding="utf-8")
    network = json.loads(render(load_cluster(path))["network.json"])
    path.write_text(FILE.format(**facts, group=_make_group(ec2, network["Resources"])), encoding="utf-8")
    made = load_cluster(path)
    _make_roles(render(made))
    return made


def _make_group(ec2: Any, resources: Mapping[str, Any]) -> str:
    """What CloudFormation would do with network.json."""
    facts = resources["Nodes"]["Properties"]
    group: str = ec2.create_security_group(
        GroupName="nodes", Description=facts["GroupDescription"], VpcId=facts["VpcId"]
    )["GroupId"]
    for resource in resources.values():
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress":
            rule = resource["Properties"]
            assert rule["GroupId"] == rule["SourceSecurityGroupId"] == {"Ref": "Nodes"}
            pair = {"GroupId": group, "Description": rule["Description"]}
            permission = {"IpProtocol": rule["IpProtocol"], "UserIdGroupPairs": [pair]}
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    return group


def _make_roles(files: Mapping[str, str]) -> None:
    """IAM reads each policy, and refuses what is not its language."""
    iam = boto3.client("iam", region_name=REGION)
    for kind in ("head", "worker"):
        name = f"raysft-{kind}"
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=files["trust.json"])
        policy = iam.create_policy(PolicyName=name, PolicyDocument=files[f"{kind}-policy.json"])["Policy"]
        iam.attach_role_policy(RoleName=name, PolicyArn=policy["Arn"])
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


@pytest.fixture(scope="module")
def config(ec2: Any, cluster: Cluster) -> dict[str, Any]:
    """What `ray up` makes of the rendered file before it starts the head."""
    from ray.autoscaler._private.commands import _bootstrap_config

    found: dict[str, Any] = _bootstrap_config(yaml.safe_load(render(cluster)["ray.yaml"]), no_config_cache=True)
    return found


@pytest.fixture
def provider(ec2: Any, config: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    """Our provider on Ray's own, as the head has it; whatever a test started is ended."""
    from ray.autoscaler._private.providers import _get_node_provider

    settings = {**config["provider"], "record": str(tmp_path / "capacity.jsonl")}
    made = _get_node_provider(settings, config["cluster_name"], use_cache=False)
    yield made
    made.terminate_nodes(made.non_terminated_nodes({}))
    assert made.non_terminated_nodes({}) == [] and running(ec2) == {}


def running(ec2: Any) -> dict[str, dict[str, Any]]:
    """By id: every machine that EC2 has and that costs money, whoever started it."""
    machines = [each for found in ec2.describe_instances()["Reservations"] for each in found["Instances"]]
    return {each["InstanceId"]: each for each in machines if each["State"]["Name"] in {"pending", "running"}}


def start(provider: Any, config: Mapping[str, Any], kind: str) -> None:
    """As the autoscaler does it for one node."""
    head = kind == config["head_node_type"]
    settings = config["available_node_types"][kind]
    tags = {
        "ray-node-type": "head" if head else "worker",
        "ray-node-name": f"ray-{config['cluster_name']}-{'head' if head else 'worker'}",
        "ray-node-status": "uninitialized",
        "ray-user-node-type": kind,
        "ray-launch-config": "0",
    }
    provider.create_node_with_resources_and_labels(
        settings["node_config"], tags, 1, settings["resources"], settings.get("labels", {})
    )


def test_the_rendered_files_have_nothing_to_mend(cluster: Cluster) -> None:
    assert lint(cluster) == []


def test_ray_makes_no_role_no_group_and_takes_nothing_from_the_file(
    ec2: Any, cluster: Cluster, config: dict[str, Any]
) -> None:
    iam = boto3.client("iam", region_name=REGION)
    assert {each["RoleName"] for each in iam.list_roles()["Roles"]} == {"raysft-head", "raysft-worker"}
    assert {each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]} == {"default", "nodes"}
    rendered = yaml.safe_load(render(cluster)["ray.yaml"])
    for name, kind in rendered["available_node_types"].items():
        made = config["available_node_types"][name]
        key = made["node_config"].pop("KeyName")
        assert key.startswith("ray-autoscaler_")  # for which the head's policy allows to start machines
        subnets = made["node_config"]["SubnetIds"]
        assert made["node_config"] == {**kind["node_config"], "SubnetIds": subnets}, name
        assert sorted(subnets) == sorted(kind["node_config"]["SubnetIds"])
        assert made["resources"] == kind["resources"], name
        made["node_config"]["KeyName"] = key
    assert config["available_node_types"]["head_node"]["resources"]["CPU"] == 0
    assert [each["name"] for each in config["provider"]["pools"]] == ["l4-spot", "l4"]


@pytest.mark.parametrize(
    ("kind", "machine", "profile", "lifecycle"),
    [
        ("head_node", "m7i.xlarge", "raysft-head", None),
        ("l4-spot", "g6.xlarge", "raysft-worker", "spot"),
        ("l4", "g6.xlarge", "raysft-worker", None),
    ],
)
def test_a_machine_is_what_the_file_says(
    ec2: Any,
    provider: Any,
    config: dict[str, Any],
    cluster: Cluster,
    kind: str,
    machine: str,
    profile: str,
    lifecycle: str | None,
) -> None:
    start(provider, config, kind)
    (node,) = running(ec2).values()
    section = cluster.config.aws
    assert section is not None
    assert node["InstanceType"] == machine and node.get("InstanceLifecycle") == lifecycle
    assert node["IamInstanceProfile"]["Arn"].endswith(f"/{profile}")
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert node["SubnetId"] in section.subnets and node["ImageId"] == section.ami
    assert [each["GroupId"] for each in node["SecurityGroups"]] == [section.security_group]
    tags = {each["Key"]: each["Value"] for each in node["Tags"]}
    assert tags["ray-cluster-name"] == "rehearsal" and tags["ray-user-node-type"] == kind
    assert tags["raysft.io/pool"] == ("head" if kind == "head_node" else kind)
    volumes = [each["Ebs"]["VolumeId"] for each in node["BlockDeviceMappings"]]
    for volume in ec2.describe_volumes(VolumeIds=volumes)["Volumes"]:
        assert volume["Encrypted"] and volume["Size"] == 200 and volume["VolumeType"] == "gp3"


def test_nobody_from_outside_reaches_a_node(ec2: Any, cluster: Cluster) -> None:
    section = cluster.config.aws
    assert section is not None
    (group,) = ec2.describe_security_groups(GroupIds=[section.security_group])["SecurityGroups"]
    assert group["IpPermissions"], "nodes must reach each other"
    for rule in group["IpPermissions"]:
        assert not rule["IpRanges"] and not rule["Ipv6Ranges"]
        assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == [section.security_group]


def no_spot(provider: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """EC2 says that it has no spot machine; returns the markets that are asked, as they are."""
    asked: list[str] = []
    really = provider.ec2_fail_fast.create_instances

    def create_instances(**request: Any) -> Any:
        asked.append(request.get("InstanceMarketOptions", {}).get("MarketType", "on-demand"))
        if asked[-1] == "spot":
            error = {"Code": "InsufficientInstanceCapacity", "Message": "We currently do not have sufficient capacity"}
            raise ClientError({"Error": error}, "RunInstances")  # type: ignore[arg-type, unused-ignore]
        return really(**request)

    monkeypatch.setattr(provider.ec2_fail_fast, "create_instances", create_instances)
    return asked


def test_where_spot_has_no_capacity_a_machine_is_started_on_demand(
    ec2: Any, provider: Any, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    asked = no_spot(provider, monkeypatch)
    # The call ends so that Ray closes its request for spot; the node is there, and counted as what it is.
    with pytest.raises(NodeLaunchException, match="l4 gave 1 instead"):
        start(provider, config, "l4-spot")
    (node,) = running(ec2).values()
    tags = {each["Key"]: each["Value"] for each in node["Tags"]}
    assert node.get("InstanceLifecycle") is None
    assert tags["ray-user-node-type"] == tags["raysft.io/pool"] == "l4"
    assert set(asked) == {"spot", "on-demand"} and asked.index("on-demand") >= 2, "both subnets are tried first"
    before = len(asked)
    with pytest.raises(NodeLaunchException, match="l4 gave 1 instead"):
        start(provider, config, "l4-spot")
    assert asked[before:] == ["on-demand"], "spot is left alone for a while"


def test_down_leaves_no_machine(
    ec2: Any,
    provider: Any,
    config: dict[str, Any],
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """By Ray's own command, which asks for a session with each node, gets none here, and ends them all the same."""
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/sessions\nexit 1\n', encoding="utf-8")
    aws.chmod(0o755)
    monkeypatch.setenv("PATH", str(aws.parent), prepend=os.pathsep)
    folder = keep(cluster, render(cluster))
    for kind in ("head_node", "l4-spot", "l4"):
        start(provider, config, kind)
    nodes = set(running(ec2))
    assert len(nodes) == 3
    assert run(["cluster", "down", "rehearsal"]) == 0, capfd.readouterr()
    assert running(ec2) == {} and not folder.exists()
    sessions = {line.partition(" --document-name")[0] for line in (tmp_path / "sessions").read_text().splitlines()}
    assert sessions == {f"ssm start-session --region {REGION} --target {node}" for node in nodes}


def test_the_heads_role_starts_and_ends_machines_of_its_cluster_alone(cluster: Cluster, config: dict[str, Any]) -> None:
    policy = json.loads(render(cluster)["head-policy.json"])
    section = cluster.config.aws
    assert section is not None
    arn = f"arn:aws:ec2:{REGION}:123456789012"
    own = {
        "aws:RequestTag/ray-cluster-name": "rehearsal",
        "ec2:InstanceType": "g6.xlarge",
        "ec2:MetadataHttpTokens": "required",
        "ec2:Encrypted": "true",
    }
    key = config["available_node_types"]["l4"]["node_config"]["KeyName"]
    needed = [
        f"{arn}:instance/i-1",
        f"{arn}:volume/vol-1",
        f"{arn}:network-interface/eni-1",
        f"{arn}:spot-instances-request/sir-1",
        f"{arn}:subnet/{section.subnets[0]}",
        f"{arn}:security-group/{section.security_group}",
        f"{arn}:key-pair/{key}",
        f"arn:aws:ec2:{REGION}::image/{section.ami}",
    ]
    for resource in needed:
        assert allowed(policy, "ec2:RunInstances", resource, own), resource
    for key, other in {
        "aws:RequestTag/ray-cluster-name": "another",
        "ec2:InstanceType": "p5.48xlarge",
        "ec2:MetadataHttpTokens": "optional",
    }.items():
        assert not allowed(policy, "ec2:RunInstances", needed[0], own | {key: other}), key
    assert not allowed(policy, "ec2:RunInstances", needed[1], own | {"ec2:Encrypted": "false"})
    assert not allowed(policy, "ec2:RunInstances", f"{arn}:security-group/sg-1", own)
    for action in ("ec2:TerminateInstances", "ec2:CreateTags"):
        assert allowed(policy, action, needed[0], {"aws:ResourceTag/ray-cluster-name": "rehearsal"})
        assert not allowed(policy, action, needed[0], {"aws:ResourceTag/ray-cluster-name": "another"})
        assert not allowed(policy, action, needed[0])
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    assert allowed(policy, "iam:PassRole", "arn:aws:iam::123456789012:role/raysft-worker", to_ec2)
    for role in ("raysft-head", "admin"):
        assert not allowed(policy, "iam:PassRole", f"arn:aws:iam::123456789012:role/{role}", to_ec2)
    assert allowed(policy, "ec2:DescribeInstances", "*") and not allowed(policy, "iam:CreateRole", "*")


def test_workers_may_start_nothing_and_see_their_part_of_the_bucket(cluster: Cluster) -> None:
    policy = json.loads(render(cluster)["worker-policy.json"])
    for place, may in {
        "corpora/of-ours/x.csv": True,
        "corpora/of-others/x.csv": False,
        "other/of-ours/x": False,
    }.items():
        assert allowed(policy, "s3:GetObject", f"arn:aws:s3:::{place}") == may, place
    bucket = "arn:aws:s3:::corpora"
    assert allowed(policy, "s3:ListBucket", bucket, {"s3:prefix": "of-ours/2026"})
    assert not allowed(policy, "s3:ListBucket", bucket, {"s3:prefix": "of-others"})
    assert not allowed(policy, "s3:DeleteBucket", bucket)
    for action in ("ec2:RunInstances", "ec2:TerminateInstances", "iam:PassRole", "ssm:StartSession"):
        assert not allowed(policy, action, "*", {"aws:RequestTag/ray-cluster-name": "rehearsal"})

"""What the two roles of a cluster on EC2 may do, and nothing else.

The head starts, tags and ends machines of its own cluster, of the types, image, subnets and security group that the
file names, with the workers' role and never its own. Workers may start nothing.
"""

from __future__ import annotations

import re
from typing import Any

from raysft.cluster.pools.catalogue import pools_of
from raysft.config import Cluster
from raysft.config.cluster import AwsSection

CLUSTER_TAG = "ray-cluster-name"
ECR_IMAGE = re.compile(r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/(?P<name>[^:@]+)")
Statement = dict[str, Any]


def trust_policy() -> dict[str, Any]:
    """Both roles are taken by machines of EC2."""
    allow = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [allow]}


def head_policy(cluster: Cluster) -> dict[str, Any]:
    """IAM policy of the head."""
    return _policy(
        *_start(cluster),
        _tag_at_start(cluster),
        _change_own(cluster),
        _allow("Look", "*", "ec2:DescribeInstances"),
        _pass_worker_role(cluster),
        _allow(
            "SessionManager",
            "*",
            "ssm:UpdateInstanceInformation",
            "ssmmessages:CreateControlChannel",
            "ssmmessages:CreateDataChannel",
            "ssmmessages:OpenControlChannel",
            "ssmmessages:OpenDataChannel",
        ),
        *_everywhere(cluster),
    )


def worker_policy(cluster: Cluster) -> dict[str, Any]:
    """IAM policy of the workers, on which the code of jobs runs."""
    statements = _everywhere(cluster)
    if not statements:  # IAM knows no empty policy
        statements = [{"Sid": "Nothing", "Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*"}]
    return _policy(*statements)


def role_name(profile: str) -> str:
    """The role in an instance profile has its name, as in Amazon's console."""
    return profile.rpartition("/")[2]


def _policy(*statements: Statement) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, resource: str | list[str], *actions: str, **condition: Any) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def _section(cluster: Cluster) -> AwsSection:
    assert cluster.config.aws is not None
    return cluster.config.aws


def _arn(cluster: Cluster, resource: str, account: str = "*") -> str:
    return f"arn:aws:ec2:{_section(cluster).region}:{account}:{resource}"


def _start(cluster: Cluster) -> list[Statement]:
    """RunInstances is asked of every resource that it touches; each has to be allowed."""
    section, run = _section(cluster), "ec2:RunInstances"
    of_cluster = {f"aws:RequestTag/{CLUSTER_TAG}": cluster.config.name}
    types = sorted({pool.machine for pool in pools_of(cluster)})
    machine = {**of_cluster, "ec2:InstanceType": types, "ec2:MetadataHttpTokens": "required"}
    given = [
        _arn(cluster, f"image/{section.ami}", account=""),
        *(_arn(cluster, f"subnet/{subnet}") for subnet in section.subnets),
        _arn(cluster, f"security-group/{section.security_group}"),
        _arn(cluster, "network-interface/*"),
        _arn(cluster, "key-pair/ray-autoscaler_*"),
    ]
    return [
        _allow("StartOwn", _arn(cluster, "instance/*"), run, StringEquals=machine),
        _allow("StartOwnSpot", _arn(cluster, "spot-instances-request/*"), run),
        _allow(
            "StartWithDisk",
            _arn(cluster, "volume/*"),
            run,
            StringEquals=of_cluster,
            Bool={"ec2:Encrypted": "true"},
        ),
        _allow("StartWith", given, run),
    ]


def _tag_at_start(cluster: Cluster) -> Statement:
    resources = [_arn(cluster, "instance/*"), _arn(cluster, "volume/*")]
    condition = {"ec2:CreateAction": "RunInstances", f"aws:RequestTag/{CLUSTER_TAG}": cluster.config.name}
    return _allow("TagAtStart", resources, "ec2:CreateTags", StringEquals=condition)


def _change_own(cluster: Cluster) -> Statement:
    """Ends and tags machines that have the cluster's tag, which only their start can give."""
    tag = {f"aws:ResourceTag/{CLUSTER_TAG}": cluster.config.name}
    return _allow(
        "ChangeOwn", _arn(cluster, "instance/*"), "ec2:TerminateInstances", "ec2:CreateTags", StringEquals=tag
    )


def _pass_worker_role(cluster: Cluster) -> Statement:
    role = f"arn:aws:iam::*:role/{role_name(_section(cluster).worker_profile)}"
    to = {"iam:PassedToService": "ec2.amazonaws.com"}
    return _allow("GiveWorkersTheirRole", role, "iam:PassRole", StringEquals=to)


def _bucket(address: str) -> list[Statement]:
    """Objects under the prefix, and their names."""
    name, _, prefix = address.removeprefix("s3://").partition("/")
    under = f"{prefix}/*" if prefix else "*"
    actions = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
    seen = {"s3:prefix": [prefix, under] if prefix else ["*"]}
    return [
        _allow("Objects", f"arn:aws:s3:::{name}/{under}", *actions),
        _allow("NamesOfObjects", f"arn:aws:s3:::{name}", "s3:ListBucket", StringLike=seen),
    ]


def _everywhere(cluster: Cluster) -> list[Statement]:
    """What head and workers need alike: the file system, the image, the bucket."""
    section, statements = _section(cluster), []
    if section.file_system:
        resource = f"arn:aws:elasticfilesystem:{section.region}:*:file-system/{section.file_system}"
        actions = ("elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite")
        statements.append(_allow("MountStorage", resource, *actions))
    statements += _bucket(section.bucket) if section.bucket else []
    if found := ECR_IMAGE.match(cluster.config.image or ""):
        repository = "arn:aws:ecr:{region}:{account}:repository/{name}".format(**found.groupdict())
        statements.append(_allow("EnterRegistry", "*", "ecr:GetAuthorizationToken"))
        statements.append(_allow("FetchImage", repository, "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"))
    return statements

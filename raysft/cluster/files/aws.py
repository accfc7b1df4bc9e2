"""Files of a cluster on Amazon EC2: cluster file of `ray up`, network and the policies of its two roles."""

from __future__ import annotations

import re
from typing import Any

from raysft.cluster.files.aws_policies import head_policy, trust_policy, worker_policy
from raysft.cluster.files.manifest import as_manifests
from raysft.cluster.files.ray_up import Cloud, as_json, config_of, nfs_mount
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.cluster import AwsSection
from raysft.config.labels import POOL

ROOT_DISK = "/dev/sda1"  # of Ubuntu's images
REGISTRY = re.compile(r"^(\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com)/")
# Through Session Manager, so that no port is open to anyone outside the security group.
SSM = (
    "aws ssm start-session --region {region} --target %h --document-name AWS-StartSSHSession --parameters portNumber=%p"
)


def render(cluster: Cluster) -> dict[str, str]:
    """ray.yaml, network.json (CloudFormation) and the policies of head and workers (IAM).

    Raises JobFileError where the catalogue and the file do not say enough of a pool.
    """
    section = section_of(cluster)
    cloud = Cloud(
        name="aws",
        client="boto3",
        provider={"region": section.region, "use_internal_ips": True, "cache_stopped_nodes": False},
        auth={
            "ssh_user": "ubuntu",
            "ssh_proxy_command": SSM.format(region=section.region),
            "ssh_proxy_use_node_id": True,
        },
        head=_node(cluster, section.head_machine, section.head_profile, "head"),
        workers={pool.name: _worker(cluster, pool) for pool in pools_of(cluster)},
        on_host=(*_mount(cluster), *_login(cluster)),
    )
    return {
        "ray.yaml": as_manifests([config_of(cluster, cloud)], cluster.path.name),
        "network.json": as_json(_network(cluster)),
        "trust.json": as_json(trust_policy()),
        "head-policy.json": as_json(head_policy(cluster)),
        "worker-policy.json": as_json(worker_policy(cluster)),
    }


def section_of(cluster: Cluster) -> AwsSection:
    """The section that is there when the kind is aws."""
    assert cluster.config.aws is not None
    return cluster.config.aws


def _node(cluster: Cluster, machine: str, profile: str, pool: str) -> dict[str, Any]:
    """What EC2 is asked for (RunInstances), on demand. `SubnetIds` is Ray's: it tries one after another."""
    section = section_of(cluster)
    return {
        "InstanceType": machine,
        "ImageId": section.ami,
        "SubnetIds": list(section.subnets),
        "SecurityGroupIds": [section.security_group],
        "IamInstanceProfile": {"Arn" if profile.startswith("arn:") else "Name": profile},
        "BlockDeviceMappings": [
            {
                "DeviceName": ROOT_DISK,
                "Ebs": {
                    "VolumeSize": section.disk,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        # Two hops, since programs that run in a container's own network are one farther away.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"},
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": _tags(cluster.config.name, pool)} for kind in ("instance", "volume")
        ],
    }


def _worker(cluster: Cluster, pool: Pool) -> dict[str, Any]:
    node = _node(cluster, pool.machine, section_of(cluster).worker_profile, pool.name)
    if pool.spot:
        options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        node["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    return node


def _tags(name: str, pool: str) -> list[dict[str, str]]:
    """The first is Ray's own, which the head's role is bound to; volumes do not have it unless it is said here."""
    return [{"Key": "ray-cluster-name", "Value": name}, {"Key": POOL, "Value": pool}]


def _mount(cluster: Cluster) -> tuple[str, ...]:
    assert cluster.config.storage is not None
    return nfs_mount(cluster.config.storage, section_of(cluster).file_system, "mount -t efs -o tls,iam")


def _login(cluster: Cluster) -> tuple[str, ...]:
    """Images in Amazon's registry are fetched with the node's role."""
    found = REGISTRY.match(cluster.config.image or "")
    if not found:
        return ()
    region = found[1].split(".")[3]
    password = f"aws ecr get-login-password --region {region}"
    return (f"{password} | docker login --username AWS --password-stdin {found[1]}",)


def _network(cluster: Cluster) -> dict[str, Any]:
    """A security group whose members reach each other, and which nobody outside reaches."""
    section = section_of(cluster)
    every = {"IpProtocol": "-1", "GroupId": {"Ref": "Nodes"}}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Security group of the nodes of {cluster.config.name}: open among themselves, to nobody else",
        "Resources": {
            "Nodes": {
                "Type": "AWS::EC2::SecurityGroup",
                "Properties": {
                    "GroupDescription": f"Nodes of {cluster.config.name}",
                    "VpcId": section.vpc,
                    "Tags": [{"Key": "raysft.io/cluster", "Value": cluster.config.name}],
                },
            },
            "AmongNodes": {
                "Type": "AWS::EC2::SecurityGroupIngress",
                "Properties": {
                    **every,
                    "SourceSecurityGroupId": {"Ref": "Nodes"},
                    "Description": "Ray, ssh from the head, NCCL, EFA and the file system",
                },
            },
            "ToNodes": {  # EFA needs a rule that names the group itself, beside EC2's own rule for what goes out
                "Type": "AWS::EC2::SecurityGroupEgress",
                "Properties": {**every, "DestinationSecurityGroupId": {"Ref": "Nodes"}, "Description": "EFA"},
            },
        },
        "Outputs": {"SecurityGroup": {"Value": {"Ref": "Nodes"}, "Description": "aws.security_group"}},
    }

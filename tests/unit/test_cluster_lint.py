"""Each rule finds what it is for, in files that are right but for one thing."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysft.cluster.files.manifest import as_manifests, read_manifests
from raysft.cluster.render import render
from raysft.cluster.rules import lint as general
from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.lint import MODULES, lint
from raysft.config import Cluster, load_cluster

FOLDER = Path(__file__).parents[2] / "cluster"
Change = Callable[[Any], None]
Clusters = dict[str, tuple[Cluster, dict[str, str]]]


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    loaded = {kind: load_cluster(FOLDER / kind / "cluster.yaml") for kind in MODULES}
    return {kind: (cluster, render(cluster)) for kind, cluster in loaded.items()}


def changed(file: str, text: str, change: Change) -> str:
    document = json.loads(text) if file.endswith(".json") else read_manifests(text)[0]
    change(document)
    return json.dumps(document) if file.endswith(".json") else as_manifests([document], "cluster.yaml")


def put(*path: Any, to: Any) -> Change:
    """Sets one value; None takes the key out."""

    def change(document: Any) -> None:
        for name in path[:-1]:
            document = document[name]
        if to is None:
            del document[path[-1]]
        elif isinstance(document, list) and path[-1] == len(document):
            document.append(to)
        else:
            document[path[-1]] = to

    return change


TYPES = "available_node_types"
AWS_SPOT = (TYPES, "l4-spot", "node_config")
AWS_HEAD = (TYPES, "head_node", "node_config")
GCP_SPOT = (TYPES, "l4-spot", "node_config")
AZURE_SPOT = (TYPES, "a100-spot", "node_config", "azure_arm_parameters")
ON_OWN = ("resource", "google_project_iam_member", "on_own", "condition")
# It holds for demo-gcp-2, too.
OF_DEMO_TOO = 'resource.name.startsWith("projects/raysft-demo/zones/europe-west4-a/instances/ray-demo-gcp-")'
FIREWALL = ("resource", "google_compute_firewall")
RULES_OF_AZURE = ("resources", 0, "properties", "securityRules")
BREAKS: list[tuple[str, str, str, Change, str]] = [
    # kind, file, rule, change, what is said
    (
        "aws",
        "network.json",
        "open_to_the_world",
        put("Resources", "AmongNodes", "Properties", "x", to="0.0.0.0/0"),
        "x",
    ),
    (
        "gcp",
        "network.tf.json",
        "open_to_the_world",
        put(*FIREWALL, "x", to={"source_ranges": ["::/0"], "allow": []}),
        "::",
    ),
    ("aws", "ray.yaml", "secrets", put("rsync_exclude", to=["AKIA" + "A" * 16]), "a key of AWS"),
    ("aws", "ray.yaml", "secrets", put("rsync_exclude", to=["hf_" + "a" * 34]), "Hugging Face"),
    # Of the kinds that jobs are searched for, too: there is one list.
    ("aws", "ray.yaml", "secrets", put("rsync_exclude", to=["glpat-" + "a1B2" * 5]), "a token of GitLab"),
    ("aws", "ray.yaml", "secrets", put("rsync_exclude", to=["github_pat_" + "a1B2" * 9]), "a token of GitHub"),
    ("aws", "ray.yaml", "launches_at_once", put("head_start_ray_commands", 1, to="ray start --head"), "in parts"),
    ("aws", "ray.yaml", "secrets", put("rsync_exclude", to=["-----BEGIN RSA PRIVATE KEY-----"]), "a private key"),
    ("aws", "ray.yaml", "secrets", put("rsync_exclude", to=["https://me:word@host/x"]), "a password"),
    ("aws", "ray.yaml", "secrets", put("docker", "run_options", 0, to="--env=RAY_AUTH_TOKEN=abc"), "cluster's token"),
    ("aws", "ray.yaml", "rays_schema", put("max_worker", to=3), "max_worker"),
    ("aws", "ray.yaml", "rays_schema", put(TYPES, "l4", "resources", "CPU", to=1.5), "1.5"),
    ("aws", "ray.yaml", "known_provider_keys", put("provider", "regoin", to="x"), "provider.regoin"),
    ("azure", "ray.yaml", "no_public_address", put("provider", "use_internal_ips", to=False), "the world sees"),
    ("gcp", "ray.yaml", "head_works_not", put(TYPES, "head_node", "resources", "CPU", to=4), "on the head"),
    ("gcp", "ray.yaml", "head_works_not", put(TYPES, "head_node", "max_workers", to=1), "max_workers"),
    ("aws", "ray.yaml", "pools_as_told", put(TYPES, "l4", "labels", "raysft.io/pool", to="l5"), "set it to 'l4'"),
    ("aws", "ray.yaml", "pools_as_told", put(TYPES, "l4", "labels", "raysft.io/market", to="spot"), "'on-demand'"),
    ("aws", "ray.yaml", "pools_as_told", put(TYPES, "l4", to=None), "is missing"),
    ("aws", "ray.yaml", "labels_that_ray_takes", put(TYPES, "l4", "labels", "a b", to="x"), "no label"),
    ("aws", "ray.yaml", "labels_that_ray_takes", put(TYPES, "l4", "labels", "a", to="x!"), "no label: 'x!'"),
    ("aws", "ray.yaml", "enough_nodes_in_all", put("max_workers", to=3), "11 nodes"),
    ("aws", "ray.yaml", "pinned_image", put("docker", "image", to="raysft:latest"), "not pinned"),
    ("aws", "ray.yaml", "pinned_image", put("docker", "image", to="host:5000/raysft"), "not pinned"),
    ("aws", "ray.yaml", "pinned_image", put("docker", "image", to=None), "no image"),
    ("aws", "ray.yaml", "token_asked_for", put("docker", "run_options", to=[]), "no token is asked for"),
    ("aws", "ray.yaml", "dashboard_on_loopback", put("head_start_ray_commands", 1, to="ray start --head"), "is open"),
    ("aws", "ray.yaml", "jobs_may_save", put("head_start_ray_commands", 1, to="ray start --head"), "no time to save"),
    (
        "aws",
        "head-policy.json",
        "no_wide_role",
        put("x", to="arn:aws:iam::aws:policy/AmazonS3FullAccess"),
        "everything",
    ),
    ("gcp", "roles.tf.json", "no_wide_role", put("x", to="roles/compute.admin"), "everything"),
    ("azure", "role.json", "no_wide_role", put("roleName", to="Contributor"), "everything"),
    ("aws", "head-policy.json", "no_action_with_a_star", put("Statement", 0, "Action", to=["ec2:*"]), "ec2:*"),
    ("azure", "role.json", "no_action_with_a_star", put("Actions", 0, to="*"), "more than is needed"),
    ("aws", "worker-policy.json", "nothing_by_exception", put("Statement", 0, "NotAction", to="x"), "all but"),
    ("aws", "ray.yaml", "as_ec2_takes_it", put(*AWS_SPOT, "InstanceTyp", to="x"), "InstanceTyp"),
    ("aws", "ray.yaml", "as_ec2_takes_it", put(*AWS_SPOT, "MetadataOptions", "HttpToken", to="x"), "HttpToken"),
    (
        "aws",
        "ray.yaml",
        "as_ec2_takes_it",
        put(*AWS_HEAD, "BlockDeviceMappings", 0, "Ebs", "VolumeSize", to="x"),
        "int",
    ),
    ("aws", "ray.yaml", "nothing_left_to_ray", put(*AWS_HEAD, "IamInstanceProfile", to=None), "IamInstanceProfile"),
    ("aws", "ray.yaml", "nothing_left_to_ray", put(*AWS_SPOT, "SecurityGroupIds", to=[]), "SecurityGroupIds"),
    (
        "aws",
        "ray.yaml",
        "tokens_of_metadata",
        put(*AWS_SPOT, "MetadataOptions", "HttpTokens", to="optional"),
        "required",
    ),
    ("aws", "ray.yaml", "tokens_of_metadata", put(*AWS_SPOT, "MetadataOptions", to=None), "without a token"),
    (
        "aws",
        "ray.yaml",
        "tokens_of_metadata",
        put(*AWS_HEAD, "MetadataOptions", "HttpPutResponseHopLimit", to=9),
        "At most",
    ),
    (
        "aws",
        "ray.yaml",
        "encrypted_disks",
        put(*AWS_HEAD, "BlockDeviceMappings", 0, "Ebs", "Encrypted", to=False),
        "not enc",
    ),
    ("aws", "ray.yaml", "encrypted_disks", put(*AWS_HEAD, "BlockDeviceMappings", to=None), "missing"),
    ("aws", "ray.yaml", "spot_where_told", put(*AWS_SPOT, "InstanceMarketOptions", to=None), "is on-demand"),
    (
        "aws",
        "ray.yaml",
        "spot_where_told",
        put(*AWS_HEAD, "InstanceMarketOptions", to={"MarketType": "spot"}),
        "is spot",
    ),
    (
        "aws",
        "ray.yaml",
        "no_public_interface",
        put(*AWS_SPOT, "NetworkInterfaces", to=[{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]),
        "the world sees",
    ),
    (
        "aws",
        "network.json",
        "only_from_the_group",
        put("Resources", "AmongNodes", "Properties", "CidrIp", to="10.0.0.0/8"),
        "lets 10.0.0.0/8 in",
    ),
    (
        "aws",
        "ray.yaml",
        "launches_at_once",
        put("head_start_ray_commands", 1, to="export AUTOSCALER_MAX_LAUNCH_BATCH=100; ray start --head"),
        "AUTOSCALER_MAX_CONCURRENT_LAUNCHES=100",
    ),
    ("aws", "head-policy.json", "starts_only_its_own", put("Statement", 0, "Condition", to=None), "machines of others"),
    ("aws", "head-policy.json", "starts_only_its_own", put("Statement", 5, "Condition", to=None), "TerminateInstances"),
    ("aws", "head-policy.json", "starts_only_its_own", put("Statement", 7, "Resource", to="*"), "any role"),
    ("gcp", "roles.tf.json", "starts_only_its_own", put(*ON_OWN, "expression", to=OF_DEMO_TOO), "machines of others"),
    ("gcp", "ray.yaml", "known_keys", put(*GCP_SPOT, "machinetype", to="x"), "machinetype"),
    ("gcp", "ray.yaml", "known_keys", put(*GCP_SPOT, "serviceAccounts", to=None), "missing"),
    (
        "gcp",
        "ray.yaml",
        "spot_where_told",
        put(*GCP_SPOT, "scheduling", "provisioningModel", to="STANDARD"),
        "on demand",
    ),
    ("gcp", "ray.yaml", "may_not_be_moved", put(TYPES, "l4", "node_config", "scheduling", to={}), "cannot move"),
    (
        "gcp",
        "ray.yaml",
        "no_public_interface",
        put(*GCP_SPOT, "networkInterfaces", 0, "accessConfigs", to=[{}]),
        "world",
    ),
    ("gcp", "ray.yaml", "shielded", put(*GCP_SPOT, "shieldedInstanceConfig", to={}), "not shielded"),
    (
        "gcp",
        "network.tf.json",
        "only_nodes_and_proxy",
        put(*FIREWALL, "ssh_through_proxy", "source_ranges", to=["10.0.0.0/8"]),
        "lets",
    ),
    (
        "gcp",
        "network.tf.json",
        "only_nodes_and_proxy",
        put(*FIREWALL, "ssh_through_proxy", "allow", to=[{"protocol": "tcp"}]),
        "ssh",
    ),
    (
        "gcp",
        "network.tf.json",
        "only_nodes_and_proxy",
        put(*FIREWALL, "among_nodes", "source_service_accounts", to=[]),
        "everyone",
    ),
    (
        "gcp",
        "roles.tf.json",
        "starts_only_its_own",
        put("resource", "google_project_iam_member", "on_own", "condition", to=None),
        "machines of others",
    ),
    ("azure", "ray.yaml", "known_parameters", put(*AZURE_SPOT, "vmsize", to="x"), "vmsize"),
    ("azure", "ray.yaml", "spot_where_told", put(*AZURE_SPOT, "evictionPolicy", to="Deallocate"), "Deallocate"),
    ("azure", "ray.yaml", "nothing_left_to_ray", put("provider", "nsg", to=None), "provider.nsg"),
    ("azure", "ray.yaml", "pinned_node_image", put(*AZURE_SPOT, "imageVersion", to="latest"), "every week"),
    (
        "azure",
        "network.json",
        "nobody_from_the_internet",
        put(*RULES_OF_AZURE, 1, "properties", "sourceAddressPrefix", to="Internet"),
        "everyone in",
    ),
    (
        "azure",
        "network.json",
        "nobody_from_the_internet",
        put(*RULES_OF_AZURE, 1, "properties", "destinationPortRange", to="*"),
        "more than ssh",
    ),
    (
        "azure",
        "network.json",
        "nobody_from_the_internet",
        put(*RULES_OF_AZURE, 2, "properties", "access", to="Allow"),
        "no last rule",
    ),
    (
        "azure",
        "role.json",
        "only_in_its_group",
        put("AssignableScopes", 0, to="/subscriptions/x"),
        "whole subscription",
    ),
]


@pytest.mark.parametrize(
    ("kind", "file", "rule", "change", "words"), BREAKS, ids=[f"{i}-{b[0]}-{b[2]}" for i, b in enumerate(BREAKS)]
)
def test_a_rule_finds_what_it_is_for(
    kind: str,
    file: str,
    rule: str,
    change: Change,
    words: str,
    clusters: Clusters,
) -> None:
    from raysft.cluster.rules.rendered import Rendered

    cluster, files = clusters[kind]
    broken = {**files, file: changed(file, files[file], change)}
    (function,) = [each for each in rules_of(kind) if each.__name__ == rule]
    assert list(function(Rendered(cluster, files))) == []
    found = list(function(Rendered(cluster, broken)))
    assert found and words in "\n".join(map(str, found)), found
    assert {finding.file for finding in found} == {file} and all(finding.what and finding.fix for finding in found)


def rules_of(kind: str) -> list[Any]:
    modules = [importlib.import_module(f"raysft.cluster.rules.{module}") for module in MODULES[kind]]
    return [*general.RULES, *(rule for module in modules for rule in module.RULES)]


@pytest.mark.parametrize("kind", MODULES)
def test_all_rules_are_asked(kind: str, monkeypatch: pytest.MonkeyPatch, clusters: Clusters) -> None:
    cluster, files = clusters[kind]
    broken = {name: changed(name, text, put("x", to="0.0.0.0/0")) for name, text in files.items()}
    assert {finding.file for finding in lint(cluster, broken)} == set(files)
    module = importlib.import_module(f"raysft.cluster.rules.{MODULES[kind][1]}")
    monkeypatch.setattr(module, "RULES", (lambda _: iter([Finding("ray.yaml", "", "asked", "")]),))
    assert [finding.what for finding in lint(cluster, files)] == ["asked"]


def test_each_rule_is_broken_by_some_file() -> None:
    broken = {(kind, rule) for kind, _, rule, _, _ in BREAKS}
    own = {
        (kind, rule.__name__)
        for kind in MODULES
        for rule in rules_of(kind)
        if rule.__module__ == f"raysft.cluster.rules.{kind}"
    }
    shared = {rule.__name__ for kind in MODULES for rule in rules_of(kind)} - {name for _, name in own}
    assert own <= broken and shared <= {name for _, name in broken}
    assert len(own) >= 20 and len(shared) >= 15


def test_a_secret_is_not_repeated(clusters: Clusters) -> None:
    cluster, files = clusters["aws"]
    token = "hf_" + "q" * 34
    found = lint(cluster, {**files, "trust.json": json.dumps({"note": token})})
    assert found and token not in "\n".join(map(str, found))


def test_ray_is_not_loaded_by_a_check(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from raysft.cli.main import run; code = run(['cluster', 'check', sys.argv[1]]);"
        "assert code == 0 and not {'ray', 'torch', 'boto3'} & set(sys.modules), code"
    )
    command = [sys.executable, "-c", code, str(FOLDER / "aws" / "cluster.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing to mend" in done.stdout

"""The folder cluster/: each cluster.yaml renders to the files beside it, and no file there is without a test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from raysft.cluster.files.manifest import read_manifests
from raysft.cluster.files.ray_up import HEAD_TYPE, nfs_mount
from raysft.cluster.pools.catalogue import pools_of
from raysft.cluster.render import render
from raysft.cluster.rules.lint import lint
from raysft.config import load_cluster
from raysft.config.cluster import CLOUDS
from raysft.session import ENVIRONMENT

FOLDER = Path(__file__).parents[2] / "cluster"
CLUSTERS = sorted(path.parent.name for path in FOLDER.glob("*/cluster.yaml"))
# Files that nothing renders, and the test that covers each.
NAMED = {
    "README.md": "tests/unit/test_cluster_files.py",
    "docker/Dockerfile": "tests/unit/test_cluster_image.py",
    "docker/Dockerfile.dockerignore": "tests/unit/test_cluster_image.py",
}
LEAST = {
    "aws": 6,
    "azure": 4,
    "gcp": 4,
    "kubernetes": 7,
    "slurm": 2,
    "static": 5,
    "docker": 2,
}  # files of each folder, with cluster.yaml


def test_every_file_is_a_cluster_file_a_rendered_one_or_named_here() -> None:
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    made = {f"{name}/{file}" for name in CLUSTERS for file in render(load_cluster(FOLDER / name / "cluster.yaml"))}
    written = {f"{name}/cluster.yaml" for name in CLUSTERS}
    assert found == made | written | set(NAMED)
    for file, test in NAMED.items():
        assert (FOLDER.parent / test).is_file(), f"{file} is to be covered by {test}"
    counts = {name: sum(file.startswith(f"{name}/") for file in found) for name in LEAST}
    assert counts == LEAST


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_is_beside_a_cluster_file_is_what_it_renders_to(name: str) -> None:
    for file, text in render(load_cluster(FOLDER / name / "cluster.yaml")).items():
        assert (FOLDER / name / file).read_bytes() == text.encode(), f"render {name}/cluster.yaml again: {file}"


@pytest.mark.parametrize("name", CLUSTERS)
def test_nothing_is_to_mend(name: str) -> None:
    assert lint(load_cluster(FOLDER / name / "cluster.yaml")) == []


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_file_is_short_and_says_what_it_is(name: str) -> None:
    text = (FOLDER / name / "cluster.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ") and len(text.splitlines()) < 60


def test_the_readme_names_every_folder_and_how_it_is_tested() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in (path.name for path in FOLDER.iterdir() if path.is_dir()):
        assert f"]({name}/" in text or f"]({name})" in text, name


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_reads_what_we_wrote_and_its_own_checks_take_it(name: str) -> None:
    """Ray reads YAML 1.1, in which yes, no and on are no words."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    text = render(load_cluster(FOLDER / name / "cluster.yaml"))["ray.yaml"]
    config = yaml.safe_load(text)
    assert [config] == read_manifests(text)
    prepared = prepare_config(config)
    validate_config(prepared)
    # Ray adds the names of two old sections and no setting: nothing is left to its defaults.
    assert prepared.items() >= config.items()
    assert set(prepared) - set(config) <= {"head_node", "worker_nodes"}


@pytest.mark.parametrize("name", CLOUDS)
def test_pools_are_node_types_in_their_order(name: str) -> None:
    cluster = load_cluster(FOLDER / name / "cluster.yaml")
    types = yaml.safe_load(render(cluster)["ray.yaml"])["available_node_types"]
    assert list(types) == [HEAD_TYPE, *(pool.name for pool in cluster.config.pools)]
    priorities = [types[pool.name]["priority"] for pool in cluster.config.pools]
    assert priorities == sorted(set(priorities), reverse=True)
    for pool in pools_of(cluster):
        kind = types[pool.name]
        assert kind["resources"]["CPU"] == pool.cpus and kind["resources"].get("GPU", 0) == pool.gpus
        assert (kind["min_workers"], kind["max_workers"]) == (pool.fewest, pool.most)
        assert kind["labels"] == {"raysft.io/pool": pool.name, "raysft.io/market": pool.market}


@pytest.mark.parametrize("name", CLOUDS)
def test_commands_are_bash(name: str) -> None:
    config = yaml.safe_load((FOLDER / name / "ray.yaml").read_text(encoding="utf-8"))
    commands = [command for key, value in config.items() if key.endswith("_commands") for command in value]
    assert len(commands) >= 7
    for command in commands:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stderr == "", command


# How many of so many nodes of one pool Ray's autoscaler asks for in one step, and in one request.
ASKS = """
from ray.autoscaler._private.constants import AUTOSCALER_MAX_CONCURRENT_LAUNCHES, AUTOSCALER_MAX_LAUNCH_BATCH
from ray.autoscaler.v2.instance_manager.reconciler import Reconciler
from ray.core.generated.instance_manager_pb2 import Instance
queued = [Instance(instance_id=str(place), instance_type="spot") for place in range(120)]
found = Reconciler._compute_to_launch(queued, [], [], 120.0, AUTOSCALER_MAX_CONCURRENT_LAUNCHES)
print(len(found["spot"]), AUTOSCALER_MAX_LAUNCH_BATCH)
"""


def test_what_a_large_job_needs_is_asked_for_at_once() -> None:
    config = yaml.safe_load((FOLDER / "aws" / "ray.yaml").read_text(encoding="utf-8"))
    (start,) = [each for each in config["head_start_ray_commands"] if "--head" in each]
    exports = start.partition(";")[0]
    command = ["bash", "-c", f'{exports}; exec "$@"', "head", sys.executable, "-c", ASKS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["100", "100"]


def test_the_image_has_what_ray_up_needs_in_it() -> None:
    """Ray's head copies files to containers by rsync and ssh, and runs its commands in login shells."""
    text = (FOLDER / "docker" / "Dockerfile").read_text(encoding="utf-8")
    last = text.rpartition("\nFROM ")[2]
    for each in ("openssh-client", "rsync", "/etc/profile.d/", "--uid 1000"):
        assert each in last, each


@pytest.mark.parametrize(("market", "starts"), [("spot", True), ("on-demand", False)])
def test_the_watcher_starts_on_spot_nodes_alone(market: str, starts: bool, tmp_path: Path) -> None:
    config = yaml.safe_load((FOLDER / "aws" / "ray.yaml").read_text(encoding="utf-8"))
    (command,) = [each for each in config["worker_start_ray_commands"] if "preemption" in each]
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n', encoding="utf-8")
    python.chmod(0o755)
    log = f"{tmp_path}/log"
    command = command.replace("/tmp/raysft-preemption.log", log) + "; wait"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RAYSFT_MARKET": market}
    subprocess.run(["bash", "-c", command], env=environment, check=True, timeout=20)
    called = tmp_path / "called"
    assert called.exists() == starts
    if starts:
        pid_file = "--pid-file /tmp/raysft-preemption.pid"  # by which the next start of Ray there ends it
        assert called.read_text(encoding="utf-8") == f"-m raysft.cluster.preemption --cloud aws {pid_file}\n"


@pytest.mark.parametrize("name", CLUSTERS)
def test_nodes_of_each_kind_have_what_our_processes_read_from_their_environment(name: str) -> None:
    """A job that joins a cluster cannot give it to processes that are there."""
    said = {
        "kubernetes": "name: {}\n *value: ['\"]?{}['\"]?\n",
        "slurm": "export {}={}\n",
        "static": "Environment={}={}\n",
    }
    files = "".join(render(load_cluster(FOLDER / name / "cluster.yaml")).values())
    for key, value in ENVIRONMENT.items():
        assert re.search(said.get(name, "- --env={}={}\n").format(key, re.escape(value)), files), key


@pytest.mark.parametrize("name", CLOUDS)
def test_what_one_node_fetches_of_a_hub_is_there_for_all(name: str) -> None:
    config = yaml.safe_load((FOLDER / name / "ray.yaml").read_text(encoding="utf-8"))
    assert "--env=HF_HOME=/mnt/raysft/.cache/huggingface" in config["docker"]["run_options"]


def test_storage_with_a_space_in_its_path_is_mounted_and_seen(tmp_path: Path) -> None:
    text = (FOLDER / "gcp" / "cluster.yaml").read_text(encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    path.write_text(text.replace("storage: /mnt/raysft ", 'storage: "/mnt/it is ~here"'), encoding="utf-8")
    config = yaml.safe_load(render(load_cluster(path))["ray.yaml"])
    (volume,) = [each for each in config["docker"]["run_options"] if each.startswith("--volume=")]
    shown = subprocess.run(["bash", "-c", f"printf %s {volume}"], capture_output=True, text=True, check=True).stdout
    assert shown == "--volume=/mnt/it is ~here:/mnt/it is ~here"
    (home,) = [each for each in config["docker"]["run_options"] if each.startswith("--env=HF_HOME=")]
    shown = subprocess.run(["bash", "-c", f"printf %s {home}"], capture_output=True, text=True, check=True).stdout
    assert shown == "--env=HF_HOME=/mnt/it is ~here/.cache/huggingface"
    assert config["initialization_commands"][0] == "sudo mkdir -p '/mnt/it is ~here'"


@pytest.mark.parametrize(("mode", "asks"), [(0o777, False), (0o755, True)])
def test_storage_that_may_be_written_is_left_to_whom_it_belongs(mode: int, asks: bool) -> None:
    """A file system that squashes root would refuse the node, though it has been made ready for it."""
    if os.getuid() != 0:
        pytest.skip("only root has a folder that belongs to somebody else")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        for path, rights in ((folder, 0o755), (folder / "storage", mode), (folder / "bin", 0o777)):
            path.mkdir(exist_ok=True)
            path.chmod(rights)
        sudo = folder / "bin/sudo"
        sudo.write_text(f'#!/bin/sh\necho "$@" >{folder}/bin/asked\n', encoding="utf-8")
        sudo.chmod(0o755)
        command = nfs_mount(str(folder / "storage"), "fs-0a1b", "mount -t efs")[-1]
        environment = {"PATH": f"{folder}/bin:/usr/bin:/bin"}
        subprocess.run(["bash", "-c", command], env=environment, user=65534, group=65534, check=True, timeout=20)
        asked = folder / "bin/asked"
        assert asked.exists() == asks
        if asks:
            assert asked.read_text(encoding="utf-8") == f"chown 65534:65534 {folder}/storage\n"


def test_gpus_that_cannot_be_plugged_in_are_refused_with_their_line(tmp_path: Path) -> None:
    from raysft.errors import JobFileError

    text = (FOLDER / "gcp" / "cluster.yaml").read_text(encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    path.write_text(text.replace("gpu: T4", "gpu: H100"), encoding="utf-8")
    with pytest.raises(JobFileError, match=r"cluster\.yaml:\d+: pools\.2\.gpu: n1-machines take T4"):
        render(load_cluster(path))


def test_policies_name_the_file_system_the_bucket_and_the_image_of_the_file() -> None:
    policy = json.loads((FOLDER / "aws" / "worker-policy.json").read_text(encoding="utf-8"))
    resources = [statement["Resource"] for statement in policy["Statement"]]
    assert resources == [
        "arn:aws:elasticfilesystem:eu-west-1:*:file-system/fs-0a1b2c3d4e5f60718",
        "arn:aws:s3:::raysft-demo/corpora/*",
        "arn:aws:s3:::raysft-demo",
        "*",  # a registry is entered as a whole
        "arn:aws:ecr:eu-west-1:123456789012:repository/raysft",
    ]

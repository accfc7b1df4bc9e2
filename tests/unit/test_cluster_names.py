"""Machines of two clusters on Google Cloud are told apart by their names, whatever the clusters are called."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.cluster.files.gcp_access import checked_name, names_of_machines
from raysft.cluster.render import render
from raysft.config import load_cluster
from raysft.errors import JobFileError

FILE = Path(__file__).parents[2] / "cluster/gcp/cluster.yaml"
PARTS = st.lists(st.sampled_from(["demo", "gcp", "head", "worker", "heads", "2"]), min_size=1, max_size=4)


def machines(name: str) -> list[str]:
    """As Ray 2.60 names them: ray/autoscaler/_private/gcp/node.py, of a tag ray-CLUSTER-head or ray-CLUSTER-worker."""
    return [f"ray-{name}-{kind}-0a1b2c3d-compute" for kind in ("head", "worker")]


def takes(name: str) -> bool:
    try:
        checked_name(load_cluster(FILE, [f"name={name}"]))
    except JobFileError:
        return False
    return True


def test_ray_names_machines_so() -> None:
    found = find_spec("ray")
    assert found is not None and found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0])
    for file, words in (
        (
            "autoscaler/_private/gcp/node.py",
            'return f"{name_label}-{uuid4().hex[:INSTANCE_NAME_UUID_LEN]}-{node_suffix}"',
        ),
        ("autoscaler/_private/commands.py", '"ray-{}-head"'),
        ("autoscaler/v2/instance_manager/node_provider.py", '"ray-{}-worker"'),
    ):
        assert words in (source / file).read_text(encoding="utf-8"), file


@given(PARTS.map("-".join), PARTS.map("-".join))
def test_a_head_may_end_the_machines_of_its_own_cluster_alone(name: str, other: str) -> None:
    if name != other and takes(name) and takes(other):
        assert not any(machine.startswith(tuple(names_of_machines(name))) for machine in machines(other))
    assert all(machine.startswith(tuple(names_of_machines(name))) for machine in machines(name))


@pytest.mark.parametrize("letters", range(30, 41))
def test_machines_have_names_that_google_takes(letters: int) -> None:
    name = "x" * letters
    assert takes(name) == (max(map(len, machines(name))) <= 63)


@pytest.mark.parametrize("name", ["demo-worker", "demo-head-2", "a-worker-b"])
def test_names_that_could_be_taken_for_machines_are_refused(name: str) -> None:
    with pytest.raises(JobFileError, match="must have no part `head` or `worker` behind a dash"):
        render(load_cluster(FILE, [f"name={name}"]))


def test_the_condition_of_the_role_is_of_these_names() -> None:
    roles = render(load_cluster(FILE, ["name=demo"]))["roles.tf.json"]
    assert "instances/ray-demo-worker-" in roles and "disks/ray-demo-head-" in roles
    assert 'ray-demo-\\"' not in roles

"""A real autoscaler gives nodes of another pool where spot has none, returns to spot, and lets a node go in time."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.ray.pools import LIMIT_S, QUIET_S
from tests.support.autoscaling import session_of
from tests.support.nodes import run_on_nodes

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What tests/ray/pools.py saw on its cluster, which is gone by then."""
    found: dict[str, Any] = json.loads(run_on_nodes("tests.ray.pools").splitlines()[-1])
    return found


def test_where_nothing_is_to_be_had_each_pool_is_asked_once_and_people_are_told_when_next(seen: dict[str, Any]) -> None:
    """Ray asks the provider every second."""
    first = seen["without_any"]
    why = "InsufficientInstanceCapacity: no machine for"
    assert first["asked"] == [["gpu-spot", 0, f"{why} gpu-spot"], ["gpu-steady", 0, f"{why} gpu-steady"]]
    spot, steady = first["words"]
    assert re.fullmatch(r"pool gpu-spot has no capacity since \d+ s; gpu-spot next in \d+ s", spot)
    assert re.fullmatch(r"pool gpu-steady has no capacity since \d+ s; gpu-steady next in \d+ s", steady)


def test_without_spot_the_on_demand_pool_grows_from_zero_and_its_nodes_say_so(seen: dict[str, Any]) -> None:
    first = seen["without_spot"]
    assert first["pools"] == {"gpu-steady": 2}
    assert first["markets"] == ["on-demand", "on-demand"]
    spot, steady = first["asked"]
    assert (spot["pool"], spot["asked"], spot["got"]) == ("gpu-spot", 2, 0)
    assert (steady["pool"], steady["wanted"], steady["asked"], steady["got"]) == ("gpu-steady", "gpu-spot", 2, 2)
    # The other pool is asked in the same call, and not in a later one after the quiet time.
    assert steady["time"] - spot["time"] < QUIET_S


def test_a_job_can_read_why_and_what_comes_next(seen: dict[str, Any]) -> None:
    first = seen["without_spot"]
    assert first["told_to_jobs"] == first["on_the_head"]
    assert len(first["words"]) <= 1  # none where the nodes took longer than the quiet time
    for words in first["words"]:
        assert words.startswith("pool gpu-spot has no capacity since ")
        assert "gpu-steady gave 2 nodes instead" in words or "gpu-spot next in" in words


def test_the_request_is_closed_so_that_no_node_comes_too_late(seen: dict[str, Any]) -> None:
    """Ray would count it as a node to come for ten minutes, and then make it again."""
    first = seen["without_spot"]
    assert first["closed_s"] < LIMIT_S
    assert first["afterwards"] == {}


def test_capacity_that_comes_back_is_used_and_what_is_missing_comes_from_the_other_pool(seen: dict[str, Any]) -> None:
    second = seen["with_some_spot"]
    assert second["asked"] == [["gpu-spot", 2, 1], ["gpu-steady", 1, 1]]
    assert second["pools"] == {"gpu-spot": 1, "gpu-steady": 1}
    assert second["markets"] == ["on-demand", "spot"]


def test_a_node_of_which_the_cloud_gives_notice_is_drained_until_its_deadline(seen: dict[str, Any]) -> None:
    drained = seen["with_some_spot"]["drained"]
    assert (drained["before"], drained["code"]) == (0, 0)
    assert drained["draining"] == drained["wanted"], drained
    watching, notice, done = drained["said"].splitlines()
    assert "watching" in watching
    assert "spot instance action: terminate; 1" in notice
    assert "the node is drained" in done


def test_idle_pools_shrink_to_zero_and_no_process_is_left(seen: dict[str, Any]) -> None:
    assert all(seen[stage]["to_zero_s"] < LIMIT_S for stage in ("without_spot", "with_some_spot"))
    assert session_of(seen["head"]) == []

"""A cluster without a node grows for a training run and for a sweep, says what it waits for, and shrinks again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes import run_on_nodes

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def seen(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    printed = run_on_nodes("tests.ray.growing", tmp_path_factory.mktemp("growing"), base)
    return dict(json.loads(printed.splitlines()[-1]))


def test_two_nodes_come_for_two_workers_and_go(seen: dict[str, Any]) -> None:
    found = seen["train"]
    assert (found["workers"], found["nodes"]) == (2, 2)
    waited = [text for text in found["notes"] if text.startswith("waiting for")]
    first = "waiting for 2 workers x 1 GPU: 0 of 2 GPUs are free; the cluster may grow by 2 nodes"
    assert waited[0].startswith(first)
    # The cloud had none at first.
    assert any(re.search(r"; pool gpu has no capacity since \d+ s; gpu next in \d+ (s|min)$", text) for text in waited)


def test_what_no_pool_can_ever_hold_is_refused_at_once(seen: dict[str, Any]) -> None:
    refused = seen["train"]["refused"]
    assert "train.workers 3 x 1 GPU = 3 GPUs; the cluster can grow to 2" in refused
    assert "--set train.workers=2 or fewer" in refused


def test_nodes_come_for_a_sweep_and_go(seen: dict[str, Any]) -> None:
    found = seen["sweep"]
    assert found["trials"] == 2
    assert found["nodes"] >= 1

"""The watcher of notices finds Ray and its own node in it."""

from __future__ import annotations

import socket

import pytest

from raysft.cluster import preemption
from tests.support.metadata import metadata_service

pytestmark = pytest.mark.ray


def test_the_node_of_this_machine_is_found_in_ray(cluster: None) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    assert preemption._own_node(preemption._client(address)) == ray.get_runtime_context().get_node_id()


def test_where_no_ray_is_the_watcher_tries_for_a_while_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "PATIENCE_S", 0.1)
    monkeypatch.setattr(preemption, "AGAIN_S", 0.1)
    with socket.socket() as held, metadata_service("aws") as (service, url):
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        assert preemption.main(["--cloud", "aws", "--metadata-url", url, "--address", address]) == 3
        assert service.asked == []
    said = capsys.readouterr()
    assert "; tried again" in said.out
    assert f"error: no Ray at {address}: " in said.err and "-> Start Ray on this node first" in said.err

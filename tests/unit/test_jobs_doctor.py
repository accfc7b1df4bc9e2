"""What will go wrong on a cluster that is up, found from here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysft.cli.main import run
from raysft.config import load_cluster
from raysft.jobs.doctor import doctor
from tests.support.job_api import JobApi, serving

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  # of this server alone
HEAD = {"raylet": {"state": "ALIVE", "nodeName": "head", "isHeadNode": True, "resourcesTotal": {}}}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobApi]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    with serving(JobApi(token=TOKEN, nodes=[HEAD])) as api:
        write(tmp_path, api.address)
        yield api


def write(folder: Path, address: str) -> None:
    (folder / "far.yaml").write_text(
        f"name: far\naddress: {address}\ntoken_file: {folder}/token\nstorage: /mnt/raysft\n"
        "static: {head: 10.0.0.1, workers: [10.0.0.2]}\npools: [{name: cpu, cpus: 4}]\n",
        encoding="utf-8",
    )


def found(folder: Path) -> list[str]:
    return [f"{each.key}: {each.what}" for each in doctor(load_cluster(folder / "far.yaml"))]


def test_nothing_is_wrong(api: JobApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(tmp_path) == []
    assert run(["cluster", "doctor", str(tmp_path / "far.yaml")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("far: nothing to mend (the storage is tried by every job before it trains; ")
    assert {method for method, _ in api.asked} == {"GET"}  # it changes nothing


def test_all_that_is_wrong_is_told_at_once(api: JobApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.token, api.ray = None, "2.0.0"
    worker = {"raylet": {"state": "ALIVE", "nodeName": "w1"}, "disk": {"/": {"used": 97, "total": 100}}}
    api.nodes = [{"raylet": {**HEAD["raylet"], "resourcesTotal": {"CPU": 8.0}}}, worker]
    said = found(tmp_path)
    assert len(said) == 4
    for part in ("answers without a token", "runs Ray 2.0.0", "the head (head) offers 8 CPUs", "node w1 is 97% full"):
        assert any(part in each for each in said), part
    assert run(["cluster", "doctor", str(tmp_path / "far.yaml"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert len(json.loads(out)["findings"]) == 4 and "w1" in err and TOKEN not in out + err


def test_a_cluster_without_nodes(api: JobApi, tmp_path: Path) -> None:
    api.nodes = []
    assert found(tmp_path) == ["pools: no node is alive"]


def test_a_cluster_that_cannot_be_asked(api: JobApi, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another", encoding="utf-8")
    assert found(tmp_path) == [f"address: {api.address}: the token was refused"]
    write(tmp_path, "http://127.0.0.1:1")
    assert found(tmp_path) == ["address: no cluster answers at http://127.0.0.1:1"]
    (tmp_path / "token").unlink()
    assert "there is no token in" in found(tmp_path)[0]

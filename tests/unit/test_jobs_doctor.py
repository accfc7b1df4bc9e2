"""What will go wrong on a cluster that is up, found from here and, as a job there tells, by its nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysft.cli.main import run
from raysft.config import load_cluster
from raysft.jobs.doctor import Diagnosis, doctor
from tests.support.job_api import JobApi, event, serving

Capture = pytest.CaptureFixture[str]
TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  # of this server alone
HEAD = {"raylet": {"state": "ALIVE", "nodeName": "head", "isHeadNode": True, "resourcesTotal": {}}}
THERE = [
    {"name": "10.0.0.1", "pool": "head", "cpus": 0, "gpus": 0},
    {"name": "10.0.0.2", "pool": "cpu", "cpus": 4, "gpus": 0},
]
WELL = {
    "nodes": THERE,
    "may_come": [],
    "pools": [],
    "shortages": [],
    "storage": {"driver": "", "nodes": [{"name": "10.0.0.1", "said": ""}, {"name": "10.0.0.2", "said": ""}]},
}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobApi]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("raysft.jobs.doctor.POLL_S", 0.01)
    monkeypatch.setattr("raysft.jobs.doctor.END_S", 0.1)
    monkeypatch.setattr("raysft.jobs.doctor.SETTLE_S", 0.01)
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    with serving(JobApi(token=TOKEN, nodes=[HEAD])) as api:
        write(tmp_path, api.address)
        finds(api)
        yield api


def write(folder: Path, address: str, kind: str = "static: {head: 10.0.0.1, workers: [10.0.0.2]}") -> None:
    (folder / "far.yaml").write_text(
        f"name: far\naddress: {address}\ntoken_file: {folder}/token\nstorage: /mnt/raysft\nimage: x/raysft:1\n"
        f"pools: [{{name: cpu, cpus: 4, memory: 8}}]\n{kind}\n",
        encoding="utf-8",
    )


def finds(api: JobApi, **more: Any) -> None:
    """What the job on the cluster finds, once it is asked for."""
    log = event("probe", **{**WELL, **more})

    def end(path: str) -> None:
        for id, job in api.jobs.items():
            if job["status"] == "RUNNING":
                job |= {"status": "SUCCEEDED", "driver_exit_code": 0}
                api.logs[id] = log

    api.before = end


def found(folder: Path, **more: Any) -> Diagnosis:
    return doctor(load_cluster(folder / "far.yaml"), **more)


def said(folder: Path, **more: Any) -> list[str]:
    return [f"{each.exit_code} {each.key}: {each.what}" for each in found(folder, **more).troubles]


def test_nothing_is_wrong(api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    assert said(tmp_path) == []
    assert api.jobs == {}, "nothing of it is left"
    (submitted,) = [path for method, path in api.asked if method == "POST"]
    assert submitted == "/api/jobs/"
    assert run(["cluster", "doctor", str(tmp_path / "far.yaml")]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out == (
        "far: 2 node(s); room for 4 worker(s) on CPUs; storage tried on 2 node(s)\nfar: nothing to mend\n"
    )


def test_a_trial_that_ray_writes_anew_is_removed_again(api: JobApi, tmp_path: Path) -> None:
    gone: list[str] = []
    end = api.before

    def anew(path: str) -> None:
        end(path)
        if api.asked[-1][0] == "DELETE":
            gone.append(path)
            if len(gone) == 2:
                api.add(path.rpartition("/")[2], "FAILED")

    api.before = anew
    assert said(tmp_path) == [] and api.jobs == {} and len(gone) == 3


def test_what_runs_there_is_our_command(api: JobApi, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    end = api.before

    def look(path: str) -> None:
        end(path)
        seen.extend(api.jobs.values())

    api.before = look
    found(tmp_path, limit_s=60)
    assert seen[0]["entrypoint"] == "exec raysft cluster probe --node-seconds 20 /mnt/raysft"
    assert seen[0]["metadata"] == {}


def test_all_that_is_wrong_is_told_at_once(api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    api.token, api.ray = None, "2.0.0"
    worker = {"raylet": {"state": "ALIVE", "nodeName": "w1"}, "disk": {"/": {"used": 97, "total": 100}}}
    api.nodes = [{"raylet": {**HEAD["raylet"], "resourcesTotal": {"CPU": 8.0}}}, worker]
    there = said(tmp_path)
    assert len(there) == 4
    for part in ("answers without a token", "runs Ray 2.0.0", "the head (head) offers 8 CPUs", "node w1 is 97% full"):
        assert any(part in each for each in there), part
    assert run(["cluster", "doctor", str(tmp_path / "far.yaml"), "--json"]) == 4  # that of the first
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["schema"], document["name"], document["kind"]) == ("raysft.cluster-doctor/1", "far", "static")
    assert len(document["findings"]) == 4 and set(document["findings"][0]) == {"key", "what", "fix", "exit_code"}
    assert document["room"] == {"gpu_workers": 0, "cpu_workers": 4} and document["nodes"] == THERE
    lines = err.splitlines()
    assert len(lines) == 4 and all(line.startswith("far: ") and " → " in line for line in lines)
    assert TOKEN not in out + err


def test_a_cluster_without_nodes(api: JobApi, tmp_path: Path) -> None:
    api.nodes = []
    assert said(tmp_path) == ["5 pools: no node is alive"]


def test_a_cluster_that_cannot_be_asked(api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "token").write_text("another", encoding="utf-8")
    assert said(tmp_path) == [f"4 address: {api.address}: the token was refused"]
    write(tmp_path, "http://127.0.0.1:1")
    assert said(tmp_path) == ["3 address: no cluster answers at http://127.0.0.1:1"]
    assert run(["cluster", "doctor", str(tmp_path / "far.yaml")]) == 3
    out, err = capsys.readouterr()
    assert out == "far: not looked at\n" and "no cluster answers" in err and "cluster status far" in err
    assert "doctor" not in err
    (tmp_path / "token").unlink()
    assert "there is no token in" in said(tmp_path)[0]


def test_what_was_found_before_a_cluster_fell_silent_is_told(api: JobApi, tmp_path: Path) -> None:
    api.ray = "2.0.0"

    def fails(path: str) -> None:
        api.instead = (503, "gone", {}) if path.startswith("/nodes") else None

    api.before = fails
    assert [each.partition(":")[0] for each in said(tmp_path)] == ["2 image", "3 address"]


# --- storage


def tried(said: str | None) -> dict[str, Any]:
    """What node b says, where node a has nothing to say."""
    return {"driver": "", "nodes": [{"name": "a", "said": ""}, {"name": "b", "said": said}]}


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ({"driver": "/mnt/raysft cannot be written: denied", "nodes": []}, "2 storage: the head: /mnt/raysft cannot"),
        (tried("cannot rename a folder in /mnt/raysft: x"), "2 storage: node b cannot"),
        (tried(None), "2 storage: node b did not try /mnt/raysft in time"),
    ],
)
def test_storage_that_a_node_cannot_use(storage: Any, expected: str, api: JobApi, tmp_path: Path) -> None:
    finds(api, storage=storage)
    (only,) = said(tmp_path)
    assert only.startswith(expected)


def test_a_trial_that_does_not_end_is_given_up_and_ended(api: JobApi, tmp_path: Path) -> None:
    api.before = lambda _: None
    (only,) = said(tmp_path, limit_s=0.05)
    assert only.startswith("2 storage: a small job on the cluster did not end in 0 s: it is running")
    assert api.jobs == {}


def test_a_trial_that_fails_says_why(api: JobApi, tmp_path: Path) -> None:
    """As in an image without raysft, or with one that is older."""

    def fail(path: str) -> None:
        for job in api.jobs.values():
            job |= {"status": "FAILED", "driver_exit_code": 2, "message": "x\nError: No such command 'probe'."}

    api.before = fail
    (only,) = said(tmp_path)
    assert only == "2 image: a small job on the cluster failed: Error: No such command 'probe'."


# --- capacity


def test_hosts_that_are_missing(api: JobApi, tmp_path: Path) -> None:
    finds(api, nodes=THERE[:1])
    assert said(tmp_path) == [
        "5 pools: no node that could do work is there, and none may come",
        "5 static: 1 of 2 hosts are there",
    ]


KUBERNETES = "kubernetes: {namespace: raysft, claim: results, api_cidr: [10.0.0.1/32]}"


def test_pools_that_a_cluster_has_otherwise_than_its_file(api: JobApi, tmp_path: Path) -> None:
    write(tmp_path, api.address, KUBERNETES)
    come = [{"cpus": 4, "gpus": 0}]
    finds(api, nodes=THERE[:1], may_come=come, pools=[{"name": "cpu", "cpus": 4, "gpus": 0, "most": 1}])
    assert said(tmp_path) == []
    finds(api, may_come=come, pools=[{"name": "cpu", "cpus": 4, "gpus": 0, "most": 9}])
    assert said(tmp_path) == ["5 pools: pool cpu has most 9 on the cluster, 1 in its file"]
    finds(api, may_come=come, pools=[{"name": "other", "cpus": 4, "gpus": 0, "most": 9}])
    assert said(tmp_path) == ["5 pools: the cluster knows no pool cpu, which its file has"]


def test_what_a_cloud_does_not_give(api: JobApi, tmp_path: Path) -> None:
    line = "pool l4-spot has no capacity since 12 min; l4-spot next in 3 min"
    finds(api, shortages=[line])
    assert said(tmp_path) == [f"5 pools: {line}"]


def test_room_for_workers_with_gpus_needs_their_cpus(api: JobApi, tmp_path: Path) -> None:
    nodes = [{"name": "a", "pool": "cpu", "cpus": 2, "gpus": 8}, {"name": "b", "pool": "cpu", "cpus": 8, "gpus": 1}]
    finds(api, nodes=nodes)
    assert found(tmp_path).room == {"gpu_workers": 3, "cpu_workers": 10}

"""raysft submit and raysft jobs as people type them, against a server that speaks Ray's job API."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from raysft.cli.main import run
from raysft.cli.submit_command import command as submit_command
from raysft.cluster.named import state_folder
from raysft.jobs.verbs import VERBS
from tests.support.job_api import Answer, JobApi, event, serving
from tests.support.jobs import command

Capture = pytest.CaptureFixture[str]
ROWS = "text,label\nmy parcel is late,delivery\ngive me my money,refund\nreset my password,account\n"
ID = "tiny-train-0a1b2c3d-1"
TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  # of this server alone
BEGAN = 1_700_000_000.0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are typed, with a home of its own and nothing that is up."""
    for name in ("RAYSFT_CLUSTER", "RAYSFT_EVENTS", "RAYSFT_HOME", "RAYSFT_DEBUG", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    (folder / "job.yaml").write_text("name: tiny\nmodel: {base: a/b}\ndata: {train: rows.csv}\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def api(tmp_path: Path) -> Iterator[JobApi]:
    """A cluster with a token, which is named `far` here."""
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    with serving(JobApi(token=TOKEN)) as api:
        write_cluster(tmp_path, api.address)
        yield api


def write_cluster(folder: Path, address: str, more: str = "") -> None:
    (folder / "here/cluster/far").mkdir(parents=True, exist_ok=True)
    (folder / "here/cluster/far/cluster.yaml").write_text(
        f"name: far\naddress: {address}\ntoken_file: {folder}/token\nstorage: /mnt/raysft\n"
        f"static: {{head: 10.0.0.1}}\n{more}",
        encoding="utf-8",
    )


def document(capsys: Capture) -> Any:
    """The one document on stdout."""
    return json.loads(capsys.readouterr().out)


def over(api: JobApi, status: str = "SUCCEEDED", code: int | None = 0, log: str = "hello\n") -> None:
    """Whatever is asked of a job that was submitted: it is over."""

    def end(path: str) -> None:
        for id, job in api.jobs.items():
            if job["status"] == "RUNNING" and path.startswith(f"/api/jobs/{id}"):
                job |= {"status": status, "driver_exit_code": code, "end_time": 1_700_000_050_000}
                api.logs[id] = log

    api.before = end


# --- help


@pytest.mark.parametrize("verb", ["list", "status", "logs", "stop", "retry", "events"])
def test_every_part_has_help_with_an_example(verb: str, capsys: Capture) -> None:
    from raysft.cli.jobs_command import command as jobs

    assert run(["jobs", verb, "--help"]) == 0
    assert re.search(rf"Example:\n +raysft jobs {verb}\b", capsys.readouterr().out)
    for each in jobs.commands[verb].params:
        assert not isinstance(each, click.Option) or each.help


def test_the_verbs_that_can_be_submitted_are_those_that_a_request_knows() -> None:
    verb = next(each for each in submit_command.params if each.name == "verb")
    assert isinstance(verb.type, click.Choice) and tuple(verb.type.choices) == VERBS


# --- what would be sent


def test_a_dry_run_prints_the_very_request_and_asks_nobody(api: JobApi, capsys: Capture) -> None:
    order = ["submit", "train", "job.yaml", "--cluster", "far", "--set", "train.epochs=2"]
    assert run([*order, "--dry-run", "--json"]) == 0
    shown = document(capsys)
    assert api.asked == []
    assert (shown["schema"], shown["address"], shown["files"]) == (
        *("raysft.request/1", api.address),
        [{"name": name, "size_bytes": len((Path(name)).read_bytes())} for name in ("job.yaml", "rows.csv")],
    )
    over(api)
    assert run(order) == 0
    sent = next(iter(api.jobs.values()))
    wanted = shown["request"]
    assert {key: sent[key] for key in ("submission_id", "entrypoint", "runtime_env")} == {
        key: wanted[key] for key in ("submission_id", "entrypoint", "runtime_env")
    }
    assert list(api.packages) == [wanted["runtime_env"]["working_dir"].removeprefix("gcs://")]


def test_a_dry_run_for_people_says_what_is_sent_where_to(api: JobApi, capsys: Capture) -> None:
    assert run(["submit", "train", "job.yaml", "--cluster", "far", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^sent +75  rows\.csv$", out, re.M) or "rows.csv" in out
    assert f"to    {api.address}; " in out and "bytes packed" in out and err == "" and TOKEN not in out
    assert run(["submit", "train", "job.yaml", "--cluster", "local", "--dry-run"]) == 0
    assert "no file is sent" in capsys.readouterr().out


def test_a_dry_run_needs_no_cluster_that_is_up(capsys: Capture) -> None:
    order = ["submit", "train", "job.yaml", "--address", "http://127.0.0.1:1", "--dry-run", "--json"]
    assert run([*order, "--set", "output=/mnt/x"]) == 0
    assert "--set output=/mnt/x" in document(capsys)["request"]["entrypoint"]


def test_data_on_a_storage_that_is_not_here_can_be_named(api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    write_cluster(tmp_path, api.address, "pools: [{name: cpu, cpus: 4}]\n")
    order = ["submit", "train", "job.yaml", "--cluster", "far", "--dry-run", "--json"]
    assert run([*order, "--set", "data.train=/mnt/raysft/rows.csv"]) == 0
    assert [each["name"] for each in document(capsys)["files"]] == ["job.yaml"]


def test_neither_command_loads_what_is_heavy(api: JobApi) -> None:
    api.add(ID, "SUCCEEDED", event("stage", name="train"))
    orders = [
        ["submit", "train", "job.yaml", "--cluster", "far", "--dry-run", "--json"],
        ["submit", "train", "job.yaml", "--cluster", "far", "--detach"],
        *(["jobs", *words, "--cluster", "far"] for words in (["list"], ["status", ID], ["logs", ID], ["events", ID])),
    ]
    code = f"""
import sys
from raysft.cli.main import run
for order in {orders!r}:
    assert run(order) == 0, order
found = [name for name in ("ray", "torch", "transformers", "sklearn", "optuna") if name in sys.modules]
assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["submit", "train", "nothing.yaml"], 3, "no such job file"),
        (["submit", "train", "job.yaml", "--set", "train.epochs=-1"], 2, "train.epochs"),
        (["submit", "train", "job.yaml", "--set", "output=/home/x"], 2, "storage of the cluster"),
        (["submit", "train", "job.yaml", "--set", "data.train=/etc/hostname"], 2, "absolute path of this machine"),
        (["submit", "predict", "job.yaml", "--", "--output", "x.csv"], 2, "a relative path is lost"),
        (["submit", "train", "job.yaml", "--", "--bogus"], 2, "No such option"),
        (["submit", "train", "job.yaml", "--", "more"], 2, "unexpected extra argument"),
        (["submit", "evaluate", "job.yaml", "--", "--data", "nothing.csv"], 3, "nothing.csv: no such file"),
        (["submit", "predict", "job.yaml", "--", "--data=x", "nothing.csv"], 2, "No such option"),
        (["submit", "predict", "job.yaml", "--", "nothing*.csv"], 3, "nothing*.csv: no such file"),
        (["submit", "train", "job.yaml", "--address", "http://127.0.0.1:1"], 2, "both say where"),
        (["submit", "nonsense", "job.yaml"], 2, "nonsense"),
        (["jobs", "status", "nothing"], 3, "no job nothing"),
        (["jobs", "logs", "nothing"], 3, "no job nothing"),
        (["jobs", "logs", ID, "--tail", "0"], 2, "--tail"),
        (["jobs", "nonsense"], 2, "nonsense"),
    ],
)
def test_what_cannot_be_is_one_message_and_its_code(
    words: list[str], code: int, said: str, api: JobApi, capsys: Capture
) -> None:
    after = words.index("--") if "--" in words else len(words)
    assert run([*words[:after], "--cluster", "far", *words[after:]]) == code
    out, err = capsys.readouterr()
    assert out == "" and said in err and "Traceback" not in err and TOKEN not in err
    assert not api.jobs


def test_a_secret_is_refused(api: JobApi, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-secret")
    order = ["submit", "predict", "job.yaml", "--cluster", "far", "--", "--text", "planted-secret"]
    assert run(order) == 4 and run([*order[:3], "--dry-run", *order[3:]]) == 4
    out, err = capsys.readouterr()
    assert "arguments:2: the value of $HF_TOKEN would be sent" in err and "planted-secret" not in out + err
    assert api.asked == []


@pytest.mark.parametrize("words", [["jobs", "list"], ["jobs", "status", "x"], ["submit", "train", "job.yaml"]])
def test_clusters_that_cannot_be_spoken_to(words: list[str], api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    def ends(code: int, said: str, *flags: str) -> None:
        assert run([*words, *flags]) == code
        out, err = capsys.readouterr()
        assert said in err and out == "" and TOKEN not in err and "Traceback" not in err

    ends(2, "no cluster was named, and none is up")
    ends(3, "no cluster named nothing", "--cluster", "nothing")
    there = ["--set", "output=/mnt/x"] if words[0] == "submit" else []
    ends(4, "asks for a token", "--address", api.address, *there)
    ends(3, "no cluster answers at http://127.0.0.1:1", "--address", "http://127.0.0.1:1", *there)
    ends(2, "an address is like", "--address", "127.0.0.1", *there)
    api.instead = (500, "KeyError: 'x'", {})
    ends(3, "(500): KeyError: 'x'", "--cluster", "far")
    api.instead = (200, "<html>", {})
    ends(2, "is no Ray dashboard", "--cluster", "far")
    api.instead = (302, "", {"Location": "http://example.org"})
    ends(2, "leads to http://example.org", "--cluster", "far")
    (tmp_path / "token").write_text("another", encoding="utf-8")
    api.instead = None
    ends(4, "the token was refused", "--cluster", "far")
    write_cluster(tmp_path, "http://10.0.0.1:8265")
    ends(4, "over http, where others may read it", "--cluster", "far")
    (tmp_path / "token").unlink()
    ends(4, "there is no token in", "--cluster", "far")


def test_the_cluster_is_that_of_the_environment_or_the_only_one_that_is_up(
    api: JobApi, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    state_folder("up").mkdir(parents=True)
    (state_folder("up") / "cluster.yaml").write_text("name: up\nlocal: {}\n", encoding="utf-8")
    (state_folder("up") / "address").write_text(api.address, encoding="utf-8")
    (state_folder("up") / "token").write_text(TOKEN, encoding="utf-8")
    assert run(["jobs", "list"]) == 0
    assert capsys.readouterr().out == f"no jobs on {api.address}\n"
    monkeypatch.setenv("RAYSFT_CLUSTER", "nothing")
    assert run(["jobs", "list"]) == 3


# --- submitting and following


@pytest.mark.parametrize(
    ("status", "job_code", "code"),
    [("SUCCEEDED", 0, 0), ("FAILED", 100, 100), ("FAILED", 5, 5), ("FAILED", 137, 100), ("STOPPED", None, 130)],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_job_that_is_followed_ends_as_it_does(
    status: str, job_code: int | None, code: int, as_json: bool, api: JobApi, capsys: Capture
) -> None:
    over(api, status, job_code, f"hello [/x]\n{event('progress', done=1, total=2)}::raysft:: torn\nlast")
    assert run(["submit", "train", "job.yaml", "--cluster", "far", *(["--json"] if as_json else [])]) == code
    out, err = capsys.readouterr()
    id = next(iter(api.jobs))
    assert f"job {id} on {api.address}" in err and "::raysft::" not in out + err
    if as_json:
        facts = {"id": id, "attempt": 1, "address": api.address, "status": status, "exit_code": code, "reason": ""}
        assert json.loads(out) == {"schema": "raysft.submit/1", **facts}
        assert "hello [/x]\nlast\n" in err
    else:
        assert out == "hello [/x]\nlast\n" and f"job {id}: {status.lower()}" in err


def test_a_job_that_is_left_alone_is_told_how_to_come_back(api: JobApi, capsys: Capture) -> None:
    assert run(["submit", "train", "job.yaml", "--cluster", "far", "-d"]) == 0
    id = next(iter(api.jobs))
    out = capsys.readouterr().out
    assert f"raysft jobs logs {id} -f --cluster far" in out and f"raysft jobs status {id} --cluster far" in out
    api.jobs[id]["status"] = "FAILED"
    assert run(["submit", "train", "job.yaml", "--cluster", "far", "-d", "--json"]) == 0
    assert document(capsys) == {
        "schema": "raysft.submit/1",
        "id": f"{id[:-1]}2",
        "attempt": 2,
        "address": api.address,
        "status": "PENDING",
        "exit_code": None,
        "reason": "",
    }
    assert run(["submit", "train", "job.yaml", "--cluster", "far"]) == 4
    err = capsys.readouterr().err
    assert f"{id[:-1]}2 is at it already (running)" in err and f"jobs logs {id[:-1]}2 -f --cluster far; or" in err


def test_another_ray_is_refused(api: JobApi, capsys: Capture) -> None:
    api.ray = "2.0.0"
    assert run(["submit", "train", "job.yaml", "--cluster", "far"]) == 2
    assert "runs Ray 2.0.0" in capsys.readouterr().err and not api.packages


@pytest.mark.parametrize(
    "words", [["jobs", "logs", ID, "-f"], ["jobs", "retry", "tiny", "--json"], ["submit", "train", "job.yaml"]]
)
def test_control_c_leaves_the_job_alone_and_says_how_to_come_back(words: list[str], api: JobApi, here: Path) -> None:
    if words[0] == "jobs":
        api.add(ID, "RUNNING" if "logs" in words else "FAILED", "hello\n")
    order = command(*words, "--cluster", "far")
    process = subprocess.Popen(order, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not [path for _, path in api.asked if "/logs/" in path]:  # it follows
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    id = list(api.jobs)[-1]
    assert process.returncode == 130, err
    assert f"no longer following; job {id} goes on" in err
    assert f"raysft jobs logs {id} -f --cluster far" in err and f"raysft jobs stop {id} --cluster far" in err
    assert "Traceback" not in err and "Nothing is lost" not in err
    assert out == ("hello\n" if "logs" in words else "")
    assert api.jobs[id]["status"] == "RUNNING" and not [path for _, path in api.asked if path.endswith("/stop")]


def test_of_a_cluster_without_a_file_no_cost_is_known(api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(TOKEN, encoding="utf-8")
    told(api)
    assert run(["jobs", "list", "--address", api.address, "--json", "--all"]) == 0
    assert {each["cost_dollars"] for each in document(capsys)["jobs"]} == {None}


def test_an_address_is_said_again_where_it_was_given(api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(TOKEN, encoding="utf-8")
    order = ["submit", "train", "job.yaml", "--set", "output=/mnt/x", "--address", api.address, "-d"]
    assert run(order) == 0
    assert f"-f --address {api.address}\n" in capsys.readouterr().out
    next(iter(api.jobs.values()))["status"] = "FAILED"
    assert run([*order, "--insecure"]) == 0
    assert f"-f --address {api.address} --insecure\n" in capsys.readouterr().out


# --- looking


def told(api: JobApi) -> None:
    """A job that trains, one that waits, one that failed, one that was over long ago, and one of another origin."""
    train = event("stage", BEGAN, name="train") + event("nodes", BEGAN, pools={"spot": 1}, gpus=1)
    steps = [
        event("progress", BEGAN + t, done=t, total=100, text=f"loss {1 / (t + 1):.3f}  10 rows/s") for t in (0, 50)
    ]
    api.add(ID, log=f"hello\n{train}{steps[0]}there [/x]\n{steps[1]}")
    waits = event("warning", BEGAN, text="waiting for 8 x A100 [/x]")
    api.add("wait-train-11111111-1", log=waits, start_time=1_700_000_010_000)
    failed = event("error", BEGAN + 9, text="loss is nan\nmore", next="lower it", exit_code=100)
    now = int(time.time() * 1000)
    api.add("bad-train-22222222-1", "FAILED", failed, start_time=now - 5000, end_time=now, driver_exit_code=100)
    api.add("old-train-33333333-1", "SUCCEEDED", end_time=1_700_000_500_000, start_time=1)
    api.add("alien", "FAILED", message="no [/such] file", metadata=None, end_time=now, start_time=2)


def test_all_jobs_in_a_table(api: JobApi, tmp_path: Path, capsys: Capture) -> None:
    told(api)
    pool = "pools: [{name: spot, cpus: 4, gpus: 1, gpu: L4, price: 1.5, market: spot}]\n"
    write_cluster(tmp_path, api.address, pool)
    assert run(["jobs", "list", "--cluster", "far"]) == 0
    out, err = capsys.readouterr()
    lines = {line.split()[0].removesuffix(":"): line for line in out.splitlines()}
    assert err == "" and "old-train-33333333-1" not in out and "alien" in lines
    assert lines[ID].split()[1:8] == ["RUNNING", "train", "50%", "0.020", "10", "0", "s"]
    assert "wait-train-11111111-1: waiting for 8 x A100 [/x]" in out and "WAITING" in out
    assert "bad-train-22222222-1: loss is nan → lower it" in out and "alien: no [/such] file" in out
    assert run(["jobs", "list", "--cluster", "far", "--all"]) == 0
    assert "old-train-33333333-1" in capsys.readouterr().out


def test_all_jobs_as_one_document(api: JobApi, capsys: Capture) -> None:
    told(api)
    assert run(["jobs", "list", "--cluster", "far", "--json", "--all"]) == 0
    found = document(capsys)
    assert found["schema"] == "raysft.jobs/1"
    by_id = {each["id"]: each for each in found["jobs"]}
    assert next(iter(by_id)) == "bad-train-22222222-1" and len(by_id) == 5
    assert by_id["wait-train-11111111-1"]["status"] == "WAITING" and by_id[ID]["percent"] == 50.0
    api.jobs.clear()
    assert run(["jobs", "list", "--cluster", "far", "--json"]) == 0
    assert document(capsys)["jobs"] == []


@pytest.mark.parametrize("answer", [(404, "no log", {}), (500, "gone", {})])
def test_a_log_that_is_gone_hides_no_job(answer: Answer, api: JobApi, capsys: Capture) -> None:
    told(api)
    api.before = lambda path: setattr(api, "instead", answer if "/logs/" in path else None)
    assert run(["jobs", "list", "--cluster", "far", "--json", "--all"]) == 0
    assert len(document(capsys)["jobs"]) == 5
    assert run(["jobs", "status", "alien", "--cluster", "far"]) == 0
    assert "no [/such] file" in capsys.readouterr().out


def test_one_job(api: JobApi, capsys: Capture) -> None:
    told(api)
    assert run(["jobs", "status", "tiny", "--cluster", "far"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"progress +50 of 100 \(50\.0 %\)", out) and re.search(r"output +/mnt/raysft/results", out)
    assert run(["jobs", "status", "alien", "--cluster", "far"]) == 0
    assert "no [/such] file" in capsys.readouterr().out
    assert run(["jobs", "status", "bad-train-22222222", "--cluster", "far", "--json"]) == 0
    found = document(capsys)
    assert (found["schema"], found["status"], found["reason"], found["next"]) == (
        *("raysft.job/1", "FAILED", "loss is nan", "lower it"),
    )
    assert found["submitted"]["verb"] == "train"


def test_what_a_job_has_printed(api: JobApi, capsys: Capture) -> None:
    told(api)
    assert run(["jobs", "logs", ID, "--cluster", "far"]) == 0
    assert capsys.readouterr() == ("hello\nthere [/x]\n", "")
    assert run(["jobs", "logs", ID, "--cluster", "far", "--tail", "1"]) == 0
    assert capsys.readouterr().out == "there [/x]\n"
    api.logs[ID] = ""
    assert run(["jobs", "logs", ID, "--cluster", "far"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["jobs", "logs", "bad", "--cluster", "far", "-f"]) == 100


def test_what_a_job_has_printed_for_programs(api: JobApi, capsys: Capture) -> None:
    told(api)
    api.logs[ID] += "loading: 50%" + event("state", BEGAN + 60, stage="train") + "::raysft:: torn\n" + "no end"
    api.jobs[ID] |= {"status": "FAILED", "driver_exit_code": 100}

    def objects() -> list[dict[str, Any]]:
        out, err = capsys.readouterr()
        assert err == ""
        return [json.loads(line) for line in out.splitlines()]

    assert run(["jobs", "logs", ID, "--cluster", "far", "--json"]) == 0
    found = objects()
    assert found[0] == {"time_s": None, "stream": "log", "line": "hello"}
    assert found[1] == {
        "time_s": BEGAN,
        "stream": "events",
        "event": {"t": BEGAN, "kind": "stage", "name": "train"},
    }
    assert [each["line"] for each in found if each["stream"] == "log"] == [
        "hello",
        "there [/x]",
        "loading: 50%",
        "no end",
    ]
    assert found[-1]["time_s"] == BEGAN + 50
    assert [each["event"]["kind"] for each in found if "event" in each] == ["stage", "nodes", "progress", "progress"]
    assert run(["jobs", "logs", ID, "--cluster", "far", "--json", "-f"]) == 100
    assert objects() == found
    assert run(["jobs", "logs", ID, "--cluster", "far", "--json", "--tail", "2"]) == 0
    assert [each["line"] for each in objects() if each["stream"] == "log"] == ["loading: 50%", "no end"]


def test_following_can_begin_with_the_last_lines(api: JobApi, capsys: Capture) -> None:
    api.add(ID, "SUCCEEDED", "line\n" * 5000 + event("note", text="x") * 9 + "almost\nlast\n")
    assert run(["jobs", "logs", ID, "--cluster", "far", "-f", "--tail", "2"]) == 0
    assert capsys.readouterr().out == "almost\nlast\n"


def test_why_a_job_has_not_begun_is_told_while_it_is_followed(api: JobApi, capsys: Capture) -> None:
    message = "Job has not started yet. It may be waiting for the runtime environment to be set up."
    looks = []

    def begin(path: str) -> None:
        looks.append(path)
        job = next(iter(api.jobs.values()), None)
        if job is not None and path.startswith("/api/jobs/tiny"):
            begun = len([each for each in looks if each.startswith("/api/jobs/tiny")]) > 2
            job |= (
                {"status": "FAILED", "message": "no such image"} if begun else {"status": "PENDING", "message": message}
            )
            job["driver_node_id"] = None

    api.before = begin
    assert run(["submit", "train", "job.yaml", "--cluster", "far", "--json"]) == 100
    out, err = capsys.readouterr()
    assert err.count(message) == 1
    found = json.loads(out)
    assert (found["status"], found["exit_code"], found["reason"]) == ("FAILED", 100, "no such image")


def test_what_happened_to_a_job(api: JobApi, capsys: Capture) -> None:
    told(api)
    assert run(["jobs", "events", ID, "--cluster", "far"]) == 0
    lines = [line.partition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["stage: train", "nodes: 1 x spot; 1 GPU(s)"]
    api.logs[ID] += '::raysft:: {"t": NaN, "kind": "note"}\n::raysft:: {"t": 1, "kind": "progress"}\n::raysft:: {"t'
    assert run(["jobs", "events", ID, "--cluster", "far", "--json"]) == 0
    found = document(capsys)
    assert found["schema"] == "raysft.events/1"
    assert [each["kind"] for each in found["events"]] == ["stage", "nodes", "progress", "progress"]


# --- stopping and trying again


def test_a_job_is_stopped(api: JobApi, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("raysft.jobs.submit.POLL_S", 0.01)
    api.add(ID, log=event("error", text="interrupted; step 5 is saved", exit_code=130, kept=True))
    assert run(["jobs", "stop", "tiny", "--save", "--cluster", "far"]) == 0
    out = capsys.readouterr().out
    assert "interrupted; step 5 is saved" in out and f"raysft jobs retry {ID} --cluster far" in out
    assert run(["jobs", "stop", "tiny", "--cluster", "far"]) == 0
    assert capsys.readouterr().out == f"{ID} is over: stopped\n"
    assert run(["jobs", "stop", "tiny", "--cluster", "far", "--json"]) == 0
    found = document(capsys)
    assert (found["schema"], found["status"], found["submitted"]["verb"]) == ("raysft.job/1", "STOPPED", "train")
    api.add("other-1")
    assert run(["jobs", "stop", "other-1", "--save", "--cluster", "far", "--json"]) == 100
    out, err = capsys.readouterr()
    assert out == "" and "did not say that it saved a checkpoint" in err
    # A training that is over is saved, though nobody was told to save it.
    scored = [event("stage", name="evaluate"), event("error", text="interrupted", exit_code=130)]
    api.add("scored-1", log="".join(scored))
    assert run(["jobs", "stop", "scored-1", "--save", "--cluster", "far"]) == 0
    capsys.readouterr()
    done = api.add("done-1")
    api.before = lambda path: done.update(status="SUCCEEDED") if path.endswith("/done-1") else None
    assert run(["jobs", "stop", "done-1", "--save", "--cluster", "far"]) == 0
    assert capsys.readouterr().out == "done-1: succeeded\n"


def test_a_job_is_tried_again(api: JobApi, capsys: Capture) -> None:
    api.add(ID, "FAILED")
    assert run(["jobs", "retry", "tiny", "--cluster", "far", "-d", "--json"]) == 0
    assert document(capsys)["id"] == f"{ID[:-1]}2"
    assert run(["jobs", "retry", "tiny", "--cluster", "far"]) == 4
    capsys.readouterr()
    api.jobs[f"{ID[:-1]}2"]["status"] = "FAILED"
    over(api, "FAILED", 5, "no room\n")
    assert run(["jobs", "retry", "tiny", "--cluster", "far", "--json"]) == 5
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["schema"], found["id"], found["attempt"]) == ("raysft.submit/1", f"{ID[:-1]}3", 3)
    assert (found["status"], found["exit_code"]) == ("FAILED", 5)
    assert "no room\n" in err


def shell(text: str, here: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """RAYSFT in the text stands for the command."""
    ours = text.replace("RAYSFT", shlex.join(command()))
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {ours}"], cwd=here, capture_output=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("words", ["list", "list --json", f"status {ID}", f"logs {ID}", f"logs {ID} -f"])
def test_wherever_the_answer_goes_no_command_breaks(words: str, api: JobApi, here: Path) -> None:
    api.add(ID, "SUCCEEDED", "smile \u263a\n" + event("note", text="\u263a"), metadata={"raysft": '{"name": "\u263a"}'})
    order = f"RAYSFT jobs {words} --cluster far"
    for where in ("| true", ">&-", "> /dev/null 2>&-"):
        done = shell(f"{order} {where}", here)
        assert (done.returncode, done.stderr) == (0, b""), where
    done = shell(f"{order} > /dev/full", here)
    assert done.returncode == 2 and b"cannot write: No space left on device" in done.stderr
    done = shell(order, here, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0 and done.stderr == b"" and done.stdout


def test_a_reader_that_leaves_early_is_no_fault(api: JobApi, here: Path) -> None:
    api.add(ID, "SUCCEEDED", "line\n" * 50_000)
    order = " ".join(command("jobs", "logs", ID, "--cluster", "far"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {order} | head -1"], cwd=here, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", ""), os.environ.get("HOME")

"""Jobs on a real cluster with a token, through the commands that people type: sent, followed, stopped, tried again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from raysft.cluster.endpoint import Endpoint
from raysft.jobs.client import Client
from raysft.jobs.look import state_of
from raysft.storage.commit import read_json
from tests.support.jobs import command, corpus_rows, write_job

pytestmark = pytest.mark.ray
SECRET = "correct-horse-battery-staple-42"  # noqa: S105  # in the environment of whoever submits
LONG = ("--set", "train.epochs=400", "--set", "name=long")


@dataclass(frozen=True)
class Up:
    """A cluster on this machine, and a folder to work in."""

    folder: Path
    port: int
    base: Path
    storage: Path
    temporary: Path  # where this machine keeps temporary files; short, since sockets are below it

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def token(self) -> str:
        return (self.home / "clusters" / "jobs-test" / "token").read_text()

    @property
    def client(self) -> Client:
        return Client(Endpoint(f"http://127.0.0.1:{self.port}", self.token))

    def environment(self, **more: str) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith("RAY")}
        ours = {"RAYSFT_HOME": str(self.home), "HF_TOKEN": SECRET, "COLUMNS": "200", "HOME": str(self.folder / "me")}
        ours["TMPDIR"] = str(self.temporary)
        return {**known, **ours, **more}

    def run(self, *words: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """A command as a person types it, in the folder of the job."""
        return subprocess.run(
            command(*words),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.folder,
            env=self.environment(),
        )

    def submit(self, verb: str, job: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("submit", verb, job, "--cluster", "jobs-test", *words)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def up(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("jobs with 'quotes' and a space")
    temporary = Path(tempfile.mkdtemp(prefix="j", dir="/tmp"))  # the paths of pytest are too long
    found = Up(folder, free_port(), base, tmp_path_factory.mktemp("storage"), temporary)
    file = folder / "cluster.yaml"
    file.write_text(
        f"name: jobs-test\nlocal: {{port: {found.port}}}\npools: [{{name: cpu, cpus: 2, most: 1, price: 3.6}}]\n"
    )
    done = found.run("cluster", "up", file)
    assert done.returncode == 0, done.stderr
    processes = keeper_of(found)
    yield found
    down = found.run("cluster", "down", "jobs-test")
    assert down.returncode == 0, down.stderr
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    # Neither was the note on "the" Ray of this machine made, nor did the cluster need the folder that it would be in.
    assert not (temporary / "ray").exists()
    shutil.rmtree(temporary)


def keeper_of(up: Up) -> list[psutil.Process]:
    """The processes of the cluster."""
    keeper = psutil.Process(read_json(up.home / "clusters" / "jobs-test" / "process.json")["pid"])
    return [keeper, *keeper.children(recursive=True)]


@pytest.fixture(scope="module")
def job(up: Up) -> Path:
    return write_job(up.folder / "a job", up.base, corpus_rows(160))


def id_in(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.split("job ", 1)[1].split(" ", 1)[0]


def wait_for_step(up: Up, id: str, step: int) -> None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        job = up.client.job(id)
        state = state_of(up.client, job)
        if state is not None and state.stage == "train" and state.done >= step:
            return
        assert not job.over, f"over before step {step}: {job}, {state}"
        time.sleep(0.2)
    raise AssertionError(f"no step {step} of {id}")


def test_a_job_is_followed_to_its_end(up: Up, job: Path) -> None:
    done = up.submit("train", job)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scores on test" in done.stdout and "::raysft::" not in done.stdout
    id = id_in(done)
    assert id.startswith("tiny-train-") and id.endswith("-1")
    assert read_json(job.parent / "out" / "runs" / "tiny" / "result.json")["status"] == "done"

    status = json.loads(up.run("jobs", "status", "tiny", "--json").stdout)
    assert status["status"] == "SUCCEEDED" and status["stage"] == "report" and status["reason"] == ""
    # One node at 3.60 dollars an hour: a tenth of a cent a second.
    assert 0 < status["cost_dollars"] <= 0.001 * status["ran_s"] + 1e-4
    assert status["run_cost_dollars"] == status["cost_dollars"] and status["gpus"] == 0
    events = json.loads(up.run("jobs", "events", id, "--json").stdout)["events"]
    assert {"stage", "note", "nodes", "progress"} <= {event["kind"] for event in events}
    assert {"cpu": 1} in [{k: v for k, v in each["pools"].items() if k == "cpu"} for each in events if "pools" in each]
    listed = json.loads(up.run("jobs", "list", "--json").stdout)["jobs"]
    assert [each["id"] for each in listed] == [id]


def test_the_same_command_again_finds_the_result(up: Up, job: Path) -> None:
    again = up.submit("train", job)
    assert again.returncode == 0 and "is finished; this is its result" in again.stdout
    assert id_in(again).endswith("-2")
    first, second = json.loads(up.run("jobs", "list", "--json").stdout)["jobs"][::-1]
    assert second["run_cost_dollars"] == pytest.approx(first["cost_dollars"] + second["cost_dollars"], abs=2e-4)


def test_a_log_is_read_for_programs_and_from_its_end(up: Up) -> None:
    whole = [json.loads(line) for line in up.run("jobs", "logs", "tiny", "--json").stdout.splitlines()]
    assert {each["stream"] for each in whole} == {"log", "events"}
    lines = [each["line"] for each in whole if each["stream"] == "log"]
    assert up.run("jobs", "logs", "tiny").stdout.splitlines() == lines
    assert up.run("jobs", "logs", "tiny", "--tail", "3").stdout.splitlines() == lines[-3:]
    assert up.run("jobs", "logs", "tiny", "--tail", "3", "-f").stdout.splitlines() == lines[-3:]


def test_the_doctor_tries_storage_and_room_on_the_nodes_and_leaves_nothing(up: Up) -> None:
    file = up.folder / "elsewhere.yaml"
    there = {"name": "elsewhere", "address": f"http://127.0.0.1:{up.port}", "storage": str(up.storage / "tried")}
    token = str(up.home / "clusters" / "jobs-test" / "token")
    file.write_text(json.dumps({**there, "token_file": token, "static": {"head": "127.0.0.1"}}))
    before = {job.id for job in up.client.jobs()}
    done = up.run("cluster", "doctor", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 node(s); room for 2 worker(s) on CPUs; storage tried on 2 node(s)" in done.stdout
    assert list((up.storage / "tried").iterdir()) == [] and {job.id for job in up.client.jobs()} == before
    file.write_text(json.dumps({**there, "token_file": token, "storage": "/proc/x", "static": {"head": "127.0.0.1"}}))
    done = up.run("cluster", "doctor", file, "--json")
    assert done.returncode == 2 and "storage: the head: cannot write /proc/x" in done.stderr
    assert json.loads(done.stdout)["findings"][0]["key"] == "storage"


def test_ray_job_submit_runs_the_same(up: Up, job: Path) -> None:
    """Whoever has Ray's own command needs no other."""
    environment = up.environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=up.token)
    ray = Path(sys.executable).parent / "ray"
    words: list[str | Path] = [
        ray,
        "job",
        "submit",
        "--address",
        f"http://127.0.0.1:{up.port}",
        "--",
        "raysft",
        "evaluate",
        job,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy" in done.stdout


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_without_the_token_nothing_is_told(up: Up, tmp_path: Path, token: str) -> None:
    if token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text(token)
    words = command("jobs", "list", "--address", f"http://127.0.0.1:{up.port}")
    stranger = up.environment(RAYSFT_HOME=str(tmp_path / "none"), HOME=str(tmp_path))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=stranger)
    assert done.returncode == 4 and "token" in done.stderr and not done.stdout
    assert "Traceback" not in done.stderr


def test_a_job_that_fails_ends_with_its_own_code_and_says_why(up: Up, job: Path) -> None:
    done = up.submit("train", job, "--set", "name=wrong", "--set", "data.label=nonsense")
    assert done.returncode == 2, done.stderr
    assert "nonsense" in done.stderr  # found here, before anything was sent

    (job.parent / "gone.csv").write_text("text,label\na,b\n")
    sent = up.submit("data", job, "--set", "name=gone", "--set", "data.train=gone.csv", "-d")
    assert sent.returncode == 0, sent.stderr
    followed = up.run("jobs", "logs", "gone", "-f")
    assert followed.returncode == 2, followed.stdout + followed.stderr
    status = json.loads(up.run("jobs", "status", "gone", "--json").stdout)
    assert status["status"] == "FAILED" and status["reason"] and "\n" not in status["reason"]


def test_stopped_it_saves_and_tried_again_it_goes_on(up: Up, job: Path) -> None:
    sent = up.submit("train", job, *LONG, "-d")
    assert sent.returncode == 0, sent.stderr
    id = id_in(sent)
    wait_for_step(up, id, 20)

    second = up.submit("train", job, *LONG, "-d")
    assert second.returncode == 4 and f"raysft jobs logs {id} -f" in second.stderr

    stopped = up.run("jobs", "stop", "long", "--save")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "saved" in stopped.stdout and "retry" in stopped.stdout
    assert up.client.job(id).status == "STOPPED"
    saved = sorted((job.parent / "out" / "runs" / "long" / "checkpoints").glob("step-*"))
    assert saved
    step = int(saved[-1].name.removeprefix("step-"))

    again = up.run("jobs", "retry", "long", "-d")
    assert again.returncode == 0, again.stderr
    following = id_in(again)
    assert following == f"{id.rpartition('-')[0]}-2"
    wait_for_step(up, following, step + 1)
    lines = (job.parent / "out" / "runs" / "long" / "metrics.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if "loss" in line]
    assert steps == sorted(set(steps)), "a step stands twice, or they are out of order"
    assert up.run("jobs", "stop", "long").returncode == 0


def test_ctrl_c_leaves_the_job_alone(up: Up, job: Path) -> None:
    words = command("submit", "train", job, "--cluster", "jobs-test", "--set", "name=left", "--set", "train.epochs=400")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=up.folder,
                               env=up.environment())  # fmt: skip
    assert process.stderr is not None and process.stdout is not None
    said = process.stderr.readline()
    id = said.split("job ", 1)[1].split(" ", 1)[0]
    process.stdout.readline()  # it follows
    process.send_signal(signal.SIGINT)
    _, left = process.communicate(timeout=60)
    assert process.returncode == 130 and f"raysft jobs logs {id} -f --cluster jobs-test" in left
    assert not up.client.job(id).over
    assert up.run("jobs", "stop", id).returncode == 0


class Proxy:
    """Passes connections on to the cluster, until it is cut."""

    def __init__(self, port: int) -> None:
        self._target, self._server = port, socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.cut = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.cut.is_set():
                client.close()
                continue
            there = socket.create_connection(("127.0.0.1", self._target))
            for one, other in ((client, there), (there, client)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while not self.cut.is_set() and (data := one.recv(65536)):
                other.sendall(data)
        except OSError:
            pass
        finally:
            one.close()
            other.close()


def test_a_connection_that_breaks_costs_no_line(up: Up, job: Path) -> None:
    """The files are sent, as to a cluster elsewhere: another kind of cluster at the same address."""
    proxy = Proxy(up.port)
    file = up.folder / "elsewhere.yaml"
    token = up.home / "clusters" / "jobs-test" / "token"
    file.write_text(json.dumps({
        "name": "elsewhere", "address": f"http://127.0.0.1:{proxy.port}", "token_file": str(token),
        "storage": str(up.storage), "static": {"head": "127.0.0.1"},
    }))  # fmt: skip
    base = up.folder / "a job" / "base"
    shutil.copytree(up.base, base)
    (base / ".env").write_text(f"KEY={SECRET}")
    # Of several nodes on one machine each unpacks the files anew, under the feet of the others; `data` needs no worker.
    words = command("submit", "data", job, "--cluster", file, "--set", "name=sent", "--set", "output=mine")
    words += ["--set", "model.base=base"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=up.folder,
                               env=up.environment())  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    proxy.cut.set()
    time.sleep(3)
    proxy.cut.clear()
    assert process.stderr is not None
    rest, said = process.stdout.read(), process.stderr.read()  # communicate() would lose what readline() read ahead
    process.wait(60)
    proxy.close()
    assert process.returncode == 0, rest + said
    assert "trying again" in said
    id = said.split("job ", 1)[1].split(" ", 1)[0]
    sent = up.client.job(id)
    log = "".join(line for line in up.client.log(sent).splitlines(keepends=True) if not line.startswith("::raysft::"))
    assert (first + rest).strip() == log.strip()
    assert list((up.storage / "mine" / "data").glob("*/manifest.json"))
    env = up.client.job(id).runtime_env
    assert env["working_dir"].startswith("gcs://_ray_pkg_")


def test_secrets_are_found_nowhere(up: Up, job: Path) -> None:
    """Neither that of the environment, nor one that was written into the job file, which is refused."""
    planted = job.parent / "planted.yaml"
    planted.write_text(job.read_text().replace("name: tiny", "name: planted\n# hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"))
    refused = up.submit("train", planted)
    assert refused.returncode == 4 and "a token of Hugging Face" in refused.stderr and f"{planted}:2" in refused.stderr
    everything = json.dumps([vars(each) for each in up.client.jobs()], default=str)
    everything += "".join(up.client.log(each) for each in up.client.jobs())
    folders = [up.folder / "a job" / "out", up.storage, Path(read_setup(up)["temp"])]
    assert all(folder.is_dir() for folder in folders)
    for secret in (SECRET, "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345", up.token):
        assert secret not in everything
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    assert secret.encode() not in path.read_bytes(), path


def read_setup(up: Up) -> dict[str, Any]:
    return dict(read_json(up.home / "clusters" / "jobs-test" / "keeper.json"))


def test_what_no_pool_can_hold_fails_at_once(up: Up, job: Path) -> None:
    done = up.submit("train", job, "--set", "name=large", "--set", "train.workers=3")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "train.workers=2" in done.stderr
    assert not [each for each in up.client.jobs() if each.id.startswith("large")]


def test_a_cluster_that_dies_is_told_of(up: Up, job: Path) -> None:
    """The last test: the cluster is gone afterwards."""
    sent = up.submit("train", job, "--set", "name=lost", "--set", "train.epochs=400", "-d")
    id = id_in(sent)
    words = command("jobs", "logs", id, "-f", "--patience", "3", "--cluster", "jobs-test")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=up.folder,
                               env=up.environment())  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    processes = keeper_of(up)
    for each in processes[1:]:
        if each.is_running():
            each.kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 3, said
    assert f"job {id} may go on there" in said and "raysft submit" in said and "Traceback" not in said

"""A cluster on this machine is known by its keeper, which alone is ended, with all that is below it.

No Ray here: another program stands in for the keeper. The real one is in tests/ray/test_jobs.py.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from raysft.cluster import local
from raysft.cluster.facts import status_facts
from raysft.cluster.identity import identity
from raysft.cluster.named import find_cluster, known_clusters, only_cluster, state_folder
from raysft.cluster.state import alone
from raysft.config import Cluster, load_cluster
from raysft.errors import NoCapacity, NotAllowed, NotFound
from raysft.events import Silent
from raysft.session import ENVIRONMENT
from raysft.storage.commit import write_json
from tests.support.predicting import Heard

# A child that outlives it unless it is ended, too; then whatever is asked, then it waits.
KEEPER = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, lambda *_: 0); time.sleep(60)"])
pathlib.Path("child").write_text(str(child.pid))
{}
time.sleep(60)
"""
COMES_UP = "pathlib.Path('address').write_text('http://127.0.0.1:8299')"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What raysft remembers."""
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAYSFT_CLUSTER", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local, "END_S", 0.4)
    return tmp_path / "home"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """With two pools."""
    pools = "[{name: a, cpus: 1, most: 2}, {name: b, cpus: 2, gpus: 1, gpu: L4, market: spot, price: 1}]"
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nlocal: {{port: 8299}}\nstorage: {tmp_path}/mnt\npools: {pools}\n", encoding="utf-8")
    return load_cluster(path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keepers that were started; each is ended at the end of the test."""
    found: list[subprocess.Popen[bytes]] = []

    yield found
    for process in found:
        process.kill()
        process.wait()


def stands_in(started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, does: str = COMES_UP) -> None:
    def start(folder: Path, _logical: bool) -> None:
        process = subprocess.Popen([sys.executable, "-c", KEEPER.format(does)], cwd=folder)
        started.append(process)
        write_json(folder / local.PROCESS, identity(process.pid))

    monkeypatch.setattr(local, "_start_keeper", start)


def is_running(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def child_of(process: subprocess.Popen[bytes], folder: Path) -> int:
    deadline = time.monotonic() + 20
    while not (folder / "child").exists() or not (folder / "child").read_text(encoding="utf-8"):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    return int((folder / "child").read_text(encoding="utf-8"))


def test_up_status_up_again_and_down(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch)
    with pytest.raises(NotFound, match="cluster mine is not up on this machine"):
        local.status(cluster)
    running = local.up(cluster, Silent())
    folder = state_folder("mine")
    assert (running.name, running.address, running.pid) == ("mine", "http://127.0.0.1:8299", started[0].pid)
    labels = [node["labels"]["raysft.io/pool"] for node in running.nodes]
    assert labels == ["head", "a", "a", "b"] and [node["cpus"] for node in running.nodes] == [0, 1, 1, 2]
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and len((folder / "token").read_text(encoding="utf-8")) == 64
    assert local.status(cluster) == local.up(cluster, Silent()) == running and len(started) == 1
    assert json.loads(json.dumps(status_facts(cluster)))["state"] == "up"
    # Its name alone will do from now on.
    assert only_cluster() == "mine" and find_cluster("mine").config == cluster.config
    child, temp = child_of(started[0], folder), Path(json.loads((folder / "keeper.json").read_text())["temp"])
    assert is_running(child) and temp.is_dir()
    assert local.down(cluster) is True
    started[0].wait(5)
    assert not is_running(child) and not folder.exists() and not temp.exists()
    assert local.down(cluster) is False and known_clusters() == {"local"}


def test_a_file_that_was_edited_since_is_told_of(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch)
    local.up(cluster, Silent())
    for same in (cluster, find_cluster("mine")):
        local.up(same, heard := Heard())
        assert heard.warnings == [] and len(heard.notes) == 1
    cluster.path.write_text(cluster.path.read_text(encoding="utf-8").replace("most: 2", "most: 3"), encoding="utf-8")
    assert local.up(load_cluster(cluster.path), heard := Heard()).pid == started[0].pid
    assert heard.warnings == [
        f"{cluster.path} says something else than when it came up; `raysft cluster down mine` and `up` apply it"
    ]


@pytest.mark.parametrize(
    ("does", "error", "said"),
    [
        (
            "pathlib.Path('failed').write_text('no room for more\\nsecond line'); sys.exit()",
            NoCapacity,
            "no room for more",
        ),
        ("pathlib.Path('failed').write_text('port 8299 is in use'); sys.exit()", NotAllowed, "port 8299 is taken"),
    ],
)
def test_what_does_not_come_up_says_why(
    does: str,
    error: type[Exception],
    said: str,
    cluster: Cluster,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stands_in(started, monkeypatch, does)
    with pytest.raises(error, match=said):
        local.up(cluster, Silent())
    assert known_clusters() == {"local"}  # it does not count as one that is up
    pid = int((state_folder("mine") / "child").read_text(encoding="utf-8"))
    if is_running(pid):  # the stand-in left it, since it ended by itself
        os.kill(pid, 9)


def test_what_takes_too_long_is_ended(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch, "pass")
    children = []

    def sleep(_: float) -> None:
        children.append(child_of(started[0], state_folder("mine")))
        clock.goes(local.START_S + 1)

    clock = Clock(sleep)
    with monkeypatch.context() as patched, pytest.raises(NoCapacity, match="it took longer than 180 s"):
        patched.setattr("raysft.cluster.local.time", clock)
        local.up(cluster, Silent())
    assert not is_running(started[0].pid) and not is_running(children[0])
    assert known_clusters() == {"local"}


def test_control_c_while_it_comes_up_leaves_nothing_running(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch, "pass")
    children = []

    def interrupted(_: float) -> None:
        children.append(child_of(started[0], state_folder("mine")))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("raysft.cluster.local.time", Clock(interrupted))
        local.up(cluster, Silent())
    assert not is_running(started[0].pid) and not is_running(children[0])


class Clock:
    """The module `time`, but for its sleep; it can be put forward."""

    def __init__(self, sleep: Callable[[float], object]) -> None:
        self.sleep, self.time, self._ahead = sleep, time.time, 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def goes(self, seconds: float) -> None:
        self._ahead += seconds


# A keeper is the owner before its cluster has come up. What a terminal that closes leaves is what `_begin` makes.


def test_what_an_up_that_was_broken_off_left_is_waited_for(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch, f"while not pathlib.Path('go').exists(): time.sleep(0.02)\n{COMES_UP}")
    folder = state_folder("mine")
    local._begin(cluster, folder)
    child = child_of(started[0], folder)
    assert local.find_running(cluster) is None

    def sleep(_: float) -> None:
        (folder / "go").touch()
        time.sleep(0.05)

    with monkeypatch.context() as patched:
        patched.setattr("raysft.cluster.local.time", Clock(sleep))
        running = local.up(cluster, Silent())
    assert running.pid == started[0].pid and len(started) == 1 and only_cluster() == "mine"
    assert local.down(cluster) is True and not is_running(child)


def test_one_that_came_up_after_its_terminal_closed_is_known_by_its_name(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch)
    local._begin(cluster, state_folder("mine"))
    child_of(started[0], state_folder("mine"))
    assert local.up(cluster, Silent()).pid == started[0].pid and len(started) == 1
    assert only_cluster() == "mine"
    local.down(cluster)


def test_down_ends_what_has_not_come_up_yet(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch, "pass")
    folder = state_folder("mine")
    local._begin(cluster, folder)
    child, temp = child_of(started[0], folder), Path(json.loads((folder / "keeper.json").read_text())["temp"])
    assert local.down(cluster) is True
    assert not is_running(started[0].pid) and not is_running(child)
    assert not folder.exists() and not temp.exists()


def test_down_takes_nothing_from_under_an_up_that_waits(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch, "pass")
    folder = state_folder("mine")
    with alone("mine"):
        local._begin(cluster, folder)
        child = child_of(started[0], folder)
        with pytest.raises(NotAllowed, match=r"(?s)mine is in use by another process.*taken down right now"):
            local.down(cluster)
        assert is_running(started[0].pid) and (folder / "keeper.json").exists()
    assert local.down(cluster) is True and not is_running(child)


def test_another_process_with_the_same_number_is_never_ended(
    cluster: Cluster, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(started, monkeypatch)
    local.up(cluster, Silent())
    folder = state_folder("mine")
    write_json(folder / local.PROCESS, {"pid": os.getpid(), "began": psutil.Process().create_time() - 5})
    assert local.find_running(cluster) is None and local.down(cluster) is False
    assert not folder.exists()  # and this process is still here
    child = psutil.Process(started[0].pid).children()
    started[0].kill()
    for each in child:
        each.kill()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"pid": 2147483646, "began": 1}', '{"pid": "x", "began": 1}'])
def test_what_is_left_of_a_cluster_that_is_gone_is_borne(text: str, cluster: Cluster, tmp_path: Path) -> None:
    folder = state_folder("mine")
    folder.mkdir(parents=True)
    (folder / local.PROCESS).write_text(text, encoding="utf-8")
    (folder / "address").write_text("http://127.0.0.1:8299", encoding="utf-8")
    other = tmp_path / "not ours"
    other.mkdir()
    (folder / "keeper.json").write_text(json.dumps({"temp": str(other), "head": {}, "nodes": []}), encoding="utf-8")
    assert local.find_running(cluster) is None
    assert local.down(cluster) is False
    assert other.is_dir() and not folder.exists()


def test_what_workers_train_through_stays_on_this_machine(tmp_path: Path) -> None:
    """gloo listens at the address that the machine's name leads to, unless it is told an interface."""
    local._start_keeper(tmp_path, False)  # ends at once, since nothing says what to start
    keeper = psutil.Process(json.loads((tmp_path / local.PROCESS).read_text(encoding="utf-8"))["pid"])
    try:
        environment = keeper.environ()
        assert environment.get("GLOO_SOCKET_IFNAME") == "lo"
        assert environment.items() >= ENVIRONMENT.items()
    finally:
        keeper.kill()
        keeper.wait(5)

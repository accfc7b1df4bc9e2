"""The batch script of Slurm: its options, what shellcheck says of it, and how it ends. Ray is real in tests/fault."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from raysft.cluster.files.slurm import LATE_S, SAVE_S, render
from raysft.config import load_cluster
from raysft.errors import JobFileError

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster/slurm/cluster.yaml"
FAKES = ROOT / "tests/support/slurm"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
TWO_POOLS = "pools=[{name: a100, cpus: 8, gpus: 4, gpu: A100-80G, most: 2}, {name: cpu, cpus: 8}]"


def options(text: str) -> dict[str, str]:
    found = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return dict(line.partition("=")[::2] for line in found)


def test_options_of_the_batch_job() -> None:
    text = render(load_cluster(FILE, ["slurm.account=p-17", "slurm.hours=36.5"]))["job.sbatch"]
    assert options(text) == {
        "job-name": "raysft-campus",
        "nodes": "2",
        "ntasks-per-node": "1",
        "exclusive": "",
        "mem": "0",
        "time": "1-12:30:00",
        "signal": "B:USR1@300",
        "requeue": "",
        "open-mode": "append",
        "output": "%x-%j.log",
        "gpus-per-node": "4",
        "partition": "gpu",
        "account": "p-17",
    }
    assert "--num-gpus=4 --labels=raysft.io/pool=a100,raysft.io/market=on-demand" in text
    lines = text.splitlines()
    last = max(index for index, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(not line or line.startswith("#") for line in lines[:last])  # Slurm reads no option behind a command


def test_each_pool_has_a_script_of_its_own() -> None:
    files = render(load_cluster(FILE, [TWO_POOLS]))
    assert list(files) == ["job-a100.sbatch", "job-cpu.sbatch"]
    assert "gpus-per-node" not in options(files["job-cpu.sbatch"])
    assert "sbatch job-cpu.sbatch train" in files["job-cpu.sbatch"]


def test_without_pools_there_is_one_node_as_slurm_gives_it() -> None:
    text = render(load_cluster(FILE, ["pools=[]", "slurm.setup=null", "slurm.partition=null"]))["job.sbatch"]
    assert options(text)["nodes"] == "1"
    assert "--labels" not in text and "partition" not in options(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slurm.partition", "gpu\\ntouch /tmp/x"),
        ("slurm.partition", "gpu --wrap=x"),
        ("slurm.account", "a'b"),
        ("slurm.setup", "module load x\\nrm -rf ~"),
        ("storage", "/x\\nrm -rf ~"),
        ("storage", "/x$(id)"),
        ("storage", "/x'y"),
    ],
)
def test_what_would_be_another_line_or_command_is_refused(key: str, value: str) -> None:
    with pytest.raises(JobFileError, match=rf"{key}: .*found") as error:
        load_cluster(FILE, [f'{key}="{value}"'])
    assert len(error.value.problems) == 1


def test_a_batch_job_lasts_longer_than_its_run_has_to_save() -> None:
    """Else it would be asked to save as soon as it begins, and be queued again and again."""
    with pytest.raises(JobFileError, match=r"slurm\.hours: .*0\.25"):
        load_cluster(FILE, ["slurm.hours=0.05"])


def test_a_value_is_never_taken_for_a_place_to_fill() -> None:
    text = render(load_cluster(FILE, ["storage=/a@PORT@b", 'slurm.setup=": @STORAGE@"']))["job.sbatch"]
    assert "\nstorage=/a@PORT@b\n" in text and "\n: @STORAGE@\n" in text


def test_a_pool_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(JobFileError, match=r"pools\.0\.cpus: must be given"):
        render(load_cluster(FILE, ["pools=[{name: x}]"]))


@pytest.mark.parametrize("overrides", [[], [TWO_POOLS], ["pools=[]"], ["storage=/a b/c"], ["slurm.setup=null"]])
def test_scripts_have_no_fault_that_is_found_without_running_them(tmp_path: Path, overrides: list[str]) -> None:
    for name, text in render(load_cluster(FILE, overrides)).items():
        script = tmp_path / name
        script.write_text(text, encoding="utf-8")
        for command in (["bash", "-n"], [str(SHELLCHECK), "--severity=style"]):
            done = subprocess.run([*command, str(script)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_the_fakes_have_no_fault_either() -> None:
    fakes = sorted(path for path in FAKES.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!/bin/bash"))
    assert len(fakes) == 5
    done = subprocess.run([SHELLCHECK, *fakes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- how it ends, with stubs of Ray and raysft


class Batch:
    """One batch job on this machine, with fakes of Slurm and stubs of what it runs."""

    def __init__(self, folder: Path) -> None:
        self.storage = folder / "a place with spaces"
        self.fake = folder / "fake"
        for each in (self.storage, self.fake):
            each.mkdir()
        cluster = folder / "cluster.yaml"
        cluster.write_text('name: one\nstorage: /x\nslurm: {hours: 1, setup: ":"}\n', encoding="utf-8")
        text = render(load_cluster(cluster, [f"storage={str(self.storage)!r}"]))["job.sbatch"]
        self.script = folder / "job.sbatch"
        self.script.write_text(text, encoding="utf-8")
        self.environment = {
            **os.environ,
            "PATH": f"{FAKES}:{FAKES}/stub:{os.environ['PATH']}",
            "FAKE_SLURM": str(self.fake),
            "SLURM_JOB_ID": f"t{os.getpid()}",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_ON_NODE": "2",
        }

        self.started: list[int] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["bash", self.script, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process.pid)
        return process

    def end(self) -> None:
        """Whatever a test left that failed."""
        for leader in self.started:
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)

    def said(self, name: str) -> list[str]:
        path = self.fake / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def left(self) -> list[Path]:
        return [path for path in self.storage.rglob("*") if not path.name.startswith(".slurm-")]


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    made = Batch(tmp_path)
    yield made
    made.end()


def wait_until_it_waits(batch: Batch, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not (batch.fake / "waiting").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        text, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, text


def test_arguments_arrive_as_they_are_and_the_token_is_private(batch: Batch) -> None:
    code, text = ended(batch.start("train", "/a b/it's $x.yaml", "--set", 'name="y"'))
    assert code == 0, text
    assert batch.said("arguments") == ["train", "/a b/it's $x.yaml", "--set", 'name="y"']
    assert batch.said("modes") == ["600", "700", "700", "64"]
    assert batch.said("environment") == ["127.0.0.1:6379", "token", "0"]
    assert batch.said("options")[:5] == ["symmetric-run", "--address", "127.0.0.1:6379", "--min-nodes", "1"]
    assert batch.left() == [] and batch.said("asked") == []
    assert not Path(f"/tmp/r{batch.environment['SLURM_JOB_ID']}").exists()


def test_nothing_to_do_is_said(batch: Batch) -> None:
    code, text = ended(batch.start())
    assert code == 2 and "nothing to do; say what, such as: train" in text


def test_the_exit_code_is_that_of_the_run(batch: Batch) -> None:
    code, text = ended(batch.start("fails"))
    assert code == 100, text
    assert batch.said("asked") == [] and batch.left() == []


@pytest.mark.parametrize("how", ["no-start", "no-address"])
def test_where_ray_did_not_start_the_batch_job_fails(batch: Batch, how: str) -> None:
    batch.environment["FAKE_RAY"] = how
    code, text = ended(batch.start("train"))
    assert code == 1 and "raysft: did not begin, or was not seen to end" in text
    assert batch.said("arguments") == [] and batch.said("asked") == [] and batch.left() == []


def test_how_raysft_ended_is_not_left_to_ray_to_tell(batch: Batch) -> None:
    batch.environment["FAKE_RAY"] = "forgets"
    code, text = ended(batch.start("fails"))
    assert code == 100, text


def test_what_runs_on_the_nodes_has_no_fault_either(tmp_path: Path) -> None:
    text = render(load_cluster(FILE))["job.sbatch"]
    (node,) = re.findall(r"^node='\n(.*?)^'$", text, re.DOTALL | re.MULTILINE)
    script = tmp_path / "node"
    script.write_text(f"#!/bin/bash\n{node}", encoding="utf-8")
    for command in (["bash", "-n"], [str(SHELLCHECK), "--exclude=SC2064,SC2154"]):
        done = subprocess.run([*command, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_before_the_time_is_over_the_run_is_stopped_and_queued_again(batch: Batch) -> None:
    process = batch.start("waits")
    wait_until_it_waits(batch, process)
    process.send_signal(signal.SIGUSR1)
    code, text = ended(process)
    assert code == 130, text
    assert batch.said("asked") == [f"requeue {batch.environment['SLURM_JOB_ID']}"]
    assert batch.left() == []


def test_a_run_that_does_not_save_in_time_is_queued_again_all_the_same(batch: Batch) -> None:
    """As while it evaluates. Slurm would end it at its time limit, and queue it no more."""
    assert LATE_S < SAVE_S
    soon = batch.script.read_text(encoding="utf-8").replace(f"SECONDS + {LATE_S}", "SECONDS + 1")
    batch.script.write_text(soon, encoding="utf-8")
    process = batch.start("deaf")
    wait_until_it_waits(batch, process)
    process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 20
    while not batch.said("asked"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # as Slurm does then
    code, text = ended(process)
    assert code == 130 and "has not saved in" in text
    assert batch.said("asked") == [f"requeue {batch.environment['SLURM_JOB_ID']}"]
    assert batch.left() == []


def test_a_first_node_that_no_service_of_names_knows_is_found_by_its_own_address(batch: Batch, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in (("getent", "exit 2"), ("hostname", '[ "${1-}" = -I ] && echo "10.9.0.7 10.9.1.7" || echo one')):
        (programs / name).write_text(f"#!/bin/bash\n{does}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    batch.environment |= {"PATH": f"{programs}:{batch.environment['PATH']}", "SLURM_JOB_NUM_NODES": "2"}
    batch.environment.pop("RAYSFT_HEAD", None)
    code, text = ended(batch.start("train"))
    assert code == 0, text
    assert batch.said("options")[1:3] == ["--address", "10.9.0.7:6379"]


def test_a_run_that_is_cancelled_is_not_queued_again(batch: Batch) -> None:
    process = batch.start("waits")
    wait_until_it_waits(batch, process)
    process.send_signal(signal.SIGTERM)
    code, text = ended(process)
    assert (code, batch.said("asked")) == (130, []), text


def test_a_run_that_fails_while_it_is_stopped_is_not_queued_again(batch: Batch) -> None:
    process = batch.start("fails-late")
    wait_until_it_waits(batch, process)
    process.send_signal(signal.SIGUSR1)
    code, text = ended(process)
    assert (code, batch.said("asked")) == (100, []), text


def test_a_folder_of_somebody_else_is_refused(batch: Batch) -> None:
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to somebody else")
    folder = batch.storage / f".slurm-{user}" / batch.environment["SLURM_JOB_ID"]
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    code, text = ended(batch.start("train"))
    assert code == 4 and "belongs to somebody else" in text

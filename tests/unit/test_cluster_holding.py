"""`raysft check --cluster`: real jobs on described clusters, through the command and beneath it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysft.cli.main import run
from raysft.cluster.pools.holding import check_on_cluster
from raysft.cluster.pools.need import need_of
from raysft.config import load_cluster, load_job
from raysft.errors import JobFileError, NoCapacity
from raysft.plan import preflight
from raysft.plan.machine import Machine
from raysft.plan.preflight import check_on
from raysft.preparation.start import base_of
from tests.support.jobs import write_job

Capture = pytest.CaptureFixture[str]
TINY = Machine(cpus=1, memory_bytes=2**28, gflops=10.0, bf16=False)
RACK = "name: rack\nstorage: /mnt/x\nstatic: {head: h1}\n"
L4 = "pools:\n  - {name: l4, cpus: 4, memory: 16, gpus: 1, gpu: L4, most: 4, price: 0.8}\n"
CPU = "pools:\n  - {name: cpu, cpus: 4, memory: 16, most: 2, price: 0.2}\n"


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def cluster_file(folder: Path, text: str, head: str = RACK) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(head + text, encoding="utf-8")
    return path


def command(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = run([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return code, out, err


# --- what a job needs


@pytest.mark.parametrize("gpu", [False, True])
def test_the_need_is_that_of_the_plan_whatever_the_number_of_workers(
    tmp_path: Path, base_folder: Path, gpu: bool
) -> None:
    job = load_job(write_job(tmp_path, base_folder, train={"workers": {"min": 2, "max": 4}}))
    _, measured = check_on(job, base_of(job), gpu, here=False)
    need = need_of(measured, gpu)
    assert (need.fewest, need.most, need.gpu, need.strategies) == (2, 4, gpu, ("ddp", "fsdp"))
    for workers in (1, 2, 3, 7, 4096):
        for strategy in need.strategies:
            plan = measured.plan(gpu, workers, strategy=strategy)
            assert abs(need.planned.of(workers, strategy) - plan.memory_bytes) <= 1, (workers, strategy)
            small = measured.plan(gpu, workers, strategy=strategy, micro_batch=1)
            assert abs(need.least.of(workers, strategy) - small.memory_bytes) <= 1, (workers, strategy)
    assert need.least.whole < need.planned.whole
    assert need.flops == measured.plan(gpu).flops > 0
    assert bool(need.host) == gpu and need.cpu_flops > 1e6


def test_what_cannot_be_shared_has_one_strategy(tmp_path: Path, base_folder: Path) -> None:
    for train, expected in (
        ({"workers": 2, "optimizer": "adafactor"}, ("ddp",)),
        ({"workers": 1}, ("ddp",)),
        ({"workers": 2, "strategy": "fsdp"}, ("fsdp",)),
    ):
        job = load_job(write_job(tmp_path, base_folder, train=train))
        _, measured = check_on(job, base_of(job), True, here=False)
        assert need_of(measured, True).strategies == expected


# --- where it runs


def check(folder: Path, base: Path, cluster: str, head: str = RACK, **train: Any) -> Any:
    job = write_job(folder, base, train=train)
    return check_on_cluster(job, load_cluster(cluster_file(folder, cluster, head)))


def test_a_job_that_this_machine_cannot_hold_is_checked_for_the_cluster(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "this_machine", lambda: TINY)
    found, holding = check(tmp_path, base_folder, CPU, workers=2)
    assert found.plan.workers == 2 and not holding.gpu
    assert [(each.pools, each.workers, each.nodes) for each in holding.fits] == [(("cpu",), 2, (1,))]
    assert found.plan.memory_bytes == holding.fits[0].planned_bytes > TINY.memory_bytes


def test_auto_takes_gpus_where_there_are_enough_and_cpus_where_there_are_too_few(
    tmp_path: Path, base_folder: Path
) -> None:
    both = L4 + CPU.removeprefix("pools:\n")
    _, holding = check(tmp_path, base_folder, both, workers=4)
    assert holding.gpu and [each.why for each in holding.fits] == ["", "has no GPUs"]
    _, holding = check(tmp_path, base_folder, both, workers=8)
    assert not holding.gpu and "l4: needs 8 workers x 1 GPU; most 4 nodes x 1 GPU" in holding.instead
    assert [each.pools[0] for each in holding.fits if each.holds] == ["cpu", "l4"]
    with pytest.raises(NoCapacity, match="The largest that fits: 4 workers"):
        check(tmp_path, base_folder, both, workers=8, device="gpu")


def test_gpus_that_lack_the_memory_are_not_left_for_cpus_since_the_run_takes_them(
    tmp_path: Path, base_folder: Path
) -> None:
    small = L4.replace("memory: 16", "memory: 0.5") + CPU.removeprefix("pools:\n")
    with pytest.raises(NoCapacity, match=r"l4: needs 0\.9 GiB of memory a worker beside a GPU, a node has 0\.5"):
        check(tmp_path, base_folder, small)
    _, holding = check(tmp_path, base_folder, small, device="cpu")
    assert [each.pools for each in holding.fits if each.holds] == [("cpu",)]


def test_what_the_devices_of_the_cluster_cannot_do_is_a_problem_of_the_job(tmp_path: Path, base_folder: Path) -> None:
    check(tmp_path, base_folder, L4, precision="tf32")
    with pytest.raises(JobFileError, match=r"train.precision: tf32 is arithmetic of GPUs"):
        check(tmp_path, base_folder, CPU, precision="tf32")


def test_a_cluster_without_pools_is_this_machine_or_not_known(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, holding = check(tmp_path, base_folder, "", "name: here\nlocal: {}\n")
    assert holding.pools == holding.fits == ()
    _, holding = check(tmp_path, base_folder, "", workers=8)
    assert holding.gpu and holding.fits == ()
    monkeypatch.setattr(preflight, "this_machine", lambda: TINY)
    with pytest.raises(NoCapacity, match="this machine has"):
        check(tmp_path, base_folder, "", "name: here\nlocal: {}\n", workers=8, device="cpu")


# --- the command


@pytest.fixture
def job(tmp_path: Path, base_folder: Path) -> Path:
    return write_job(tmp_path, base_folder, train={"workers": 2})


def test_the_table_has_a_line_for_each_pool(job: Path, tmp_path: Path, capsys: Capture) -> None:
    spot = "  - {name: l4-spot, cpus: 4, memory: 16, gpus: 1, gpu: L4, market: spot, most: 8, price: 0.3}\n"
    path = cluster_file(tmp_path, L4 + spot + CPU.removeprefix("pools:\n"))
    code, out, err = command(capsys, "check", job, "--cluster", path)
    assert (code, err) == (0, "")
    lines = out[out.index("rack: workers with a GPU each") :].splitlines()
    assert lines[1].split() == ["pool", "market", "nodes", "workers", "$/h", "hours", "$", "in", "all"]
    assert [line.split()[0] for line in lines[2:5]] == ["l4-spot", "l4", "cpu"]
    assert lines[2].split()[1:6] == ["spot", "2", "2,", "ddp", "0.60"]
    assert lines[4].split()[1] == "no"
    assert "l4-spot: where there is none, l4 at 1.60 $/h" in lines[5]
    assert "cpu: has no GPUs" in lines[6]
    assert "prices: price of the pool" in out and "assumed: GPUs reach 35%" in out


def test_json_has_a_section_for_the_cluster_and_none_without(job: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, err = command(capsys, "check", job, "--cluster", cluster_file(tmp_path, L4), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["schema"] == "raysft.check/1" and found["plan"]["workers"] == 2
    section = found["cluster"]
    assert (section["name"], section["kind"], section["device"]) == ("rack", "static", "gpu")
    (one,) = section["fits"]
    assert (one["pools"], one["holds"], one["nodes"], one["hourly"]) == (["l4"], True, [2], 1.6)
    assert one["dollars"]["low"] <= one["dollars"]["mid"] <= one["dollars"]["high"]
    assert section["pools"][0]["gpu"] == "L4" and len(section["assumed"]) == 4
    code, out, _ = command(capsys, "check", job, "--json")
    assert code == 0 and "cluster" not in json.loads(out)


def test_what_no_pool_can_ever_hold_is_code_5_with_the_largest_that_fits(
    job: Path, tmp_path: Path, capsys: Capture
) -> None:
    asked: list[str | Path] = [
        "check",
        job,
        "--set",
        "train.device=gpu",
        "--cluster",
        cluster_file(tmp_path, L4),
        "--json",
    ]
    code, out, err = command(capsys, *asked, "--set", "train.workers=6")
    assert (code, out) == (5, "")
    assert "no pool of cluster rack can ever hold this job: l4: needs 6 workers x 1 GPU; most 4 nodes x 1 GPU" in err
    assert "The largest that fits: 4 workers, --set train.workers=4" in err
    assert command(capsys, *asked, "--set", "train.workers=4")[0] == 0


def test_bad_clusters_are_told_with_file_and_line(job: Path, tmp_path: Path, capsys: Capture) -> None:
    path = cluster_file(tmp_path, "pools:\n  - {name: a, machine: g6.xlrage}\n")
    code, _, err = command(capsys, "check", job, "--cluster", path)
    assert code == 2 and f"{path}:5: pools.0.machine: no machine g6.xlrage" in err and "did you mean g6." in err
    code, _, err = command(capsys, "check", job, "--cluster", tmp_path / "none.yaml")
    assert code == 3 and "no such cluster file" in err


def test_pools_that_hold_a_job_together_stand_on_one_line(job: Path, tmp_path: Path, capsys: Capture) -> None:
    more = "  - {name: more, cpus: 4, memory: 16, gpus: 1, gpu: L4, most: 3}\n"
    path = cluster_file(tmp_path, L4 + more)
    code, out, _ = command(capsys, "check", job, "--set", "train.workers=6", "--cluster", path)
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("l4 + more"))
    assert "4 + 2" in line and "6, ddp" in line and " ? " in line
    assert "no price is known of more; `price:` of the pool tells it" in out


def test_it_loads_neither_ray_nor_torch(job: Path, tmp_path: Path) -> None:
    arguments = ["check", str(job), "--cluster", str(cluster_file(tmp_path, L4)), "--json"]
    code = (
        f"import sys, raysft.cli.main as main\nassert main.run({arguments!r}) == 0\n"
        "print([n for n in ('ray', 'torch', 'transformers', 'optuna') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")

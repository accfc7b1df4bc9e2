"""The plan's numbers by hand, and what cannot be run is refused before anything starts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.numpy import save_file

from raysft.cli.tables import check_table
from raysft.config import JobConfig, load_job
from raysft.corpus.sampler import Sampler
from raysft.errors import DataError, JobFileError, NoCapacity
from raysft.plan import preflight
from raysft.plan.machine import Machine, this_machine
from raysft.plan.plan import (
    ModelSize,
    choose_batching,
    choose_micro_rows,
    choose_micro_tokens,
    make_plan,
    rows_at_once,
    too_many_workers,
)
from raysft.plan.preflight import check_job
from raysft.plan.size import model_size
from raysft.run import _time
from raysft.storage.pretrained import Base, resolve_base
from tests.support.jobs import corpus_rows, write_csv, write_job

SMALL_MACHINE = Machine(cpus=2, memory_bytes=4 * 2**30, gflops=10.0, bf16=False)
SIZE = ModelSize(parameters=1000, embedding=400, hidden=8, layers=2, inner=16)


def config(max_length: int = 128, **train: Any) -> JobConfig:
    model = {"max_length": max_length}
    return JobConfig.model_validate({"name": "a", "data": {"train": "a.csv"}, "model": model, "train": train})


# --- batches and workers


@pytest.mark.parametrize(
    ("train", "gpu", "micro"),
    [
        ({"micro_batch": 3}, True, 3),
        ({"batch_size": 8}, False, 8),
        ({"batch_size": 33, "workers": 2}, False, 17),
        ({"batch_size": 4, "workers": 3}, False, 1),
        ({"batch_size": 10_000}, False, 36),  # 4096 tokens and an eighth, of 128
        ({"batch_size": 10_000}, True, 144),
    ],
)
def test_the_micro_batch_is_a_worker_s_share_as_far_as_it_fits(train: dict[str, Any], gpu: bool, micro: int) -> None:
    assert rows_at_once(config(**train), gpu, 128) == micro


@given(st.integers(1, 200), st.integers(1, 64), st.none() | st.integers(1, 64), st.booleans())
def test_workers_are_refused_exactly_when_one_would_have_nothing_to_do(
    batch: int, workers: int, micro: int | None, gpu: bool
) -> None:
    job = config(batch_size=batch, workers=workers, micro_batch=micro)
    batching = choose_batching(job.train, choose_micro_rows(job.train), choose_micro_tokens(job.train, gpu))
    (step, *_) = Sampler(np.ones(batch, int), batching, 0, 1).steps(0)
    reason = too_many_workers(job, gpu)
    assert bool(reason) == (len(step) < workers)
    if micro is None:  # what is chosen for the person never stands in the way
        assert bool(reason) == (batch < workers)


@given(st.integers(1, 64), st.sampled_from([32, 128, 512]), st.integers(1, 64), st.booleans())
def test_a_budget_of_positions_has_a_piece_for_each_worker(rows: int, length: int, workers: int, gpu: bool) -> None:
    """Rows of full length, which are the fewest; again what is chosen for the person never stands in the way."""
    job = config(length, batch_tokens=rows * length, workers=workers)
    batching = choose_batching(job.train, choose_micro_rows(job.train), choose_micro_tokens(job.train, gpu))
    (step,) = Sampler(np.full(rows, length), batching, 0, 1).steps(0)
    reason = too_many_workers(job, gpu)
    assert bool(reason) == (len(step) < workers)
    if rows % workers == 0:
        assert not reason


# --- the plan


def test_steps_tokens_and_time_by_hand() -> None:
    """40 rows of 10 tokens and one of 20, batch 8: no padding but in the batch with the long row."""
    job = config(batch_size=8, epochs=3, micro_batch=4, precision="fp32")
    lengths = np.array([10] * 40 + [20])
    slow = Machine(cpus=2, memory_bytes=2**32, gflops=1e-5, bf16=False)
    plan = make_plan(job, SIZE, lengths, {"train": 41, "validation": 10, "test": 5}, slow)
    assert (plan.steps_per_epoch, plan.total_steps) == (6, 18)
    assert (plan.micro_batch, plan.micro_batches_per_step) == (4, 2)
    assert plan.tokens == 3 * 420
    # The long row stands alone in the last batch, since lengths are sorted: nothing is padded.
    assert plan.padding_share == 0
    work = 2 * (1000 - 400)
    flops = 3 * (3 * work * 420 + work * 420 / 41 * 10)
    assert plan.train_s is not None and plan.total_s is not None
    assert plan.train_s == round(flops / (1e4 * 0.5), 1) > 100
    assert set(plan.why) >= {"steps_per_epoch", "micro_batch", "memory_bytes", "train_s", "total_s"}
    assert plan.total_s > plan.train_s


def test_a_sample_of_the_lengths_stands_for_all_rows() -> None:
    job, lengths = config(epochs=2), np.full(100, 12)
    part, whole = (
        make_plan(job, SIZE, each, {"train": 1000}, SMALL_MACHINE) for each in (lengths, np.tile(lengths, 10))
    )
    assert part == whole
    assert part.tokens == 2 * 1000 * 12


def test_bf16_and_faster_machines_take_less_time() -> None:
    lengths, rows, size = np.full(4000, 60), {"train": 4000}, ModelSize(20_000_000, 1_000_000, 384, 6, 1536)
    slow = make_plan(config(), size, lengths, rows, SMALL_MACHINE)
    bf16 = make_plan(config(), size, lengths, rows, Machine(2, 2**32, 10.0, bf16=True))
    forced = make_plan(config(precision="fp32"), size, lengths, rows, Machine(2, 2**32, 10.0, bf16=True))
    assert slow.train_s is not None and bf16.train_s == pytest.approx(slow.train_s / 2, rel=1e-3)
    assert forced.train_s == slow.train_s > 100
    assert "bf16" in bf16.why["train_s"] and "bf16" not in forced.why["train_s"]


def test_on_a_gpu_no_time_is_predicted() -> None:
    plan = make_plan(config(), SIZE, np.full(64, 16), {"train": 64}, SMALL_MACHINE, gpu=True)
    assert plan.train_s is plan.total_s is None and "not predicted on a GPU" in plan.why["train_s"]
    shared = make_plan(config(workers=2), SIZE, np.full(64, 16), {"train": 64}, SMALL_MACHINE, gpu=True)
    assert shared.strategy == "ddp" and "known when the run starts" in shared.why["strategy"]


def test_fused_attention_of_a_gpu_keeps_nothing_that_grows_with_the_square_of_the_length() -> None:
    def memory(length: int, gpu: bool = True) -> int:
        job = config(length, micro_batch=1)
        return make_plan(job, SIZE, np.full(8, length), {"train": 8}, SMALL_MACHINE, gpu=gpu).memory_bytes

    assert memory(768) - memory(512) == memory(512) - memory(256)
    assert memory(768, gpu=False) - memory(512, gpu=False) > 1.5 * (memory(512, gpu=False) - memory(256, gpu=False))


@pytest.mark.parametrize(("micro_batch", "measured"), [(None, 75.7), (4, 48.1)])
def test_memory_of_a_gpu_is_near_what_was_measured(micro_batch: int | None, measured: float) -> None:
    """A Llama of 1B, all weights, rows of up to 2,048 tokens, on an H200: docs/benchmarks.md."""
    base = {"name": "a", "task": "causal-lm", "data": {"train": "a.csv"}, "model": {"max_length": 2048}}
    job = JobConfig.model_validate({**base, "train": {"batch_size": 64, "micro_batch": micro_batch, "select": "loss"}})
    llama = ModelSize(parameters=1_235_814_400, embedding=128_256 * 2048, hidden=2048, layers=16, inner=8192)
    plan = make_plan(job, llama, np.full(64, 2048), {"train": 64}, SMALL_MACHINE, gpu=True)
    assert 0.85 * measured < plan.memory_bytes / 2**30 < measured


def test_operations_are_counted_on_every_device() -> None:
    job = config(batch_size=8, epochs=3, precision="fp32")
    rows = {"train": 40, "validation": 10}
    cpu, gpu = (make_plan(job, SIZE, np.full(40, 10), rows, SMALL_MACHINE, gpu=gpu) for gpu in (False, True))
    assert cpu.flops == gpu.flops == 3 * (3 * 2 * 600 * 400 + 2 * 600 * 100)


def test_more_parameters_longer_texts_and_larger_micro_batches_take_more_memory() -> None:
    def memory(size: ModelSize = SIZE, length: int = 16, micro: int = 4) -> int:
        return make_plan(
            config(micro_batch=micro), size, np.full(64, length), {"train": 64}, SMALL_MACHINE
        ).memory_bytes

    assert memory(ModelSize(10**8, 400, 8, 2, 16)) - memory() == 16 * (10**8 - 1000)
    assert memory(length=64) > memory() and memory(micro=8) > memory()


def test_a_plan_of_nothing_is_still_a_plan() -> None:
    plan = make_plan(config(), SIZE, np.array([], int), {"train": 0}, SMALL_MACHINE)
    assert (plan.total_steps, plan.tokens, plan.padding_share) == (0, 0, 0.0)
    json.dumps(plan.to_json(), allow_nan=False)


def test_this_machine_is_plausible() -> None:
    found = this_machine()
    assert found.cpus >= 1 and found.memory_bytes > 2**28 and 0.1 < found.gflops < 1e6


# --- the size of a model


@pytest.mark.parametrize(
    "names",
    [
        {"hidden_size": 4, "num_hidden_layers": 3, "intermediate_size": 6},
        {"dim": 4, "n_layers": 3, "hidden_dim": 6},
    ],
)
def test_the_size_is_read_from_the_files_alone(tmp_path: Path, names: dict[str, int]) -> None:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "embeddings.word": np.zeros((10, 4), np.float32),
        "layer.0.weight": np.zeros((4, 6), np.float16),
        "layer.0.bias": np.zeros(6, np.float32),
        "scalar": np.zeros((), np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 10, **names}))
    found = model_size(Base("b", tmp_path, "local folder", "0"))
    assert found == ModelSize(parameters=40 + 24 + 6 + 1, embedding=40, hidden=4, layers=3, inner=6)


def test_the_size_of_a_real_model_is_that_of_its_parameters(base_folder: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(base_folder)
    found = model_size(resolve_base(str(base_folder)))
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.embedding == model.get_input_embeddings().weight.numel()


# --- raysft check


@pytest.fixture
def base(base_folder: Path) -> Base:
    return resolve_base(str(base_folder))


def test_check_counts_what_the_run_will_hold(tmp_path: Path, base: Base) -> None:
    found = check_job(load_job(write_job(tmp_path, base.folder)), base)
    assert not found.sampled
    assert found.rows == {"read": 240, "kept": 240, "rejected": {}}
    assert found.plan.rows == {"train": 144, "validation": 48, "test": 48}
    assert found.labels == sorted({row["label"] for row in corpus_rows(240)})
    json.dumps(found.to_json(), allow_nan=False)


def test_check_plans_for_the_gpu_that_the_run_may_use(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "may_use_gpu", lambda device: True)
    found = check_job(load_job(write_job(tmp_path, base.folder, train={"batch_size": 10_000})), base)
    longest = int(found.plan.why["micro_batch"].split()[1])
    assert found.plan.micro_batch == 18_432 // longest and longest <= 32
    json.dumps(found.to_json(), allow_nan=False)
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(check_table(found))
    shown = console.export_text()
    assert shown.count("not predicted ") == 3 and "None" not in shown  # the two times, and why
    assert _time(found.plan) == "time not predicted on a GPU"


@pytest.mark.parametrize("wide", [0, 20])
def test_a_long_file_is_judged_by_its_first_rows(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch, wide: int
) -> None:
    """However many columns stand beside those that count."""
    monkeypatch.setattr(preflight, "SAMPLE_ROWS", 100)
    rows = [{**row, **{f"more{i}": f"something else {i}" for i in range(wide)}} for row in corpus_rows(1000)]
    found = check_job(load_job(write_job(tmp_path, base.folder, rows)), base)
    assert found.sampled and found.rows["read"] == 100
    assert sum(found.plan.rows.values()) == pytest.approx(1000, rel=0.05)


def test_a_test_file_that_was_read_whole_is_counted_as_it_is(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "SAMPLE_ROWS", 100)
    write_csv(tmp_path / "held.csv", corpus_rows(60, seed=9))
    found = check_job(load_job(write_job(tmp_path, base.folder, corpus_rows(1000), data={"test": "held.csv"})), base)
    assert found.plan.rows["test"] == 60
    assert sum(found.plan.rows.values()) == pytest.approx(1060, rel=0.05)


def test_what_stands_further_down_a_long_file_is_no_reason_to_refuse(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file sorted by label: the first rows show one class and lack the labels of the test file."""
    monkeypatch.setattr(preflight, "SAMPLE_ROWS", 50)
    rows = sorted(corpus_rows(400), key=lambda row: row["label"])
    write_csv(tmp_path / "held.csv", corpus_rows(40, seed=9))
    found = check_job(load_job(write_job(tmp_path, base.folder, rows, data={"test": "held.csv"})), base)
    assert found.sampled and found.labels == ["account"]


def test_what_is_wrong_with_a_short_file_is_refused(tmp_path: Path, base: Base) -> None:
    same = [{**row, "label": "same"} for row in corpus_rows(40)]
    with pytest.raises(DataError, match="only one class"):
        check_job(load_job(write_job(tmp_path, base.folder, same)), base)


def test_workers_that_cannot_be_are_refused_with_the_numbers(tmp_path: Path, base: Base) -> None:
    job = load_job(write_job(tmp_path, base.folder, train={"workers": 4, "batch_size": 32, "micro_batch": 16}))
    with pytest.raises(JobFileError, match=r"train\.workers: 4 workers cannot share .*\(2 pieces\)"):
        check_job(job, base)
    settings = {"workers": 4096, "micro_batch": 1, "batch_size": 4096, "device": "cpu"}
    job = load_job(write_job(tmp_path, base.folder, train=settings))
    with pytest.raises(NoCapacity, match=r"4096 x 1 CPU = 4096 CPUs; this machine has \d+"):
        check_job(job, base)

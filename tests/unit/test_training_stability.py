"""Updates that are not finite, losses that jump, and memory that runs out: decisions on numbers spelled out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysft.errors import NoCapacity, TrainingFailed
from raysft.training import ranks
from raysft.training.checkpoint import Progress
from raysft.training.memory import MicroBatch, is_out_of_memory
from raysft.training.scaler import LossScaler
from raysft.training.stability import MOST_SKIPPED, Guard, Spikes, applied, by_row_id, warning

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")
ROW_IDS = np.arange(100, 200)
BATCH = [np.array([3, 1]), np.array([7])]  # row ids 103, 101, 107


def guard(policy: str = "skip", fp16: bool = False) -> Guard:
    return Guard(policy, LossScaler(CPU, fp16), ROW_IDS, by_row_id)


def reported(of: Guard, step: int, loss: float, norm: float, progress: Progress) -> dict[str, Any]:
    of._batches[step] = BATCH
    return of.report(step, loss, norm, progress)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("norm", [NAN, INF])
def test_an_update_that_is_not_finite_changes_nothing(fused: bool, norm: float) -> None:
    """Neither weights nor moments nor the optimizer's count; decay would change weights even without a gradient."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5, fused=fused)
    of = guard()

    def update(step: int, gradient: float, norm: float) -> dict[str, torch.Tensor]:
        weight.grad = torch.full((2,), gradient)
        of.apply(optimizer, torch.tensor(norm), step, BATCH)
        state: dict[str, torch.Tensor] = optimizer.state[weight]
        return {"weight": weight.detach().clone(), **{name: each.clone() for name, each in state.items()}}

    first = update(1, 0.5, 0.7)
    assert not of.alarm
    second = update(2, norm, norm)
    assert of.alarm
    assert first.keys() == second.keys() == {"weight", "step", "exp_avg", "exp_avg_sq"}
    for name in first:
        assert torch.equal(first[name], second[name]), name
    third = update(3, 0.5, 0.7)
    assert third["step"].item() == 2 and not torch.equal(third["weight"], second["weight"])


def test_stop_names_step_rows_and_what_to_do() -> None:
    with pytest.raises(TrainingFailed) as caught:
        reported(guard("stop"), 12, NAN, NAN, Progress())
    text = str(caught.value)
    for part in ("step 12", "not applied", "3 rows: row_id 103, row_id 101, row_id 107", "train.on_nonfinite=skip"):
        assert part in text
    assert "another run (--set name=NAME) with a lower train.learning_rate" in text


@pytest.mark.parametrize(("loss", "norm"), [(NAN, NAN), (INF, NAN), (0.5, INF)])
def test_skip_counts_and_writes_only_numbers(loss: float, norm: float) -> None:
    progress, of = Progress(), guard("skip")
    line = reported(of, 1, loss, norm, progress)
    assert line == {"skipped": True} | ({"loss": 0.5} if loss == 0.5 else {})
    assert (progress.skipped, progress.skipped_in_a_row) == (1, 1)
    assert reported(of, 2, 0.4, 1.0, progress) == {"loss": 0.4, "grad_norm": 1.0}
    assert (progress.skipped, progress.skipped_in_a_row) == (1, 0)


def test_skipping_ends_after_too_many_in_a_row() -> None:
    progress, of = Progress(), guard("skip")
    for step in range(1, MOST_SKIPPED):
        reported(of, step, NAN, NAN, progress)
    with pytest.raises(TrainingFailed, match=f"the {MOST_SKIPPED}th step in a row") as caught:
        reported(of, MOST_SKIPPED, NAN, NAN, progress)
    assert "train.on_nonfinite=skip" not in str(caught.value)


def test_an_overflow_of_fp16_is_the_scales_affair_but_a_loss_is_not() -> None:
    progress, of = Progress(), guard("stop", fp16=True)
    assert reported(of, 1, 0.5, INF, progress) == {"loss": 0.5, "overflow": True}
    assert progress.skipped == 1
    with pytest.raises(TrainingFailed, match="step 2"):
        reported(of, 2, NAN, NAN, progress)


def test_a_scale_that_never_gets_small_enough_stops() -> None:
    progress, of = Progress(), guard("stop", fp16=True)
    for step in range(1, MOST_SKIPPED):
        reported(of, step, 0.5, INF, progress)
    with pytest.raises(TrainingFailed):
        reported(of, MOST_SKIPPED, 0.5, INF, progress)


NOISE = [1.0, 1.1, 0.9, 1.05, 0.95] * 4  # median 1, MAD 0.05: deviation max(1.4826 * 0.05, 0.05 * 1) = 0.07413


@pytest.mark.parametrize(("loss", "expected"), [(1.55, False), (1.60, True), (0.0, False)])
def test_a_spike_is_eight_deviations_above_the_median(loss: float, expected: bool) -> None:
    """The limit is 1 + 8 * 0.07413 = 1.593."""
    spikes = Spikes()
    assert not any(map(spikes.feed, NOISE))
    assert spikes.feed(loss) is expected


def test_nothing_is_a_spike_before_there_is_something_to_compare() -> None:
    spikes = Spikes()
    spikes.feed_all(NOISE[:-1])
    assert not spikes.feed(50.0)


def test_losses_that_barely_differ_may_still_vary() -> None:
    """The first losses were 1: the smallest deviation is 0.05, so that 0.01 + 8 * 0.05 = 0.41 is the limit."""
    for loss, expected in ((0.40, False), (0.42, True)):
        spikes = Spikes()
        spikes.feed_all([*NOISE, *[0.01] * 60])
        assert spikes.feed(loss) is expected


def test_lines_that_ask_for_attention() -> None:
    assert warning({"step": 3, "loss": 0.5}) == warning({"step": 3, "loss": 0.5, "overflow": True}) == ""
    assert "step 3: the loss jumped to 4.000" in warning({"step": 3, "loss": 4.0, "spike": True})
    assert "step 3: left out" in warning({"step": 3, "skipped": True})
    assert "micro-batches are 1/4 as large" in warning({"step": 3, "loss": 0.5, "micro_batch_parts": 4})
    assert applied({"loss": 0.5}) and not applied({"loss": 0.5, "overflow": True}) and not applied({"step": 1})


def test_the_watcher_passes_warnings_on(tmp_path: Any) -> None:
    from raysft.events import Silent
    from raysft.storage.layout import RunFolder
    from raysft.training.launch import _Watcher

    heard: list[str] = []

    class Ear(Silent):
        def warn(self, text: str) -> None:
            heard.append(text)

    lines = ['{"step": 1, "skipped": true, "total_steps": 9}', '{"step": 2, "spike": true, "loss": 3.0}']
    _Watcher(RunFolder(tmp_path), Ear())._tell(lines)
    assert [text.split(":")[0] for text in heard] == ["step 1", "step 2"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_which_errors_are_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_real_cpu_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


class Room:
    """A step's gradient that has room for so many rows at once; remembers what it was asked."""

    def __init__(self, rows: int) -> None:
        self.rows, self.tried, self.cleared = rows, [], 0  # type: ignore[var-annotated]

    def gradient(self, step: list[Any]) -> torch.Tensor:
        self.tried.append([len(micro) for micro in step])
        if max(map(len, step)) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried 1 GiB\nmore")
        return torch.zeros(())

    def clear(self) -> None:
        self.cleared += 1


def test_halving_keeps_rows_and_their_order() -> None:
    micro, room = MicroBatch(), Room(2)
    step = [np.arange(8), np.arange(8, 11)]
    micro.compute(room.gradient, step, room.clear)
    assert room.tried == [[8, 3], [4, 4, 2, 1], [2, 2, 2, 2, 1, 1, 1]]
    assert room.cleared == 2 and micro.parts == 4
    assert np.concatenate(micro.pieces(step)).tolist() == list(range(11))
    progress = Progress()
    assert micro.news(progress) == {"micro_batch_parts": 4} and micro.news(progress) == {}
    resumed = MicroBatch()
    resumed.resume(progress)
    assert resumed.parts == 4


def test_one_row_that_does_not_fit_ends_the_run() -> None:
    with pytest.raises(NoCapacity, match=r"one row in a micro-batch: CUDA out of memory\. Tried 1 GiB") as caught:
        MicroBatch().compute(Room(0).gradient, [np.arange(4)], Room(0).clear)
    assert "Go on with --set train.activation_checkpointing=true" in caught.value.next_step
    assert "another run (--set name=NAME)" in caught.value.next_step


def test_other_errors_pass() -> None:
    def fails(_: Any) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatch().compute(fails, [np.arange(4)], Room(0).clear)


def test_several_workers_agree_on_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rank has room for 2 rows, this one for 4."""
    tried: list[list[int]] = []

    def trial(rows: Any) -> None:
        tried.append(rows.tolist())

    gathered = []

    def gather(mine: tuple[str, None]) -> list[tuple[str, None]]:
        gathered.append(mine)
        return [mine, ("full" if len(tried[-1]) > 2 else "", None)]

    monkeypatch.setattr(ranks, "gather", gather)
    micro = MicroBatch()
    micro.agree(trial, [np.array([1, 2, 0, 4, 5]), np.array([7, 8])], clear=lambda: None)
    assert tried == [[1, 2, 0, 4, 5], [1, 2, 0], [1, 2], [7]] and len(gathered) == 4  # an exchange for each attempt
    assert micro.parts == 4 and micro.news(Progress()) == {"micro_batch_parts": 4}


def test_several_workers_do_not_retry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    with pytest.raises(RuntimeError, match=r"smaller train\.micro_batch"):
        MicroBatch().compute(Room(2).gradient, [np.arange(8)], Room(0).clear)

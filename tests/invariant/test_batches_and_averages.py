"""What batches, averages, optimizers and early stopping promise, through the loop itself with dropout on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.sampler import Micro
from raysft.metrics.judged import Judged
from raysft.model.classifier import build_classifier
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import checkpoint, ranks
from raysft.training.classification import Classification
from raysft.training.journal import LOG_STEPS
from raysft.training.loop import Loop
from raysft.training.objective import Batch
from raysft.training.stopping import ALL_EPOCHS
from tests.invariant.test_loop import LABELS, SETTINGS, make_loop
from tests.support.jobs import write_base
from tests.support.ranks import run_on_ranks
from tests.support.runs import run_until, trajectory

LONGEST = 32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def changed(**settings: Any) -> TrainSection:
    return SETTINGS.model_copy(update=settings)


def lines(loop: Loop) -> list[dict[str, Any]]:
    return [json.loads(line) for line in loop.metrics.read_text().splitlines()]


# --- padding and batches


class PaddedToTheLimit(Classification):
    """Every micro-batch as long as the longest text that a model takes."""

    def batch(self, rows: Micro, epoch: int) -> Batch:
        found = super().batch(rows, epoch)
        missing = LONGEST - found.inputs["input_ids"].shape[1]
        inputs = {name: torch.nn.functional.pad(value, (0, missing)) for name, value in found.inputs.items()}
        return Batch(inputs, found.targets)


@pytest.mark.parametrize("batching", ["bucketed", "random"])
def test_padding_changes_nothing(base: Base, tmp_path: Path, batching: str) -> None:
    """The same rows, padded to their longest or to the limit; sums over more zeros round otherwise by some 1e-7."""
    settings = changed(batching=batching)
    short, long = make_loop(base, tmp_path / "short", settings), make_loop(base, tmp_path / "long", settings)
    long.objective.__class__ = PaddedToTheLimit
    short.run()
    long.run()
    np.testing.assert_allclose(trajectory(tmp_path / "long"), trajectory(tmp_path / "short"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [{"micro_rows": 3}, {"micro_tokens": 40}])
def test_how_a_token_batch_is_cut_does_not_change_the_trajectory(
    base: Base, tmp_path: Path, cut: dict[str, Any]
) -> None:
    settings = changed(batch_tokens=160)
    make_loop(base, tmp_path / "whole", settings, micro=1000).run()
    loop = make_loop(base, tmp_path / "cut", settings)
    loop.sampler = replace(loop.sampler, batching=replace(loop.sampler.batching, **cut))
    loop.run()
    assert max(len(step) for step in loop.sampler.steps(0)) > 2
    np.testing.assert_allclose(trajectory(tmp_path / "cut"), trajectory(tmp_path / "whole"), rtol=1e-4, atol=1e-5)


def test_token_batches_and_random_ones_are_other_batches(base: Base, tmp_path: Path) -> None:
    """Were the settings ignored, the tests above would prove nothing about them."""
    found = {}
    for name, settings in {
        "rows": changed(),
        "tokens": changed(batch_tokens=160),
        "random": changed(batching="random"),
    }.items():
        make_loop(base, tmp_path / name, settings).run()
        found[name] = trajectory(tmp_path / name)
    assert found["rows"][0] != found["tokens"][0] != found["random"][0] != found["rows"][0]
    assert len(found["tokens"]) != len(found["rows"]) == len(found["random"])


# --- resume


RESUMED: dict[str, dict[str, Any]] = {
    "average": {"average": 0.9},
    "adafactor": {"optimizer": "adafactor", "learning_rate": 5e-2, "head_learning_rate": 5e-2},
    "batch_tokens": {"batch_tokens": 160},
    "random": {"batching": "random"},
    "wsd": {"schedule": "wsd"},
    "stop_after": {"stop_after": 1, "epochs": 6, "select": "accuracy", "learning_rate": 0.05},
    "all": {
        "average": 0.8,
        "optimizer": "adafactor",
        "batch_tokens": 160,
        "stop_after": 2,
        "epochs": 4,
        "schedule": "wsd",
    },
}


@pytest.mark.parametrize("stop", [1, 5, 9])
@pytest.mark.parametrize("name", RESUMED)
def test_resumed_is_bit_identical_to_uninterrupted(base: Base, tmp_path: Path, name: str, stop: int) -> None:
    """A checkpoint every 3 steps; stopped within the first epoch and the second."""
    settings = changed(**RESUMED[name], save_every=3)
    whole = make_loop(base, tmp_path / "whole", settings)
    whole.run()
    assert name != "stop_after" or "train.stop_after" in whole.progress.ended
    run_until(make_loop(base, tmp_path / "cut", settings), stop)
    again = make_loop(base, tmp_path / "cut", settings)
    again.run()
    assert again.resumed_from == (None if stop < 3 else pytest.approx(stop, abs=3))
    assert ranks.weights_digest(again.model) == ranks.weights_digest(whole.model)
    averages = zip(again.average.state().values(), whole.average.state().values(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in averages)
    assert trajectory(tmp_path / "cut") == trajectory(tmp_path / "whole")
    for each in ("step", "best_step", "best", "no_better", "ended"):
        assert getattr(again.progress, each) == getattr(whole.progress, each), each
    assert [line for line in lines(again) if "ended" in line] == lines(whole)[-1:]


# --- early stopping


def test_training_that_gets_no_better_stops_and_says_so(base: Base, tmp_path: Path) -> None:
    settings = changed(epochs=6, stop_after=2, select="loss")
    loop = make_loop(base, tmp_path, settings)
    losses = iter([1.0, 0.8, 0.9, 0.8, 0.1, 0.1])
    loop.objective.judge = lambda forward: Judged({"loss": next(losses)})  # type: ignore[method-assign]
    progress = loop.run()
    assert (progress.step, progress.best_step) == (4 * 7, 2 * 7)
    reason = "2 epochs in a row were no better by loss (train.stop_after)"
    assert lines(loop)[-1] == {"step": 28, "ended": reason} and progress.ended == reason
    assert lines(loop)[0]["total_steps"] == 42  # the schedule is that of all epochs
    assert checkpoint.at_step(loop.kept, 14).exists()


def test_a_run_that_had_ended_trains_no_more(base: Base, tmp_path: Path) -> None:
    """Killed after its last checkpoint, before the artifact."""
    settings = changed(epochs=6, stop_after=1, select="loss")
    first = make_loop(base, tmp_path, settings)
    first.objective.judge = lambda forward: Judged({"loss": 1.0})  # type: ignore[method-assign]
    first.run()
    before = lines(first)
    again = make_loop(base, tmp_path, settings)
    again.run()
    assert again.progress.step == again.resumed_from == 14 and lines(again) == before


def test_a_whole_run_says_that_it_was_whole(base: Base, tmp_path: Path) -> None:
    loop = make_loop(base, tmp_path)
    assert loop.run().ended == ALL_EPOCHS
    assert lines(loop)[-1] == {"step": 14, "ended": ALL_EPOCHS}


# --- averages


def test_the_average_is_evaluated_and_kept_and_does_not_touch_training(base: Base, tmp_path: Path) -> None:
    plain, loop = make_loop(base, tmp_path / "plain"), make_loop(base, tmp_path / "average", changed(average=0.9))
    expected: dict[str, torch.Tensor] = {name: p.detach().double().clone() for name, p in loop.model.named_parameters()}
    update = loop.average.update

    def follow(step: int) -> None:
        update(step)
        decay = min(0.9, step / (step + 9))
        for name, parameter in loop.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach().double()

    loop.average.update = follow  # type: ignore[method-assign]
    plain.run()
    loop.run()
    assert trajectory(tmp_path / "average") == trajectory(tmp_path / "plain")
    assert ranks.weights_digest(loop.model) == ranks.weights_digest(plain.model)
    kept = build_classifier(base, ModelSection(), LABELS, 0)
    path = checkpoint.at_step(loop.kept, loop.progress.step)
    checkpoint.load_best(path, kept)
    for name, parameter in kept.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-5, atol=1e-6)
    loop.model.load_state_dict(kept.state_dict())
    with loop.average.in_place():
        pass  # nothing but the average itself is left to swap
    loop.model.eval()
    from raysft.training.forward import evaluating

    scores = loop.objective.judge(evaluating(loop.model, loop.precision)).scores
    last = next(line for line in reversed(lines(loop)) if "validation_loss" in line)
    assert scores["loss"] == pytest.approx(last["validation_loss"], rel=1e-6)
    assert last["validation_loss"] != lines(plain)[-2]["validation_loss"]


def shared(base: Base, folder: Path, settings: TrainSection, strategy: str) -> tuple[list[tuple[float, float]], str]:
    """What one of several ranks sees: the trajectory, and the hash of what was evaluated."""
    loop = make_loop(base, folder, settings, micro=4, strategy=strategy)
    loop.run()
    with loop.average.in_place():
        digest = ranks.weights_digest(loop.model)
    return trajectory(folder), digest


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_train_as_one_on_token_batches_with_an_average(base: Base, tmp_path: Path, strategy: str) -> None:
    settings = changed(average=0.9, batch_tokens=160, stop_after=1, epochs=3)
    alone, _ = shared(base, tmp_path / "one", settings, "ddp")
    both = run_on_ranks(2, shared, base, tmp_path / "two", settings, strategy, folder=tmp_path / "ranks")
    (first, mine), (second, other) = both
    assert mine == other and first == second
    # Gradients of two ranks are added in another order than those of one: some 1e-7 a step.
    np.testing.assert_allclose(first, alone, rtol=1e-4, atol=1e-5)


# --- what can be seen


def test_a_window_of_steps_is_read_back_at_once_and_says_how_fast_it_was(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(batch_size=4)  # 26 steps an epoch
    loop = make_loop(base, tmp_path, settings)
    read: list[int] = []
    total = ranks.total

    def counting(losses: torch.Tensor) -> torch.Tensor:
        read.append(len(losses))
        return total(losses)

    monkeypatch.setattr(ranks, "total", counting)
    loop.run()
    # The first step at once, so that a person sees it; then LOG_STEPS at a time, and the rest at the end of an epoch.
    assert read == [1, LOG_STEPS, LOG_STEPS, 5, LOG_STEPS, LOG_STEPS, 6]
    windows = [line for line in lines(loop) if "seconds" in line]
    assert [line["step"] for line in windows] == np.cumsum(read).tolist()
    examples = tokens = waited = before = 0.0
    for line in windows:
        seconds = line["seconds"] - before
        before = line["seconds"]
        examples += line["examples_per_s"] * seconds
        tokens += line["tokens_per_s"] * seconds
        waited += line["data_wait_s"]
        assert 0 <= line["padding_share"] < 1 and 0 <= line["data_wait_s"] <= seconds + 1e-3
        assert line["memory_bytes"] > 50 * 2**20  # Python and torch alone take more
    # Seconds are written in thousandths, and the windows here take some hundredths.
    assert examples == pytest.approx(2 * 104, rel=0.1) and tokens == pytest.approx(loop.progress.tokens, rel=0.1)
    assert waited == pytest.approx(loop.progress.waited, abs=1e-3) and waited > 0

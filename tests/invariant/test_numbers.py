"""Precision and stability through the loop: what is skipped, what is scaled, what memory allows, beside plain torch."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.errors import TrainingFailed
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import ranks, scaler
from raysft.training.loop import Loop
from tests.support.jobs import write_base
from tests.support.loops import (
    SETTINGS,
    STEPS,
    Spoil,
    assert_near,
    lines_of,
    losses,
    make_loop,
    nan,
    out_of_memory,
    overflowing,
    plain_torch,
    spoil,
    watched,
    weights,
)
from tests.support.ranks import run_on_ranks


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


@pytest.mark.parametrize("step", [1, 4])
def test_fp16_leaves_out_exactly_the_step_that_overflows(base: Base, tmp_path: Path, step: int) -> None:
    loop = make_loop(base, tmp_path, precision="fp16")
    spoil(loop, step, overflowing)
    found = watched(loop)
    loop.run()
    changed = [not torch.equal(before, after) for before, after in pairwise(found)]
    assert changed == [number != step for number in range(1, STEPS + 1)]
    expected, state = plain_torch(base, loop, fp16=True, bad={step})
    for mine, theirs in zip(found, expected, strict=True):
        assert_near(mine, theirs)
    assert loop.progress.scaler == {"scale": state["scale"], "good": state["_growth_tracker"]}
    assert loop.progress.scaler["scale"] == scaler.START / 2
    lines = lines_of(loop)
    assert [line["step"] for line in lines if line.get("overflow")] == [step] and loop.progress.skipped == 1
    assert len(losses(loop)) == STEPS, "the loss of the overflowing step is known"


def test_a_step_that_is_skipped_is_as_if_it_had_no_update(base: Base, tmp_path: Path) -> None:
    """Not finite in one row of step 3: the weights stay, the schedule and the rows move on."""
    loop = make_loop(base, tmp_path, SETTINGS.model_copy(update={"on_nonfinite": "skip"}), micro=4)
    spoil(loop, 3, nan)
    found = watched(loop)
    loop.run()
    assert torch.equal(found[2], found[3]) and not torch.equal(found[3], found[4])
    for mine, theirs in zip(found, plain_torch(base, loop, fp16=False, bad={3})[0], strict=True):
        assert_near(mine, theirs)
    assert (loop.progress.skipped, loop.progress.step, loop.progress.examples) == (1, STEPS, 104)
    assert [line.get("skipped", False) for line in lines_of(loop) if "rate" in line] == [n == 3 for n in range(1, 8)]


@pytest.mark.parametrize("how", [nan, overflowing])
@pytest.mark.parametrize("late", [False, True])
def test_stop_leaves_the_weights_clean_and_names_the_rows(base: Base, tmp_path: Path, how: Spoil, late: bool) -> None:
    """`late`: as on a GPU, where the update is left out on the device and the host learns of it at the next reading."""
    loop = make_loop(base, tmp_path)
    rows = spoil(loop, 3, how)
    found = watched(loop)
    if late:
        loop._guard = Late(loop._guard)  # type: ignore[assignment]
    with pytest.raises(TrainingFailed) as caught:
        loop.run()
    message = str(caught.value)
    assert "at step 3 " in message and f"16 rows: row_id {rows[0]}, row_id {rows[1]}, " in message
    assert len(found) == (STEPS if late else 3) + 1
    assert torch.equal(found[2], found[3]), "the update was not applied"
    assert all(each.isfinite().all() for each in found)
    assert not list(loop.kept.glob("step-*")), "nothing is saved after it"
    assert losses(loop)[-1] == losses(loop)[1] and len(losses(loop)) == 2, "the steps before it are written"


class Late:
    """A guard whose alarm is never raised at once."""

    def __init__(self, guard: Any) -> None:
        self._guard, self.alarm = guard, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guard, name)


def test_fp16_resumes_to_the_bit_with_its_scale(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overflow in step 2, and a scale that doubles every 3 good steps: the state matters after the break."""
    monkeypatch.setattr(scaler, "GROWTH_STEPS", 3)
    settings = SETTINGS.model_copy(update={"save_every": 2})
    whole, cut = (make_loop(base, tmp_path / name, settings, "fp16") for name in ("whole", "cut"))
    spoil(whole, 2, overflowing)
    whole.run()
    spoil(cut, 2, overflowing)
    step = cut._step

    def until_the_fifth(batch: Any) -> None:
        if cut.progress.step == 4:
            raise KeyboardInterrupt
        step(batch)

    monkeypatch.setattr(cut, "_step", until_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    again = make_loop(base, tmp_path / "cut", settings, "fp16")
    again.run()
    assert again.resumed_from == 4
    assert ranks.weights_digest(again.model) == ranks.weights_digest(whole.model)
    assert again.progress.scaler == whole.progress.scaler != {"scale": scaler.START, "good": 0.0}
    assert again.progress.skipped == whole.progress.skipped == 1
    assert losses(again) == losses(whole)


@pytest.mark.parametrize(("half", "digits"), [("bf16", 8), ("fp16", 11)])
def test_half_precision_stays_near_float32(base: Base, tmp_path: Path, half: str, digits: int) -> None:
    """The first loss within a rounding of the logits (bf16 keeps 8 bits, fp16 11), the others within 8 of them:
    differences grow with the steps, and with them the last bits."""
    full, low = make_loop(base, tmp_path / "full"), make_loop(base, tmp_path / "low", precision=half)
    full.run()
    low.run()
    rounding = 2.0**-digits
    np.testing.assert_allclose(losses(low)[0], losses(full)[0], atol=rounding)
    np.testing.assert_allclose(losses(low), losses(full), atol=8 * rounding)
    assert losses(low) != losses(full), "it was not computed in another precision"


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_trajectory(base: Base, tmp_path: Path) -> None:
    """With dropout. Memory runs out in the second micro-batch of step 2, so a gradient is there to be dropped."""
    settings, dropping = SETTINGS.model_copy(update={"save_every": 1}), ModelSection(dropout=0.1)
    plain = make_loop(base, tmp_path / "plain", settings, micro=8, model=dropping)
    plain.run()
    loop = make_loop(base, tmp_path / "tight", settings, micro=8, model=dropping)
    out_of_memory(loop.model, rows=4, after=3)
    loop.run()
    # Sums in another order; see tests/invariant/test_loop.py.
    np.testing.assert_allclose(losses(loop), losses(plain), rtol=1e-4, atol=1e-5)
    assert [line["micro_batch_parts"] for line in lines_of(loop) if "micro_batch_parts" in line] == [2]
    assert lines_of(loop)[1]["step"] == 2 and "micro_batch_parts" in lines_of(loop)[1]
    assert (loop.progress.micro_batch_parts, loop.progress.examples) == (2, plain.progress.examples)
    again = make_loop(base, tmp_path / "tight", settings, micro=8, model=dropping)
    again._resume()
    assert again._micro.parts == 2, "a resumed run does not run out of memory once more"


def test_memory_that_is_short_from_the_start_is_a_smaller_micro_batch_to_the_bit(base: Base, tmp_path: Path) -> None:
    small = make_loop(base, tmp_path / "small", micro=2)
    small.run()
    loop = make_loop(base, tmp_path / "tight", micro=8)
    out_of_memory(loop.model, rows=3)
    loop.run()
    assert ranks.weights_digest(loop.model) == ranks.weights_digest(small.model)
    assert loop.progress.padded == small.progress.padded


def test_a_jump_of_the_loss_is_written_and_a_resumed_run_sees_the_same(base: Base, tmp_path: Path) -> None:
    """Step 24 of 28 is made to report a loss of 5 more; a run that goes on from step 21 knows the 21 losses before."""
    settings = SETTINGS.model_copy(update={"epochs": 4})

    def jumping(folder: Path) -> Loop:
        loop = make_loop(base, folder, settings)
        gradient = loop._gradient

        def jump(step: Any) -> torch.Tensor:
            return gradient(step) + (5.0 if loop.progress.step == 23 else 0.0)

        loop._gradient = jump  # type: ignore[method-assign]
        return loop

    loop = jumping(tmp_path)
    loop.run()
    assert [line["step"] for line in lines_of(loop) if line.get("spike")] == [24]
    shutil.rmtree(loop.kept / "step-000028")
    again = jumping(tmp_path)
    again.run()
    assert again.resumed_from == 21
    assert [line["step"] for line in lines_of(again) if line.get("spike")] == [24]


SKIP = SETTINGS.model_copy(update={"on_nonfinite": "skip"})
HOW = {"fp32": nan, "fp16": overflowing}


def run_pair(base: Base, folder: Path) -> dict[str, Any]:
    """One of two ranks: DDP whose rank 1 is short of memory, DDP and FSDP with a step that goes wrong on one rank."""
    rank = ranks.rank()
    found: dict[str, Any] = {}
    tight = make_loop(base, folder / "tight", micro=8)
    out_of_memory(tight.model, rows=4 if rank else 8)
    steps(tight)
    found["tight"] = (losses(tight) if rank == 0 else None, weights(tight.model), tight._micro.parts)
    for strategy in ("ddp", "fsdp"):
        for precision, how in HOW.items():
            loop = make_loop(base, folder / f"2 {strategy}" / precision, SKIP, precision, micro=4, strategy=strategy)
            spoil(loop, 3, how)
            steps(loop)
            found[f"{strategy} {precision}"] = (whole(loop.model), loop.progress.skipped, loop._scaler.state())
    return found


def steps(loop: Loop) -> None:
    """The first epoch, without evaluation and checkpoint."""
    loop._agree_on_micro_batch()
    loop._begin_epoch(0)
    for step in loop.sampler.steps(0):
        loop._step(step)


def whole(model: nn.Module) -> torch.Tensor:
    """All weights, gathered where ranks hold shares of them."""
    tensors = [parameter.detach() for parameter in model.parameters()]
    return torch.cat([getattr(each, "full_tensor", lambda each=each: each)().flatten() for each in tensors])


def test_two_ranks_agree_on_what_fits_and_on_what_is_skipped(base: Base, tmp_path: Path) -> None:
    first, second = run_on_ranks(2, run_pair, base, tmp_path, folder=tmp_path / "ranks")
    one = make_loop(base, tmp_path / "one", micro=8)
    steps(one)
    assert first["tight"][2] == second["tight"][2] == 2
    assert torch.equal(first["tight"][1], second["tight"][1])
    np.testing.assert_allclose(first["tight"][0], losses(one), rtol=1e-4, atol=1e-5)
    assert_near(first["tight"][1], weights(one.model))
    for strategy in ("ddp", "fsdp"):
        for precision in ("fp32", "fp16"):
            mine, theirs = first[f"{strategy} {precision}"], second[f"{strategy} {precision}"]
            assert torch.equal(mine[0], theirs[0]) and mine[1:] == theirs[1:] and mine[1] == 1
            alone = make_loop(base, tmp_path / strategy / precision, SKIP, precision, micro=4)
            spoil(alone, 3, HOW[precision])
            steps(alone)
            assert_near(mine[0], weights(alone.model))
            assert mine[2] == ({"scale": scaler.START / 2, "good": STEPS - 3} if precision == "fp16" else {})

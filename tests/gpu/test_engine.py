"""The engine on one GPU: the numbers of the CPU, half precision as torch has it, and what exists on GPUs only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from raysft.config.sections import ModelSection, TrainSection
from raysft.errors import TrainingFailed
from raysft.storage.pretrained import Base
from raysft.training import scaler
from raysft.training.forward import predict_logits
from raysft.training.precision import Precision, choose
from tests.support.loops import (
    CPU,
    SETTINGS,
    STEPS,
    assert_near,
    lines_of,
    losses,
    make_loop,
    nan,
    overflowing,
    plain_torch,
    rows_of,
    spoil,
    watched,
)
from tests.support.runs import run_until, trajectory

GPU = torch.device("cuda", 0)


def settings(**changed: Any) -> TrainSection:
    return SETTINGS.model_copy(update=changed)


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    """A world of one, with both backends, as fsdp has it."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    where = f"file://{tmp_path}/rendezvous"
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=where, rank=0, world_size=1, device_id=GPU)
    yield
    dist.destroy_process_group()


WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "accumulated": {"micro": 4},
    "checkpointed": {"settings": settings(activation_checkpointing=True)},
    "compiled": {"settings": settings(compile=True)},
    "fsdp": {"strategy": "fsdp"},
    "fsdp offloaded": {"strategy": "fsdp", "settings": settings(offload=True)},
    "fsdp checkpointed": {"strategy": "fsdp", "settings": settings(activation_checkpointing=True), "micro": 4},
}


@pytest.mark.parametrize("name", WAYS)
def test_one_trajectory_with_the_cpu(base: Base, tmp_path: Path, name: str, one_rank: None) -> None:
    """Float32 without tf32; sums in another order differ by some 1e-7, which AdamW's root makes some 1e-5."""
    make_loop(base, tmp_path / "cpu").run()
    make_loop(base, tmp_path / "gpu", device=GPU, **WAYS[name]).run()
    expected = trajectory(tmp_path / "cpu")
    assert len(expected) == STEPS
    np.testing.assert_allclose(trajectory(tmp_path / "gpu"), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_rounded_products_stay_near(base: Base, tmp_path: Path, precision: str, strategy: str, one_rank: None) -> None:
    """bf16 has 8 bits of mantissa, 2^-9 relative a product, fp16 and tf32 11; losses here are 1.4 and below."""
    if precision != "fp16" and torch.cuda.get_device_capability(GPU)[0] < 8:
        pytest.skip("the card has neither bf16 nor tf32")
    for name in ("fp32", precision):
        loop = make_loop(base, tmp_path / name, precision=name, device=GPU, strategy=strategy)
        with loop.precision.training():
            loop.run()
    found, expected = (np.array(trajectory(tmp_path / name))[:, 0] for name in (precision, "fp32"))
    # Two runs in float32 differ by some 1e-7; measured: bf16 1e-4, fp16 2e-5, tf32 8e-6.
    assert 2e-6 < np.abs(found - expected).max() < 0.02


def test_fp16_leaves_out_exactly_the_step_that_overflows(base: Base, tmp_path: Path) -> None:
    loop = make_loop(base, tmp_path, precision="fp16", device=GPU)
    spoil(loop, 4, overflowing)
    found = watched(loop)
    loop.run()
    changed = [not torch.equal(before, after) for before, after in pairwise(found)]
    assert changed == [number != 4 for number in range(1, STEPS + 1)]
    expected, state = plain_torch(base, loop, fp16=True, bad={4}, device=GPU)
    for mine, theirs in zip(found, expected, strict=True):
        assert_near(mine.cpu(), theirs.cpu())
    assert loop.progress.scaler == {"scale": state["scale"], "good": state["_growth_tracker"]}
    assert loop.progress.scaler["scale"] == scaler.START / 2


def test_a_loss_that_is_not_finite_stops_the_run_with_its_rows(base: Base, tmp_path: Path) -> None:
    """The device is not waited for: the update is left out there, and the host learns of it at the next reading."""
    loop = make_loop(base, tmp_path, device=GPU)
    rows = spoil(loop, 3, nan)
    found = watched(loop)
    with pytest.raises(TrainingFailed) as caught:
        loop.run()
    assert f"16 rows: row_id {rows[0]}, row_id {rows[1]}, " in str(caught.value)
    assert torch.equal(found[2], found[3]) and all(each.isfinite().all() for each in found)
    assert len(losses(loop)) == 2 and not list(loop.kept.glob("step-*"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_goes_on_after_an_interruption(base: Base, tmp_path: Path, precision: str) -> None:
    """Gradients of embeddings are summed by atomic additions, in no fixed order: near, not to the bit."""
    saving = settings(save_every=2)
    whole = make_loop(base, tmp_path / "whole", saving, precision, device=GPU)
    whole.run()
    run_until(make_loop(base, tmp_path / "cut", saving, precision, device=GPU), 5)
    again = make_loop(base, tmp_path / "cut", saving, precision, device=GPU)
    again.run()
    assert again.resumed_from == 4
    np.testing.assert_allclose(trajectory(tmp_path / "cut"), trajectory(tmp_path / "whole"), rtol=0, atol=2e-3)


def test_what_runs_out_of_memory_is_computed_in_smaller_parts(base: Base, tmp_path: Path) -> None:
    """The card's own allocator says no: ballast is held while more than 4 rows are in a forward pass."""
    make_loop(base, tmp_path / "cpu").run()
    loop = make_loop(base, tmp_path / "gpu", device=GPU)
    total = torch.cuda.get_device_properties(GPU).total_memory

    def ask_for_all(_: Any, __: Any, given: dict[str, Any]) -> None:
        if loop.model.training and len(given["input_ids"]) > 4:
            torch.empty(2 * total, dtype=torch.uint8, device=GPU)

    loop.model.register_forward_pre_hook(ask_for_all, with_kwargs=True)
    loop.run()
    assert loop.progress.micro_batch_parts == 4
    assert [line["micro_batch_parts"] for line in lines_of(loop) if "micro_batch_parts" in line] == [4]
    np.testing.assert_allclose(trajectory(tmp_path / "gpu"), trajectory(tmp_path / "cpu"), rtol=0, atol=1e-4)


def test_predictions_are_those_of_the_cpu(base: Base, tmp_path: Path) -> None:
    loop = make_loop(base, tmp_path, device=GPU)
    loop.run()
    rows = rows_of(base, 300, 2)
    found = predict_logits(loop.model, rows, 0, Precision.plain(GPU))
    np.testing.assert_allclose(found, predict_logits(loop.model.cpu(), rows, 0, Precision.plain(CPU)), atol=1e-4)


def test_auto_is_bf16_where_the_card_has_it() -> None:
    has = torch.cuda.get_device_capability(GPU)[0] >= 8
    assert choose("auto", GPU).name == ("bf16" if has else "fp16")


ADAPTERS = settings(epochs=24, learning_rate=3e-2, head_learning_rate=3e-2)  # beside random weights
LEARNS: dict[str, tuple[ModelSection, TrainSection, float]] = {  # and what is left of the loss
    "adamw_8bit": (ModelSection(dropout=0.0), settings(optimizer="adamw_8bit", epochs=6), 0.8),
    "qlora": (ModelSection.model_validate({"lora": {"r": 4, "variant": "dora", "quantize": "4bit"}}), ADAPTERS, 0.9),
    "dora": (ModelSection.model_validate({"lora": {"r": 4, "variant": "dora"}}), ADAPTERS, 0.9),
}


@pytest.mark.parametrize("name", LEARNS)
def test_it_learns_and_goes_on(base: Base, tmp_path: Path, name: str) -> None:
    """The loss falls; what was interrupted goes on."""
    if name != "dora":
        pytest.importorskip("bitsandbytes", reason="the extras `bits` and `qlora` are not installed")
    model, train, left = LEARNS[name]
    train = train.model_copy(update={"save_every": 3})
    make: Callable[[str], Any] = lambda part: make_loop(base, tmp_path / part, train, "bf16", model=model, device=GPU)  # noqa: E731
    whole = make("whole")
    whole.run()
    found = [loss for loss, _ in trajectory(tmp_path / "whole")]
    assert len(found) == train.epochs * STEPS and np.mean(found[-STEPS:]) < left * found[0]
    run_until(make("cut"), 11)
    again = make("cut")
    again.run()
    assert again.resumed_from == 9
    np.testing.assert_allclose([loss for loss, _ in trajectory(tmp_path / "cut")][:12], found[:12], rtol=0, atol=0.01)

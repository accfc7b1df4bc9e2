"""Which precision a run gets, what is refused, and the loss scale beside torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from raysft.errors import JobFileError, UsageError
from raysft.plan import precision as refusals
from raysft.training import precision, ranks
from raysft.training.precision import Precision, choose
from raysft.training.scaler import GROWTH_STEPS, LARGEST, START, LossScaler
from tests.support.jobs import write_job

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "has_bf16", "expected"),
    [(CPU, [True], "bf16"), (CPU, [False], "fp32"), (CUDA, [True], "bf16"), (CUDA, [True, False], "fp16")],
)
def test_auto_takes_what_every_rank_has(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, has_bf16: list[bool], expected: str
) -> None:
    monkeypatch.setattr(precision, "supports_bf16", lambda _: has_bf16[0])
    monkeypatch.setattr(ranks, "gather", lambda mine: has_bf16)
    assert choose("auto", device).name == expected


def test_auto_goes_on_as_the_run_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "supports_bf16", lambda _: False)
    monkeypatch.setattr(refusals, "_cpu_flags", set)
    assert choose("auto", CPU, begun="bf16").name == "bf16"
    assert choose("fp32", CPU, begun="bf16").name == "fp32"  # said otherwise; such a run is refused before
    with pytest.raises(UsageError, match=r"was begun in fp16, but this processor has no float16 arithmetic \("):
        choose("auto", CPU, begun="fp16")


@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_what_is_asked_for_is_taken(asked: str) -> None:
    assert choose(asked, CPU) == Precision(asked, CPU)


def test_tf32_on_a_cpu_and_on_an_old_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"train\.precision: tf32 .* CPU"):
        choose("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(UsageError, match=r"Ampere .* found Tesla T4"):
        choose("tf32", CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert choose("tf32", CUDA).name == "tf32"


def test_fp16_on_a_cpu_needs_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_cpu_flags", lambda: {"avx512f", "avx512_bf16"})
    with pytest.raises(UsageError, match="no float16 arithmetic"):
        choose("fp16", CPU)
    monkeypatch.setattr(refusals, "_cpu_flags", lambda: {"avx512f", "avx512_fp16"})
    assert choose("fp16", CPU).name == "fp16"
    assert choose("fp16", CUDA).name == "fp16"


@pytest.mark.parametrize("asked", ["fp16", "tf32"])
def test_a_check_refuses_with_line_and_key(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    import raysft

    monkeypatch.setattr(refusals, "_cpu_flags", set)
    job = write_job(tmp_path, base_folder, train={"precision": asked, "device": "cpu"})
    line = next(n for n, text in enumerate(job.read_text().splitlines(), 1) if "precision" in text)
    with pytest.raises(JobFileError, match=rf"job\.yaml:{line}: train\.precision: .*use auto, bf16 or fp32"):
        raysft.check(job)


def test_a_job_that_may_end_on_a_gpu_is_not_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(refusals, "GPU_DEVICES", ("no-such-device",))
    assert [refusals.may_use_gpu(device) for device in ("cpu", "auto", "gpu")] == [False, False, True]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert [refusals.may_use_gpu(device) for device in ("cpu", "auto")] == [False, True]


def test_the_arithmetic_of_a_forward_pass() -> None:
    layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    for name, dtype in [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]:
        how = Precision(name, CPU)
        with how.forward():
            assert layer(x).dtype == how.dtype == dtype
        assert layer.weight.dtype == torch.float32


def test_tf32_is_a_switch_of_the_training_only() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ValueError, match="stop"), Precision("tf32", CUDA).training():
        assert torch.get_float32_matmul_precision() == "high"
        raise ValueError("stop")
    assert torch.get_float32_matmul_precision() == before
    with Precision("fp32", CUDA).training():
        assert torch.get_float32_matmul_precision() == before


def test_the_scale_follows_torch_grad_scaler_bit_for_bit() -> None:
    """Overflows in between, two in a row, and enough good steps to grow three times."""
    bad_steps = {0, 1, 7, GROWTH_STEPS + 9}
    ours, weight = LossScaler(CPU, enabled=True), nn.Parameter(torch.ones(1))
    theirs = torch.amp.GradScaler("cpu", init_scale=START, growth_interval=GROWTH_STEPS)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for step in range(3 * GROWTH_STEPS + 20):
        bad = step in bad_steps
        weight.grad = theirs.scale(torch.tensor([float("inf") if bad else 1.0]))
        theirs.unscale_(optimizer)
        theirs.step(optimizer)
        theirs.update()
        ours.update(torch.tensor(bad))
        assert ours.state()["scale"] == theirs.get_scale()
    assert ours.state() == {"scale": START / 16 * 8, "good": theirs.state_dict()["_growth_tracker"]}


def test_the_scale_stays_a_number() -> None:
    scaler = LossScaler(CPU, enabled=True)
    scaler.load({"scale": LARGEST, "good": GROWTH_STEPS - 1.0})
    scaler.update(torch.tensor(False))
    assert scaler.state() == {"scale": LARGEST, "good": 0.0}


def test_scaling_and_unscaling_leave_no_trace() -> None:
    """Powers of two: the gradient is the one without a scale, to the bit. d(3 w^2)/dw = 6 w."""
    for enabled in (True, False):
        scaler, weight = LossScaler(CPU, enabled), nn.Parameter(torch.tensor(0.3))
        torch.autograd.backward(scaler.scaled(3 * weight**2))
        scaled = weight.grad
        assert scaled is not None and scaled.item() == pytest.approx(1.8 * (START if enabled else 1))
        scaler.unscale([weight, nn.Parameter(torch.ones(1))])
        expected = 3 * 2 * weight.detach()
        assert torch.equal(weight.grad, expected)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_spoils_every_gradient() -> None:
    """Also of parameters whose own derivative is finite: the norm alone then tells all ranks."""
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    torch.autograd.backward(LossScaler(CPU, enabled=False).scaled(weight.sum() + torch.tensor(float("inf"))))
    assert weight.grad is not None and weight.grad.isnan().all()


def test_a_scaler_without_fp16_keeps_nothing() -> None:
    scaler = LossScaler(CPU, enabled=False)
    scaler.load({"scale": 8.0, "good": 1.0})
    scaler.update(torch.tensor(True))
    assert scaler.state() == {} and scaler.scaled(torch.tensor(0.1)) == torch.tensor(0.1)

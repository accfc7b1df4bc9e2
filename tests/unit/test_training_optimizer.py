"""Each optimizer is what its name says, goes on from a checkpoint bit for bit, and is refused where it cannot work."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raysft.config.sections import TrainSection
from raysft.errors import UsageError
from raysft.model.groups import Group
from raysft.training import checkpoint
from raysft.training.checkpoint import Progress
from raysft.training.optimizer import after_load, build_optimizer

Parts = tuple[nn.Module, torch.optim.Optimizer]


def parts(optimizer: Any, seed: int = 0) -> Parts:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    groups = [
        Group(0.01, 0.1, [p for p in model.parameters() if p.ndim > 1]),
        Group(0.02, 0.0, [p for p in model.parameters() if p.ndim == 1]),
    ]
    return model, build_optimizer(groups, TrainSection(optimizer=optimizer))


def steps(both: Parts, start: int, count: int) -> None:
    model, optimizer = both
    for step in range(start, start + count):
        inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    first, second = parts(optimizer, 0), parts(optimizer, 1)
    steps(first, 0, 5)
    path = checkpoint.save(tmp_path, *first, Progress(step=5))
    checkpoint.load(path, *second)
    after_load(second[1])
    for both in (first, second):
        steps(both, 5, 5)
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))


def test_adafactor_takes_one_step_as_the_paper_says() -> None:
    """Shazeer, Stern 2018, algorithm 4, in float64: factored second moment, clipping at 1, relative step; and decay."""
    model, optimizer = parts("adafactor")
    weight = model[0].weight  # type: ignore[index]
    before = weight.detach().double()
    gradient = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    weight.grad = gradient.clone()
    optimizer.step()
    squares = gradient.double() ** 2 + torch.finfo(torch.float32).eps ** 2  # beta2 is 0 in the first step
    second = squares.mean(1, keepdim=True) @ squares.mean(0, keepdim=True) / squares.mean()
    update = gradient.double() / second.sqrt()
    update /= max(1.0, update.square().mean().sqrt().item())
    size = max(1e-3, before.square().mean().sqrt().item())
    expected = before * (1 - 0.01 * 0.1) - min(0.01, 1.0) * size * update
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-5, atol=1e-7)


def test_adafactor_keeps_a_row_and_a_column_of_a_matrix() -> None:
    model, optimizer = parts("adafactor")
    steps((model, optimizer), 0, 1)
    state = optimizer.state[model[0].weight]  # type: ignore[index]
    kept = {name: tuple(value.shape) for name, value in state.items() if value.ndim}
    assert kept == {"row_var": (8, 1), "col_var": (1, 6)}


def test_eight_bits_are_refused_on_a_cpu_with_the_key_and_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"train\.optimizer: adamw_8bit needs a GPU") as caught:
        parts("adamw_8bit")
    assert "train.optimizer=adamw" in caught.value.next_step


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes, the extra `bits`, is not installed"
)
def test_eight_bit_state_comes_back_from_a_checkpoint_as_it_was(tmp_path: Path) -> None:
    from bitsandbytes.optim import AdamW8bit

    def make(seed: int) -> Parts:
        torch.manual_seed(seed)
        model = nn.Linear(128, 64)
        return model, AdamW8bit(model.parameters(), lr=0.01)

    def run(both: Parts, start: int) -> None:
        for step in range(start, start + 3):
            both[0](torch.randn(4, 128, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            both[1].step()
            both[1].zero_grad()

    first, second = make(0), make(1)
    run(first, 0)
    checkpoint.load(checkpoint.save(tmp_path, *first, Progress(step=3)), *second)
    after_load(second[1])
    assert all(state["step"] == 3 and isinstance(state["step"], int) for state in second[1].state.values())
    assert second[1].state[next(second[0].parameters())]["state1"].dtype == torch.uint8
    for both in (first, second):
        run(both, 3)
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))

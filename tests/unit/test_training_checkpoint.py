"""A checkpoint holds all that a run needs to go on bit for bit; a torn one is set aside for the one before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from raysft.storage.commit import TornFolder
from raysft.training import checkpoint
from raysft.training.checkpoint import Progress

Parts = tuple[nn.Module, torch.optim.Optimizer]


def parts(seed: int) -> Parts:
    """A model with a buffer and a frozen tensor, and AdamW in two groups."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3), nn.Linear(3, 2))
    model[3].weight.requires_grad_(False)
    matrices = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "lr": 0.02}]
    return model, torch.optim.AdamW(groups, lr=0.01, fused=True)


def steps(both: Parts, start: int, count: int) -> None:
    model, optimizer = both
    for step in range(start, start + count):
        inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def save(folder: Path, both: Parts, step: int, best: int = 0) -> Path:
    return checkpoint.save(folder, *both, Progress(step=step, best_step=best, best=[0.5, -0.1], seconds=1.5))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    first, second = parts(0), parts(1)
    steps(first, 0, 5)
    path = save(tmp_path, first, 5, best=3)
    progress = checkpoint.load(path, *second)
    assert progress == Progress(step=5, best_step=3, best=[0.5, -0.1], seconds=1.5)
    for both in (first, second):
        steps(both, 5, 5)
    theirs = second[0].state_dict()
    for name, tensor in first[0].state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    states = zip(first[1].state_dict()["state"].values(), second[1].state_dict()["state"].values(), strict=True)
    for mine, others in states:
        assert mine.keys() == others.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(mine[key], others[key]) for key in mine)


def test_a_checkpoint_of_a_version_that_kept_fewer_facts_loads(tmp_path: Path) -> None:
    both = parts(0)
    path = save(tmp_path, both, 5)
    state = json.loads((path / "state.json").read_text())
    assert state.pop("best_scores") == {}
    (path / "state.json").write_text(json.dumps(state))
    assert checkpoint.load(path, *both).best_scores == {}


def test_weights_are_read_into_the_memory_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not copied onto themselves once more."""
    first, (model, _) = parts(0), parts(1)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    monkeypatch.setattr(model, "load_state_dict", None)
    checkpoint.load_weights(save(tmp_path, first, 2), model)
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([nn.Linear(6, 8)], r"step-000002 is of another model: 1\.\w+ \(.*\) has no place"),
        ([nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4), nn.Linear(4, 2)], r"2\.\w+ \(3.*\) has no place"),
        ([*parts(0)[0].children(), nn.Linear(2, 2)], r"it has no 4\.bias"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, other: list[nn.Module], said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        checkpoint.load_weights(save(tmp_path, parts(0), 2), nn.Sequential(*other))


def test_a_checkpoint_before_the_first_step_loads(tmp_path: Path) -> None:
    both = parts(0)
    assert checkpoint.load(save(tmp_path, both, 0), *parts(1)).step == 0


def test_loading_weights_alone_leaves_the_optimizer(tmp_path: Path) -> None:
    first, second = parts(0), parts(1)
    steps(first, 0, 2)
    checkpoint.load_weights(save(tmp_path, first, 2), second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))
    assert not second[1].state


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    both = parts(0)
    for step, best in ((10, 10), (20, 20), (30, 20), (40, 20), (50, 20)):
        save(tmp_path, both, step, best)
    assert names(tmp_path) == ["step-000020", "step-000040", "step-000050"]
    save(tmp_path, both, 60, best=60)
    assert names(tmp_path) == ["step-000050", "step-000060"]


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    both = parts(0)
    for step in (999_999, 1_000_000):
        save(tmp_path, both, step)
    assert checkpoint.newest(tmp_path) == tmp_path / "step-1000000"


@pytest.mark.parametrize("torn", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "missing"])
def test_a_torn_newest_is_set_aside_and_the_older_is_used(tmp_path: Path, torn: str, how: str) -> None:
    both = parts(0)
    older, newest = save(tmp_path, both, 10), save(tmp_path, both, 20)
    file = newest / torn
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    else:
        file.unlink()
    assert checkpoint.newest(tmp_path) == older
    assert names(tmp_path) == ["step-000010", "step-000020.torn"]
    # The run saves that step again, and a later tear replaces what was set aside.
    again = save(tmp_path, both, 20)
    assert checkpoint.newest(tmp_path) == again
    (again / torn).unlink()
    assert checkpoint.newest(tmp_path) == older
    assert names(tmp_path) == ["step-000010", "step-000020.torn"]


def test_with_nothing_whole_there_is_nothing(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "none") is None
    (save(tmp_path, parts(0), 10) / "state.json").unlink()
    assert checkpoint.newest(tmp_path) is None


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    save(tmp_path, parts(0), 10)
    (tmp_path / "step-000020.tmp-0a1b2c3d").mkdir()
    assert checkpoint.newest(tmp_path) == tmp_path / "step-000010"
    assert names(tmp_path) == ["step-000010"]


def test_the_checkpoint_of_a_step_must_be_whole(tmp_path: Path) -> None:
    path = save(tmp_path, parts(0), 10)
    assert checkpoint.at_step(tmp_path, 10) == path
    with pytest.raises(TornFolder):
        checkpoint.at_step(tmp_path, 20)
    (path / "model.safetensors").unlink()
    with pytest.raises(TornFolder):
        checkpoint.at_step(tmp_path, 10)


def test_the_precision_of_a_run_is_that_of_its_newest_readable_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.precision_of(tmp_path) == ""
    for step, name in ((1, ""), (2, "bf16"), (3, "bf16")):
        checkpoint.save(tmp_path, *parts(0), Progress(step=step, best_step=1, precision=name))
    assert checkpoint.precision_of(tmp_path) == "bf16"
    (tmp_path / "step-000003" / "state.json").write_text('{"step"')
    assert checkpoint.precision_of(tmp_path) == "bf16"
    (tmp_path / "step-000002" / "state.json").write_text('{"step": 2}')  # of a version that did not say
    assert checkpoint.precision_of(tmp_path) == ""

"""However the ranks share a model, one trajectory: losses and gradient norms of every step, with dropout on.

All scenarios of two ranks run in one world, because starting its processes costs more than training does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from raysft.config.sections import TrainSection
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import checkpoint, ranks
from raysft.training.parallel import is_sharded
from tests.invariant.test_loop import LABELS, SETTINGS, make_loop
from tests.support.jobs import write_base
from tests.support.ranks import run_on_ranks
from tests.support.runs import run_until, trajectory

SAVING = SETTINGS.model_copy(update={"save_every": 3})
CHECKPOINTING = SETTINGS.model_copy(update={"activation_checkpointing": True})
AVERAGED = SETTINGS.model_copy(update={"average": 0.9})
UNFROZEN = SETTINGS.model_copy(update={"unfreeze_every": 1, "epochs": 3})
STOP = 5  # of 14 steps; the checkpoint before it is that of step 3


@dataclass(frozen=True)
class Run:
    """One scenario: a folder of that name, and how the loop is set."""

    name: str
    strategy: str = "ddp"
    settings: TrainSection = SETTINGS
    micro: int = 8
    stop: int | None = None


def train(base: Base, folder: Path, run: Run) -> str:
    """Run a loop, or go on with it; the digest of the weights at its end, "" where it was stopped."""
    torch.set_num_threads(1)
    loop = make_loop(base, folder / run.name, run.settings, run.micro, strategy=run.strategy)
    assert is_sharded(loop.model) is (run.strategy == "fsdp")
    if run.stop is not None:
        run_until(loop, run.stop)
        return ""
    loop.run()
    return ranks.weights_digest(loop.model)


def train_all(base: Base, folder: Path, runs: list[Run]) -> dict[str, str]:
    """By name; a scenario that stands twice is stopped and goes on."""
    return {run.name: train(base, folder, run) for run in runs}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


ONE = [Run("whole", micro=16), Run("accumulated"), Run("checkpointed", settings=CHECKPOINTING, micro=16)]
OTHERS = {"averaged": AVERAGED, "unfrozen": UNFROZEN}  # what has a trajectory of its own
TWO = [
    *(Run(f"fsdp {name}", "fsdp", settings) for name, settings in OTHERS.items()),
    Run("ddp"),
    Run("ddp checkpointed", settings=CHECKPOINTING),
    Run("fsdp", "fsdp"),
    Run("fsdp accumulated", "fsdp", micro=3),
    Run("fsdp checkpointed", "fsdp", CHECKPOINTING),
    Run("fsdp resumed", "fsdp", SAVING, stop=STOP),
    Run("fsdp resumed", "fsdp", SAVING),
    Run("ddp then fsdp", "ddp", SAVING, stop=STOP),
    Run("ddp then fsdp", "fsdp", SAVING),
    Run("fsdp then ddp", "fsdp", SAVING, stop=STOP),
    Run("fsdp then ddp", "ddp", SAVING),
    Run("fsdp of 2, then 1", "fsdp", SAVING, stop=STOP),
    Run("ddp of 2, then 1", "ddp", SAVING, stop=STOP),
]
THEN_ONE = [Run("fsdp of 2, then 1", settings=SAVING), Run("ddp of 2, then 1", settings=SAVING)]
THEN_TWO = [Run("1, then fsdp of 2", "fsdp", SAVING), Run("1, then ddp of 2", "ddp", SAVING)]


@dataclass(frozen=True)
class Done:
    folder: Path
    digests: list[dict[str, str]]  # of the two ranks


@pytest.fixture(scope="module")
def done(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("runs")
    begun = [Run(each.name, settings=SAVING, stop=STOP) for each in THEN_TWO]
    others = [Run(name, settings=settings) for name, settings in OTHERS.items()]
    one = train_all(base, folder, [*ONE, *others, *begun])
    two = run_on_ranks(2, train_all, base, folder, [*TWO, *THEN_TWO], folder=folder / "ranks")
    then = train_all(base, folder, THEN_ONE)
    return Done(folder, [{**one, **digests, **then} for digests in two])


ALIKE = dict.fromkeys(run.name for run in [*ONE[1:], *TWO[len(OTHERS) :], *THEN_TWO])


@pytest.mark.parametrize("name", ALIKE)
def test_one_trajectory(done: Done, name: str) -> None:
    """Float32 sums in another order differ by some 1e-7; over these 14 steps of AdamW by at most 2.4e-7 (measured)."""
    found, whole = trajectory(done.folder / name), trajectory(done.folder / "whole")
    assert len(whole) == 14
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_what_changes_weights_meanwhile_is_the_same_where_they_are_shared(done: Done, name: str) -> None:
    """Averages that stand in for the weights during an evaluation, and layers that begin to train."""
    found, whole = done.folder / f"fsdp {name}", done.folder / name
    np.testing.assert_allclose(trajectory(found), trajectory(whole), rtol=0, atol=1e-5)
    np.testing.assert_allclose(evaluations(found), evaluations(whole), rtol=1e-5)
    assert evaluations(whole) != evaluations(done.folder / "whole")


def evaluations(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["validation_loss"] for line in lines if "validation_loss" in line]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("fsdp", "fsdp resumed"),  # at the same world size a resumed run is the same run
        ("whole", "checkpointed"),  # what is computed again is computed alike, with the same masks
        ("fsdp", "fsdp checkpointed"),
        ("ddp", "ddp checkpointed"),
    ],
)
def test_bit_identical(done: Done, one: str, other: str) -> None:
    assert trajectory(done.folder / one) == trajectory(done.folder / other)
    assert all(digests[one] == digests[other] for digests in done.digests)


def test_ranks_with_weights_of_their_own_end_with_the_same(done: Done) -> None:
    """Under fsdp there is nothing to compare: every weight exists once."""
    how = {run.name: run.strategy for run in [*TWO, *THEN_TWO]}
    names = [name for name in how if how[name] == "ddp" and name not in {run.name for run in THEN_ONE}]
    first, second = ({name: digests[name] for name in names} for digests in done.digests)
    assert len(first) == 4 and first == second and all(first.values())


def test_a_shard_that_was_torn_costs_its_checkpoint_only(done: Done, base: Base) -> None:
    folder = done.folder / "fsdp" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-000007", "step-000014"]
    names = {path.name for path in (folder / "step-000014").iterdir()}
    assert names == {".metadata", "__0_0.distcp", "__1_0.distcp", "state.json", "manifest.json"}
    shard = folder / "step-000014" / "__1_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert checkpoint.newest(folder) == folder / "step-000007"


def test_one_rank_reads_all_shards_alone(done: Done, base: Base) -> None:
    """So the artifact needs no second copy on a device, and no exchange."""
    from raysft.config.sections import ModelSection
    from raysft.model.classifier import build_classifier

    model = build_classifier(base, ModelSection(), LABELS, seed=99)
    checkpoint.load_weights(checkpoint.at_step(done.folder / "fsdp resumed" / "checkpoints", 14), model)
    assert ranks.weights_digest(model) == done.digests[0]["fsdp resumed"]

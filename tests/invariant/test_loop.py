"""Settings that must not change what is computed follow one trajectory. The loop runs here without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.encode import encode_texts
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.classifier import build_classifier
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import checkpoint, ranks
from raysft.training.classification import Classification
from raysft.training.dropout import RowDropout
from raysft.training.loop import Loop
from raysft.training.precision import Precision
from tests.support.jobs import TOPICS, corpus_rows, write_base
from tests.support.runs import run_until, trajectory

LABELS = tuple(sorted(TOPICS))
CPU = torch.device("cpu")
SETTINGS = TrainSection(epochs=2, batch_size=16, learning_rate=5e-3, head_learning_rate=1e-2, seed=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def rows_of(base: Base, count: int, seed: int) -> TokenizedRows:
    rows = corpus_rows(count, seed)
    ids, _ = encode_texts([row["text"] for row in rows], base.folder / "tokenizer.json", 32)
    return from_lists(ids, [LABELS.index(row["label"]) for row in rows])


def make_loop(
    base: Base, folder: Path, settings: TrainSection = SETTINGS, micro: int = 16, strategy: str = "ddp"
) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    model = build_classifier(base, ModelSection(), LABELS, settings.seed)
    train = rows_of(base, 104, 0)
    return Loop(
        model=model,
        objective=Classification(train, rows_of(base, 40, 1), settings, 0, CPU),
        settings=settings,
        micro_batch=micro,
        train=train,
        precision=Precision.plain(CPU),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        strategy=strategy,
    )


@pytest.mark.parametrize("micro", [1, 5, 8])
def test_micro_batches_do_not_change_the_trajectory(base: Base, tmp_path: Path, micro: int) -> None:
    """Loss and gradient norm with dropout on; float32 sums in another order differ by some 1e-7 a step."""
    make_loop(base, tmp_path / "whole").run()
    make_loop(base, tmp_path / "split", micro=micro).run()
    np.testing.assert_allclose(trajectory(tmp_path / "split"), trajectory(tmp_path / "whole"), rtol=1e-4, atol=1e-5)


def test_dropout_is_on_and_belongs_to_epoch_and_row(base: Base, tmp_path: Path) -> None:
    """Were dropout off, the test above would prove nothing about it."""
    loop = make_loop(base, tmp_path)
    loop.model.train()
    positions = np.arange(4)

    def forward(epoch: int, order: np.ndarray[Any, Any]) -> torch.Tensor:
        loop._random.start(3, epoch, order, loop.sampler.layout(order))
        return loop.model(**loop.objective.batch(order, epoch).inputs).logits  # type: ignore[no-any-return]

    assert torch.equal(forward(0, positions), forward(0, positions))
    assert not torch.allclose(forward(0, positions), forward(1, positions))
    torch.testing.assert_close(forward(0, positions[::-1].copy()).flip(0), forward(0, positions))


@pytest.mark.parametrize("stop", [1, 6, 7, 9, 13])
def test_resumed_is_bit_identical_to_uninterrupted(base: Base, tmp_path: Path, stop: int) -> None:
    """Stopped after any step, within an epoch and at its end; 7 steps an epoch, a checkpoint every 3 steps."""
    settings = SETTINGS.model_copy(update={"save_every": 3})
    whole = make_loop(base, tmp_path / "whole", settings)
    whole.run()
    run_until(make_loop(base, tmp_path / "cut", settings), stop)
    second = make_loop(base, tmp_path / "cut", settings)
    second.run()
    assert ranks.weights_digest(second.model) == ranks.weights_digest(whole.model)
    assert second.progress.best == whole.progress.best and second.progress.best_step == whole.progress.best_step
    assert trajectory(tmp_path / "cut") == trajectory(tmp_path / "whole")


def test_first_step_agrees_with_plain_torch_in_float64(base: Base, tmp_path: Path) -> None:
    """Loss and gradient norm of step 1 against a model in double precision, without dropout."""
    settings = SETTINGS.model_copy(update={"clip_norm": None, "label_smoothing": 0.1})
    loop = make_loop(base, tmp_path, settings, micro=4)
    for module in loop.model.modules():
        if isinstance(module, RowDropout):
            module.p = 0.0
    reference = build_classifier(base, ModelSection(), LABELS, settings.seed).double().eval()
    loop.run()
    step = np.concatenate(loop.sampler.steps(0)[0])
    losses = []
    for position in step:
        ids = torch.tensor(loop.train.tokens(position).astype(np.int64))[None]
        target = torch.tensor([int(loop.train.label[position])])
        logits = reference(input_ids=ids).logits
        losses.append(torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.1))
    loss = torch.stack(losses).mean()
    torch.autograd.backward(loss)
    squares = [(p.grad**2).sum() for p in reference.parameters() if p.grad is not None]
    norm = torch.stack(squares).sum().sqrt()
    found_loss, found_norm = trajectory(tmp_path)[0]
    assert found_loss == pytest.approx(loss.item(), rel=1e-5)
    assert found_norm == pytest.approx(norm.item(), rel=1e-4)


def test_a_loss_that_is_not_finite_stops_with_the_step(base: Base, tmp_path: Path) -> None:
    from raysft.errors import TrainingFailed

    loop = make_loop(base, tmp_path)
    with torch.no_grad():
        dict(loop.model.named_parameters())["classifier.bias"][0] = float("nan")
    with pytest.raises(TrainingFailed, match="step 1"):
        loop.run()


def test_a_torn_newest_checkpoint_costs_only_itself(base: Base, tmp_path: Path) -> None:
    whole = make_loop(base, tmp_path / "whole")
    whole.run()
    loop = make_loop(base, tmp_path / "torn")
    loop.run()
    newest = checkpoint.newest(loop.kept)
    assert newest is not None and newest.name == "step-000014"
    with (newest / "optimizer.safetensors").open("r+b") as file:
        file.truncate(1000)
    again = make_loop(base, tmp_path / "torn")
    again.run()
    assert again.resumed_from == 7
    assert ranks.weights_digest(again.model) == ranks.weights_digest(whole.model)

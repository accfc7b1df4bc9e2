"""A head that starts at the means of its labels: the formula, what it knows before training, what stays the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raysft.config import JobConfig
from raysft.config.sections import ModelSection, TrainSection
from raysft.errors import UsageError
from raysft.model.classifier import build_classifier, head_of
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.classification import Classification
from raysft.training.forward import predict_logits
from raysft.training.loop import Loop
from raysft.training.means import NEAREST, SCALE, _some_of_each, _towards_means, start_at_means
from raysft.training.precision import Precision
from tests.invariant.test_frozen import LABELS, PLAIN, rows_of, write_kind
from tests.support.loops import assert_near, weights
from tests.support.runs import run_until, trajectory

CPU = torch.device("cpu")
MEANS = ModelSection(head_start="means", dropout=0.0)
TRAIN = TrainSection(epochs=2, batch_size=16, learning_rate=5e-3, head_learning_rate=1e-3, seed=3, save_every=2)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    kinds = ("bert", "roberta", "distilbert", "llama")
    return {kind: resolve_base(str(write_kind(tmp_path_factory.mktemp(kind), kind))) for kind in kinds}


def make_loop(base: Base, folder: Path, model: ModelSection = MEANS, micro: int = 16) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(base)
    training, validation = rows.select(np.arange(90)), rows.select(np.arange(90, 120))
    return Loop(
        model=build_classifier(base, model, LABELS, TRAIN.seed),
        objective=Classification(training, validation, TRAIN, 0, CPU, LABELS),
        settings=TRAIN,
        micro_batch=micro,
        train=training,
        precision=PLAIN,
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        model_settings=model,
    )


def test_each_label_points_from_the_centre_to_its_mean() -> None:
    """Worked by hand: centre (1, 1); means (3, 1) and (0, 1); the third label has no text."""
    seen = torch.tensor([[3.0, 1.0], [0.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    weight, bias = _towards_means(seen, labels)
    scale = SCALE / ((2 + 2**0.5 + 2**0.5) / 3)
    torch.testing.assert_close(weight, scale * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(bias, scale * torch.tensor([-1.0, 1.0, 0.0]))


def test_texts_that_hardly_differ_are_told_apart_and_not_with_logits_of_hundreds() -> None:
    """Such as the untrained body of random weights gives them."""
    labels = torch.eye(2)[torch.arange(40) % 2]
    seen = torch.tensor([10.0, 10.0]) + 1e-3 * (labels - 0.5)
    weight, bias = _towards_means(seen, labels)
    logits = seen @ weight.T + bias
    assert torch.equal(logits.argmax(dim=1), labels.argmax(dim=1))
    assert weight.norm(dim=1) == pytest.approx(SCALE / (NEAREST * 10 * 2**0.5), rel=1e-3)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_the_head_knows_its_labels_before_training(bases: dict[str, Base], tmp_path: Path, kind: str) -> None:
    """Even over a body of random weights."""
    loop = make_loop(bases[kind], tmp_path)

    def correct() -> float:
        logits = predict_logits(loop.model, loop.train, 0, PLAIN)
        return float((logits.argmax(axis=1) == loop.train.label).mean())

    by_chance = correct()
    start_at_means(loop.model, loop.objective, loop.train, PLAIN)
    assert correct() > by_chance + 0.1


def test_nothing_but_the_last_matrix_is_touched(bases: dict[str, Base], tmp_path: Path) -> None:
    loop = make_loop(bases["roberta"], tmp_path)
    loop.model.train()
    before = {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
    start_at_means(loop.model, loop.objective, loop.train, PLAIN)
    changed = {name for name, tensor in loop.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    assert loop.model.training and not any(parameter.grad is not None for parameter in loop.model.parameters())
    assert head_of(loop.model)[-1].weight.requires_grad


def test_a_run_that_goes_on_keeps_what_the_head_has_learnt(bases: dict[str, Base], tmp_path: Path) -> None:
    whole = make_loop(bases["bert"], tmp_path / "whole")
    whole.run()
    run_until(make_loop(bases["bert"], tmp_path / "twice"), 5)
    again = make_loop(bases["bert"], tmp_path / "twice")
    again.run()
    assert again.resumed_from == 4
    np.testing.assert_allclose(trajectory(tmp_path / "twice"), trajectory(tmp_path / "whole"), rtol=1e-5)
    assert_near(weights(again.model), weights(whole.model))


def test_micro_batches_change_nothing(bases: dict[str, Base], tmp_path: Path) -> None:
    one, several = (make_loop(bases["bert"], tmp_path / str(micro), micro=micro) for micro in (16, 3))
    one.run()
    several.run()
    assert_near(weights(several.model), weights(one.model))


def test_a_head_that_is_given_every_token_is_refused(bases: dict[str, Base], tmp_path: Path) -> None:
    loop = make_loop(bases["llama"], tmp_path)
    with pytest.raises(UsageError, match=r"^model\.head_start: means needs a head that is given one vector a text"):
        start_at_means(loop.model, loop.objective, loop.train, PLAIN)


def test_so_many_rows_of_each_label_are_looked_at() -> None:
    labels = np.array([0] * 250 + [2] + [1] * 130, dtype=np.int32)
    found = _some_of_each(labels)
    assert list(found) == [*range(100), 250, *range(251, 351)]


def test_half_precision_gives_about_the_same_head(bases: dict[str, Base], tmp_path: Path) -> None:
    heads = []
    for name in ("fp32", "bf16"):
        loop = make_loop(bases["bert"], tmp_path / name)
        precision = replace(PLAIN, name=name)
        assert isinstance(precision, Precision)
        start_at_means(loop.model, loop.objective, loop.train, precision)
        heads.append(head_of(loop.model)[-1].weight.detach())
    torch.testing.assert_close(heads[0], heads[1], rtol=0.1, atol=0.3)


def test_its_rate_is_small_unless_set() -> None:
    small = {"name": "x", "data": {"train": "x.csv"}, "model": {"head_start": "means"}}
    assert JobConfig.model_validate(small).train.head_learning_rate == 1e-3
    assert JobConfig.model_validate({**small, "train": {"head_learning_rate": 0.5}}).train.head_learning_rate == 0.5
    assert JobConfig.model_validate({**small, "model": {}}).train.head_learning_rate == 1e-2

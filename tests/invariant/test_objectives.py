"""What the losses mean, through the loop: step 1 against plain torch in double precision, and weights as repeated rows.

Here a batch is the whole training part, so that a step holds the same rows whatever their order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from raysft.config import load_job
from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.encode import encode_texts
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.errors import DataError, JobFileError
from raysft.model.classifier import build_classifier
from raysft.plan.refusals import refuse_early
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.classification import Classification
from raysft.training.loop import Loop
from raysft.training.multilabel import MultiLabel, has_labels
from raysft.training.precision import Precision
from tests.support.jobs import corpus_rows, write_base, write_job
from tests.support.label_sets import LABELS, label_set_rows, tokenized

CPU = torch.device("cpu")
ROWS, MICRO = 30, 7
WEIGHTS = {LABELS[0]: 3.0, LABELS[1]: 0.5}
SETTINGS = TrainSection(
    epochs=6, batch_size=4096, learning_rate=5e-3, head_learning_rate=1e-2, seed=3, clip_norm=None, schedule="constant"
)
NO_DROPOUT = ModelSection(dropout=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def rows_of(base: Base, rows: list[dict[str, str]]) -> TokenizedRows:
    ids, _ = encode_texts([row["text"] for row in rows], base.folder / "tokenizer.json", 32)
    return from_lists(ids, [LABELS.index(row["label"]) for row in rows])


def trained(base: Base, folder: Path, train: TokenizedRows, kind: Any, **settings: Any) -> list[tuple[float, float]]:
    """(loss, gradient norm) of every step: one an epoch."""
    folder.mkdir()
    chosen = SETTINGS.model_copy(update=settings)
    Loop(
        model=build_classifier(base, NO_DROPOUT, LABELS, chosen.seed),
        objective=kind(train, train.select(np.arange(0)), chosen, 0, CPU, LABELS),
        settings=chosen,
        micro_batch=MICRO,
        train=train,
        precision=Precision.plain(CPU),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
    ).run()
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


def reference(base: Base, train: TokenizedRows, loss_of: Callable[[torch.Tensor], torch.Tensor]) -> tuple[float, float]:
    """Loss and gradient norm of all rows, each alone and without padding, in float64. loss_of: logits (rows, C)."""
    model = build_classifier(base, NO_DROPOUT, LABELS, SETTINGS.seed).double().eval()
    ids = [torch.from_numpy(train.tokens(row).astype(np.int64))[None] for row in range(len(train))]
    loss = loss_of(torch.cat([model(input_ids=each).logits for each in ids]))
    torch.autograd.backward(loss)
    norm = torch.stack([(p.grad**2).sum() for p in model.parameters() if p.grad is not None]).sum().sqrt()
    return loss.item(), norm.item()


def weights_of() -> torch.Tensor:
    return torch.tensor([WEIGHTS.get(label, 1.0) for label in LABELS], dtype=torch.float64)


def smoothed(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """The row's loss with smoothing 0.1, times the weight of its label."""
    row = functional.cross_entropy(logits, true, reduction="none", label_smoothing=0.1)
    return (row * weights_of()[true]).sum() / weights_of()[true].sum()


def focal(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Equation 4 of Lin et al., each class of the smoothed target by itself, gamma 1.5."""
    target = functional.one_hot(true, len(LABELS)).double() * 0.9 + 0.1 / len(LABELS)
    p = logits.softmax(dim=1)
    row = -(target * (1 - p) ** 1.5 * p.log()).sum(dim=1)
    return (row * weights_of()[true]).sum() / weights_of()[true].sum()


FOCAL = {"loss": "focal", "focal_gamma": 1.5}
ONE_LABEL: dict[str, tuple[dict[str, Any], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "weights": ({"class_weights": WEIGHTS}, lambda z, y: functional.cross_entropy(z, y, weight=weights_of())),
    "weights and smoothing": ({"class_weights": WEIGHTS, "label_smoothing": 0.1}, smoothed),
    "focal": ({**FOCAL, "class_weights": WEIGHTS, "label_smoothing": 0.1}, focal),
}


def decisions(logits: torch.Tensor, has: torch.Tensor) -> torch.Tensor:
    """The weighted mean over decisions: those of rows with the label by its weight, the others by 1."""
    weight = torch.where(has == 1, weights_of(), 1.0)
    each = functional.binary_cross_entropy_with_logits(logits, has * 0.9 + 0.05, reduction="none")
    return (each * weight).sum() / weight.sum()


def sigmoid_focal(logits: torch.Tensor, has: torch.Tensor) -> torch.Tensor:
    p = logits.sigmoid()
    right = torch.where(has == 1, p, 1 - p)
    return (-((1 - right) ** 1.5) * right.log()).mean()


SEVERAL: dict[str, tuple[dict[str, Any], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "plain": ({}, lambda z, y: torch.nn.BCEWithLogitsLoss()(z, y)),
    "weights and smoothing": ({"class_weights": WEIGHTS, "label_smoothing": 0.1}, decisions),
    "focal": (FOCAL, sigmoid_focal),
}


@pytest.mark.parametrize("case", ONE_LABEL)
def test_the_first_step_agrees_with_plain_torch_in_float64(base: Base, tmp_path: Path, case: str) -> None:
    """Float32 has seven digits; sums over 30 rows in micro-batches of 7 keep five of the loss, four of the norm."""
    settings, loss_of = ONE_LABEL[case]
    train = rows_of(base, corpus_rows(ROWS))
    true = torch.from_numpy(train.label.astype(np.int64))
    loss, norm = reference(base, train, lambda logits: loss_of(logits, true))
    found = trained(base, tmp_path / "run", train, Classification, epochs=1, **settings)[0]
    assert found[0] == pytest.approx(loss, rel=1e-5) and found[1] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("case", SEVERAL)
def test_the_first_step_with_several_labels_agrees_with_plain_torch_in_float64(
    base: Base, tmp_path: Path, case: str
) -> None:
    settings, loss_of = SEVERAL[case]
    train = tokenized(base, label_set_rows(ROWS))
    has = torch.from_numpy(has_labels(train, range(ROWS), len(LABELS)).astype(np.float64))
    loss, norm = reference(base, train, lambda logits: loss_of(logits, has))
    found = trained(base, tmp_path / "run", train, MultiLabel, epochs=1, **settings)[0]
    assert found[0] == pytest.approx(loss, rel=1e-5) and found[1] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, FOCAL], ids=["plain", "smoothing", "focal"])
def test_weight_two_is_every_row_of_the_label_twice(base: Base, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Six updates without dropout (a repeated row would draw masks of its own). Only the order of float32 sums differs.

    Without the weight the trajectory is another one, or the test would prove nothing.
    """
    rows = corpus_rows(ROWS)
    again = [row for row in rows if row["label"] == LABELS[0]]
    assert 3 < len(again) < ROWS
    weighted = {**settings, "class_weights": {LABELS[0]: 2.0}}
    once = trained(base, tmp_path / "once", rows_of(base, rows), Classification, **settings)
    twice = trained(base, tmp_path / "twice", rows_of(base, rows + again), Classification, **settings)
    found = trained(base, tmp_path / "weighted", rows_of(base, rows), Classification, **weighted)
    np.testing.assert_allclose(found, twice, rtol=1e-4, atol=1e-5)
    assert len(found) == 6 and np.abs(np.array(found) - np.array(once)).max() > 0.01


def test_only_the_proportions_of_weights_count(base: Base, tmp_path: Path) -> None:
    train = rows_of(base, corpus_rows(ROWS))
    small, large = ({label: size * (1 + i) for i, label in enumerate(LABELS)} for size in (0.01, 100.0))
    first = trained(base, tmp_path / "small", train, Classification, class_weights=small)
    second = trained(base, tmp_path / "large", train, Classification, class_weights=large)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_rows_that_weigh_nothing_are_as_if_they_were_not_there(base: Base, tmp_path: Path) -> None:
    rows = corpus_rows(ROWS)
    left = [row for row in rows if row["label"] != LABELS[0]]
    without = trained(base, tmp_path / "without", rows_of(base, left), Classification)
    found = trained(base, tmp_path / "zero", rows_of(base, rows), Classification, class_weights={LABELS[0]: 0.0})
    np.testing.assert_allclose(found, without, rtol=1e-4, atol=1e-5)


def test_a_step_that_weighs_nothing_has_no_gradient(base: Base, tmp_path: Path) -> None:
    """Batches of one row: some hold nothing but a row of weight 0."""
    train = rows_of(base, corpus_rows(8))
    weights = {LABELS[int(train.label[0])]: 0.0}
    found = trained(base, tmp_path / "run", train, Classification, epochs=1, batch_size=1, class_weights=weights)
    nothing = int((train.label == train.label[0]).sum())
    assert sum(step == (0.0, 0.0) for step in found) == nothing < len(found) == 8


def test_nothing_to_learn_and_unknown_labels_are_refused_before_the_first_step(base: Base, tmp_path: Path) -> None:
    train = rows_of(base, [row for row in corpus_rows(ROWS) if row["label"] == LABELS[0]])
    with pytest.raises(DataError, match="nothing to learn"):
        trained(base, tmp_path / "nothing", train, Classification, class_weights={LABELS[0]: 0.0})
    with pytest.raises(JobFileError, match=f"did you mean '{LABELS[1]}'"):
        trained(base, tmp_path / "unknown", train, Classification, class_weights={LABELS[1] + "s": 2.0})
    assert not (tmp_path / "nothing" / "metrics.jsonl").exists()


def test_a_gamma_without_the_focal_loss_is_refused(base: Base, tmp_path: Path) -> None:
    wrong = load_job(write_job(tmp_path, base.folder, train={"focal_gamma": 3.0}))
    with pytest.raises(JobFileError, match=r"job\.yaml:\d+: train\.focal_gamma: belongs to train\.loss: focal"):
        refuse_early(wrong, base)
    refuse_early(load_job(wrong.path, ["train.loss=focal"]), base)
    refuse_early(load_job(wrong.path, ["train.focal_gamma=2.0"]), base)  # the default, as run folders say it

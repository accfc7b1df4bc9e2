"""What a sweep found stands in its result as the folds have it, and every candidate's rows in predictions.parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysft.metrics.judged import judge_one_label
from raysft.preparation.prepared import Prepared
from raysft.storage.commit import write_json
from raysft.storage.layout import DataFolder
from raysft.tuning.choose import choose
from raysft.tuning.director import Director
from raysft.tuning.outcome import SweepResult
from raysft.tuning.results import FoldScores
from raysft.tuning.summary import summarise
from raysft.tuning.work import FoldId, Work
from tests.support.sweeps import TWO, units_of, work_in, write_fold

ROWS, K, LABELS = 90, 3, ("a", "b", "c")
CHANCE = np.random.default_rng(5)
LABEL, FOLD = CHANCE.integers(0, 3, ROWS), np.arange(ROWS) % K
SKILL = {1: 1.0, 2: 3.0, 3: 2.9, 4: 0.1}  # of each configuration: how far the logit of the label is above the rest
NOISE = {number: CHANCE.standard_normal((ROWS, 3)) for number in SKILL}
SEARCH: dict[str, Any] = {"train.learning_rate": [1e-4, 2e-4, 3e-4, 4e-4], "train.epochs": [2]}


def prepared_in(folder: Path) -> Prepared:
    data = DataFolder(folder / "data")
    data.corpus(sealed=False).parent.mkdir(parents=True)
    columns = {
        "row_id": np.arange(ROWS),
        "source": ["rows.csv"] * ROWS,
        "line": np.arange(ROWS) + 2,
        "text": [f"text {number}" for number in range(ROWS)],
        "label": [LABELS[label] for label in LABEL],
        "label_id": LABEL,
        "unit": np.arange(ROWS),
    }
    pq.write_table(pa.table(columns), data.corpus(sealed=False))
    write_json(data.audit, {"rows": {"read": ROWS, "kept": ROWS}, "folds": {}, "labels": {}})
    return Prepared("digest", data, LABELS, 0, K, "random")


def leave(work: Work, number: int, fold: int) -> None:
    """Two epochs: the first knows nothing."""
    own = np.flatnonzero(fold == FOLD)
    logits = NOISE[number] + SKILL[number] * np.eye(3)[LABEL]
    epochs = [judge_one_label(own, LABEL[own], each[own]) for each in (NOISE[number], logits)]
    folder = work.fold_folder(number, FoldId(fold))
    influence = {name: np.stack([each.influence[name] for each in epochs]) for name in TWO}
    scores = FoldScores([each.scores for each in epochs], influence, 2.0, train_loss=[1.0, 0.5], parameters=100)
    write_fold(folder, scores)
    found = {f"found:{name}": np.stack([each.found[name] for each in epochs]) for name in epochs[0].found}
    moved = {f"influence:{name}": values for name, values in influence.items()}
    np.savez(folder.held_out, row_id=own, **found, **moved)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """The fourth configuration was stopped after its first fold."""
    folder = tmp_path_factory.mktemp("summary")
    work, prepared = work_in(folder, SEARCH, algorithm="grid"), prepared_in(folder)
    Director.of(work, range(K), TWO, 2, units_of(ROWS), 1).nothing_left()  # proposes
    for number in SKILL:
        for place in range(K if number < 4 else 1):
            leave(work, number, place)
    director = Director.of(work, range(K), TWO, 2, units_of(ROWS), 1)
    choice = choose(director.candidates(), one_standard_error=False)
    return summarise(work, director, choice, director.candidates(), prepared, {"total_s": 1.0})


def test_the_choice_and_how_far_it_is_ahead(found: SweepResult) -> None:
    assert (found.status, found.objectives, found.folds, found.epochs) == ("done", TWO, [0, 1, 2], 2)
    chosen = found.chosen
    assert {chosen["trial"], chosen["runner_up"]} == {2, 3} and chosen["best"] == chosen["trial"]
    assert chosen["trial"] in found.front and chosen["epoch"] == 2 and "is the highest" in chosen["why"]
    ahead = chosen["ahead"]
    assert ahead["low"] <= ahead["value"] <= ahead["high"] and 0 <= ahead["p"] <= 1
    assert found.rows == {"read": ROWS, "kept": ROWS} and found.diagnosis["kind"] == "underfitting"
    assert found.names == {"train.learning_rate": "learning_rate", "train.epochs": "epochs"}


def test_scores_out_of_fold_are_those_of_all_rows_of_the_ones_that_are_compared(found: SweepResult) -> None:
    """A bootstrap of every configuration would take longer than it tells."""
    scored = {row["trial"] for row in found.trials if "out_of_fold" in row}
    assert scored == {found.chosen[name] for name in ("trial", "best", "runner_up")}
    number = found.chosen["trial"]
    right = (NOISE[number] + SKILL[number] * np.eye(3)[LABEL]).argmax(axis=1) == LABEL
    accuracy = found.chosen["out_of_fold"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right.mean()) and accuracy["n"] == ROWS


def test_predictions_are_those_of_every_candidate_and_of_no_other(found: SweepResult) -> None:
    table = pq.read_table(found.predictions)
    assert table.column("trial").value_counts().to_pylist() == [
        {"values": number, "counts": ROWS} for number in (1, 2, 3)
    ]
    (stopped,) = [row for row in found.trials if row["trial"] == 4]
    assert (stopped["status"], stopped["folds_done"]) == ("stopped", 1) and "is behind" in stopped["why"]


def test_it_can_be_written_and_read_again(found: SweepResult, tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", found.to_json())  # refuses what is no number
    assert SweepResult.read(tmp_path / "result.json").to_json() == json.loads(json.dumps(found.to_json()))

"""A job with several labels a row, end to end but for Ray: prepared, trained, scored, reloaded, used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score

from raysft.config import Job
from raysft.corpus.targets import labels_of
from raysft.errors import DataError
from raysft.evaluation.evaluation import Evaluation, LabelSetBaseline
from raysft.evaluation.reload import ReloadCheck
from raysft.plan.refusals import refuse_early
from raysft.prediction.artifact import Artifact
from raysft.prediction.files import predict_files, write_predictions
from raysft.prediction.scoring import evaluate_files
from raysft.prediction.texts import Reading
from raysft.result import baselines_json, metrics_json
from raysft.run import score_run
from raysft.storage.layout import RunFolder, open_output
from raysft.storage.pretrained import resolve_base
from raysft.training.worker import Outcome, Task, run_worker
from tests.support.jobs import write_base, write_csv
from tests.support.label_sets import LABELS, SEPARATOR, label_set_rows
from tests.support.predicting import Heard
from tests.support.preparing import job_of, run

MEASURES = {"accuracy", "f1_micro", "f1_macro", "loss"}


@dataclass(frozen=True)
class Finished:
    """A trained job and what was measured of it."""

    job: Job
    run: RunFolder
    outcome: Outcome
    evaluation: Evaluation
    predictions: pa.Table

    @property
    def artifact(self) -> Artifact:
        return Artifact.open(self.run.model)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    base = write_base(tmp_path_factory.mktemp("base"))
    train = {"epochs": 12, "learning_rate": 5e-3, "head_learning_rate": 2e-2}
    folder = tmp_path_factory.mktemp("job")
    job = job_of(folder, base, label_set_rows(300), data={"multi_label": True}, train=train)
    prepared, place = run(job), open_output(job.config.output).run(job.config.name)
    place.path.mkdir(parents=True)
    found = resolve_base(job.config.model.base)
    refuse_early(job, found)
    outcome = run_worker(Task(job.config, job.folder, found, prepared, place, micro_batch=16, threads=1, gpu=False))
    assert isinstance(outcome, Outcome), outcome
    return Finished(job, place, outcome, *score_run(job, prepared, place))


def test_it_learns(finished: Finished) -> None:
    """Words say the topics; always the commonest set of labels gives a micro-F1 below a half. By seed: 0.78 to 0.91."""
    scores = finished.evaluation.test
    assert scores is not None and set(scores.metrics) == MEASURES
    majority = finished.evaluation.baselines["majority"]
    assert isinstance(majority, LabelSetBaseline)
    assert scores.metrics["f1_micro"].low > majority.f1_micro.high + 0.1
    assert scores.metrics["f1_micro"].value > 0.7 and scores.metrics["loss"].value < np.log(2)
    assert majority.gain.low > 0


def test_the_scores_are_those_of_the_predictions(finished: Finished) -> None:
    """predictions.parquet against scikit-learn, and probabilities against the threshold that was kept."""
    threshold = finished.artifact.scorer.threshold
    assert threshold == finished.evaluation.threshold
    for part, scores in (("test", finished.evaluation.test), ("validation", finished.evaluation.validation)):
        rows = [row for row in finished.predictions.to_pylist() if row["part"] == part]
        true, given = (
            [[name in labels_of(row[key]) for name in LABELS] for row in rows] for key in ("label", "predicted")
        )
        probabilities = np.array([row["probabilities"] for row in rows])
        assert np.array_equal(probabilities >= threshold, given)
        assert scores is not None and scores.metrics["accuracy"].n == len(rows)
        assert scores.metrics["accuracy"].value == pytest.approx(accuracy_score(true, given))
        for average in ("micro", "macro"):
            expected = f1_score(true, given, average=average, zero_division=0)
            assert scores.metrics[f"f1_{average}"].value == pytest.approx(expected)
        decided = np.where(true, probabilities, 1 - probabilities)
        assert scores.metrics["loss"].value == pytest.approx(-np.log(decided).mean(), rel=1e-6)
        assert rows[0]["log_probability_of_label"] == pytest.approx(np.log(decided[0]).sum())


def test_the_threshold_is_that_of_the_kept_checkpoint(finished: Finished) -> None:
    lines = map(json.loads, finished.run.metrics.read_text().splitlines())
    found = {line["step"]: line["validation_threshold"] for line in lines if "validation_threshold" in line}
    assert len(found) == 12
    kept = json.loads((finished.run.model / "raysft.json").read_bytes())
    assert kept["threshold"] == found[finished.outcome.best_step] == finished.artifact.scorer.threshold


def test_the_artifact_is_a_stock_one_that_reloads(finished: Finished) -> None:
    config = json.loads((finished.run.model / "config.json").read_bytes())
    assert config["problem_type"] == "multi_label_classification"
    assert config["architectures"] == ["BertForSequenceClassification"]
    with ReloadCheck(finished.run.model, finished.run.probe) as reload:
        assert reload.finish() < 1e-4


def test_predictions_are_lists_that_can_be_read_again_as_labels(finished: Finished, tmp_path: Path) -> None:
    texts = [{"text": row["text"]} for row in label_set_rows(40, seed=5)]
    source = str(write_csv(tmp_path / "new.csv", texts))
    listed = predict_files(Artifact.open(finished.run.model), [source], [], Reading(), Heard())
    threshold = finished.artifact.scorer.threshold
    assert threshold is not None
    for each in listed:
        assert labels_of(each.label) == tuple(name for name in LABELS if each.probabilities[name] >= threshold)
        sure = [p if name in labels_of(each.label) else 1 - p for name, p in each.probabilities.items()]
        assert each.confidence == pytest.approx(min(sure), abs=2e-6)
    write_predictions(tmp_path / "out.csv", Artifact.open(finished.run.model), [source], [], Reading(), Heard())
    again = evaluate_files(finished.run.model, [str(tmp_path / "out.csv")], finished.job, Heard())
    assert again.test is not None and again.test.metrics["accuracy"].value == 1


def test_other_labelled_files_are_scored_with_the_same_threshold(finished: Finished, tmp_path: Path) -> None:
    rows = label_set_rows(60, seed=6)
    found = evaluate_files(finished.run.model, [str(write_csv(tmp_path / "x.csv", rows))], finished.job, Heard())
    assert found.test is not None and found.threshold == finished.evaluation.threshold
    assert found.test.metrics["f1_micro"].value > 0.7 and found.test.metrics["f1_micro"].n == 60
    odd = [{**rows[0], "label": SEPARATOR.join([LABELS[0], "nonsense"])}]
    with pytest.raises(DataError, match=r"odd\.csv:2: label 'nonsense'"):
        evaluate_files(finished.run.model, [str(write_csv(tmp_path / "odd.csv", odd))], finished.job, Heard())


def test_everything_can_be_written_as_json(finished: Finished) -> None:
    found = json.loads(json.dumps(finished.evaluation.to_json()))
    assert found["threshold"] == finished.evaluation.threshold and len(found["test"]["classes"]) == len(LABELS)
    assert set(metrics_json(finished.evaluation)["test"] or {}) == MEASURES
    beside = baselines_json(finished.evaluation)
    assert set(beside) == {"majority", "tfidf_svm"}
    assert set(beside["tfidf_svm"]) == {"accuracy", "f1_macro", "f1_micro", "gain"}

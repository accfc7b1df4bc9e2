"""The main job on a real Ray: everything promised is there, agrees with itself, and is not done twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysft import pipeline
from raysft.errors import DataError, NoCapacity, RunConflict
from raysft.storage.commit import read_json
from tests.ray.conftest import Finished
from tests.support.jobs import TOPICS, corpus_rows, write_csv, write_job

pytestmark = pytest.mark.ray
MEASURES = {"accuracy", "f1_macro", "f1_weighted", "loss", "ece"}


def test_result_holds_what_is_promised(finished: Finished) -> None:
    found = finished.result.to_json()
    assert {"schema", "name", "task", "status", "rows", "metrics", "baselines", "timing", "artifact", "report"} <= set(
        found
    )
    assert found["status"] == "done" and found["resumed_from"] is None
    for part in ("test", "validation"):
        assert set(found["metrics"][part]) == MEASURES
        for estimate in found["metrics"][part].values():
            assert estimate["low"] <= estimate["value"] <= estimate["high"] and estimate["n"] > 0
    assert set(found["baselines"]) == {"majority", "tfidf_svm"}
    timing = {"total_s", "data_s", "train_s", "evaluate_s", "examples_per_s", "tokens_per_s", "padding_share"}
    assert timing <= set(found["timing"])
    assert 0 <= found["timing"]["padding_share"] < 0.5
    assert read_json(Path(found["artifact"]).parent / "result.json") == json.loads(json.dumps(found))


def test_books_balance_and_every_rejected_row_has_its_place(finished: Finished) -> None:
    rows = finished.result.rows
    left = {**rows["rejected"], **rows["quarantined"]}
    assert rows["read"] == len(finished.rows) == rows["kept"] + sum(left.values())
    assert rows["rejected"] == {"duplicate": 1, "blank_text": 1, "missing_label": 1}
    assert rows["quarantined"] == {"conflicting_labels": 2}
    rejected = pq.read_table(Path(finished.result.data) / "rejected.parquet").to_pylist()
    assert {(row["reason"], row["line"]) for row in rejected} == {
        ("duplicate", 242),
        ("conflicting_labels", 3),
        ("conflicting_labels", 243),
        ("blank_text", 244),
        ("missing_label", 245),
    }


def test_no_customer_stands_in_two_parts(finished: Finished) -> None:
    folder = Path(finished.result.data)
    seen: dict[str, set[int]] = {}
    for name in ("open", "test"):
        for row in pq.read_table(folder / "corpus" / f"{name}.parquet").to_pylist():
            seen.setdefault(row["group"], set()).add(row["fold"])
    assert len(seen) > 50
    assert all(len(places) == 1 for places in seen.values())


def test_it_learns(finished: Finished) -> None:
    """The topics are easy; a run that learns nothing scores about 0.25."""
    assert finished.result.metrics["test"]["accuracy"]["value"] > 0.6


def test_artifact_is_plain_transformers_and_gives_the_recorded_predictions(finished: Finished) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = Path(finished.result.artifact)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert list(folder.glob("*.bin")) == [] and (folder / "model.safetensors").exists()
    recorded = pq.read_table(folder.parent / "predictions.parquet").to_pylist()
    assert {row["part"] for row in recorded} == {"test", "validation"}
    inputs = tokenizer([row["text"] for row in recorded], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model.eval()(**inputs).logits.softmax(-1)
    names = [model.config.id2label[int(index)] for index in probabilities.argmax(-1)]
    assert names == [row["predicted"] for row in recorded]
    np.testing.assert_allclose(probabilities.max(-1).values, [row["confidence"] for row in recorded], atol=1e-5)


def test_the_same_command_again_returns_the_result_without_training(finished: Finished) -> None:
    before = Path(finished.result.artifact, "model.safetensors").stat().st_mtime_ns
    again = pipeline.train(finished.job)
    assert again.to_json() == finished.result.to_json()
    assert Path(finished.result.artifact, "model.safetensors").stat().st_mtime_ns == before


def test_same_name_with_other_settings_is_refused_and_says_which(finished: Finished) -> None:
    with pytest.raises(RunConflict, match=r"train\.learning_rate was 0\.005, now 0\.001"):
        pipeline.train(finished.job, ["train.learning_rate=0.001"])


def test_speed_settings_are_not_other_settings(finished: Finished) -> None:
    assert pipeline.train(finished.job, ["train.workers=2"]).to_json() == finished.result.to_json()


def test_evaluate_again_gives_the_same_scores(finished: Finished) -> None:
    evaluation = pipeline.evaluate(finished.job)
    assert evaluation.test.metrics["accuracy"].value == pytest.approx(
        finished.result.measure("accuracy").value, abs=1e-6
    )


def test_evaluate_on_another_file(finished: Finished, tmp_path: Path) -> None:
    fresh = write_csv(tmp_path / "fresh.csv", corpus_rows(60, seed=9))
    assert pipeline.evaluate(finished.job, files=[str(fresh)]).test.metrics["accuracy"].n == 60
    odd = write_csv(tmp_path / "odd.csv", [{"text": "x", "label": "nonsense", "customer": "c"}])
    with pytest.raises(DataError, match=r"odd\.csv:2: label 'nonsense'"):
        pipeline.evaluate(finished.job, files=[str(odd)])


def test_predict_texts_and_files(finished: Finished, tmp_path: Path) -> None:
    found = pipeline.predict(finished.job, texts=["reset my password please", ""])
    assert found[0].label == "account" and sum(found[0].probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert (found[1].label, found[1].error) == ("", "blank_text")
    source = write_csv(tmp_path / "new.csv", [{"text": 'a "quoted", parcel\nlate', "label": "", "customer": ""}])
    target = tmp_path / "out.csv"
    assert pipeline.predict(finished.job, files=[str(source)], output=target).predicted == 1
    with target.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["file"], row["line"], row["text"]) == (str(source), "2", 'a "quoted", parcel\nlate')
    assert row["label"] in TOPICS and 0.25 <= float(row["confidence"]) <= 1


def test_files_are_read_as_the_job_says(finished: Finished, tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_bytes("text,label\nréinitialiser password,account\n".encode("cp1252"))
    said = ["data.format=csv", "data.encoding=cp1252"]
    (found,) = pipeline.predict(finished.job, files=[str(odd)], overrides=said)
    assert found.text == "réinitialiser password" and not found.error
    assert pipeline.predict(finished.job, files=[str(odd)], format="csv", encoding="cp1252") == [found]
    assert pipeline.evaluate(finished.job, said, files=[str(odd)]).test.metrics["accuracy"].n == 1


def test_prepared_data_is_shared_by_runs(finished: Finished) -> None:
    assert pipeline.data(finished.job, ["name=other", "train.epochs=1"]).reused


def test_too_many_workers_is_said_with_the_arithmetic(cluster: None, base: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, base, train={"workers": 9})
    with pytest.raises(NoCapacity, match=r"9 x 1 CPU = 9 CPUs; the cluster has 2"):
        pipeline.train(job)
    with pytest.raises(NoCapacity, match=r"1 x 1 GPU = 1 GPUs; the cluster has 0"):
        pipeline.train(job, ["train.device=gpu", "train.workers=1"])

"""A sweep on a real Ray: every fold by a model that has not seen it, the choice trained on all, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raysft import pipeline
from raysft.cli.main import run
from raysft.errors import JobFileError, RunConflict, TrainingFailed, UsageError
from raysft.metrics.scores import confusion, f1_macro
from raysft.storage.commit import read_json
from raysft.tuning.outcome import SweepResult
from tests.support.answering import asked
from tests.support.jobs import TOPICS, corpus_rows, write_job
from tests.support.label_sets import label_set_rows
from tests.support.tagged import tagged_rows, tagged_sections, write_tagged

pytestmark = pytest.mark.ray
RATES = [1e-3, 5e-3]
SEARCH: dict[str, Any] = {"search": {"train.learning_rate": RATES, "train.batch_size": [8, 32]}}
WHOLE = {"racing": False, "early": False}
ONE_EPOCH = {"epochs": 1, "device": "cpu"}


def sweep_job(folder: Path, base: Path, rows: list[dict[str, str]] | None = None, **sections: Any) -> Path:
    """A sweep of four configurations on three folds, two epochs each."""
    found = {
        "folds": {"k": 3},
        "train": {"epochs": 2, "device": "cpu"},
        "tune": SEARCH,
        **sections,
    }
    return write_job(folder, base, corpus_rows(120) if rows is None else rows, **found)


@pytest.fixture(scope="module")
def swept(cluster: None, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResult]:
    """A whole sweep, nothing of which was stopped."""
    folder = tmp_path_factory.mktemp("it's swept")
    job = sweep_job(folder, base, tune={**SEARCH, **WHOLE})
    return job, pipeline.tune(job)


def test_every_configuration_is_judged_on_every_open_row_once(swept: tuple[Path, SweepResult]) -> None:
    _, result = swept
    table = pq.read_table(result.predictions)
    assert set(table.column("trial").to_pylist()) == {1, 2, 3, 4}
    (data,) = (Path(result.predictions).parents[2] / "data").glob("*/corpus/open.parquet")
    corpus = pq.read_table(data)
    for trial in range(1, 5):
        own = table.filter(pc.equal(table.column("trial"), trial))
        assert sorted(own.column("row_id").to_pylist()) == corpus.column("row_id").to_pylist()
        fold = dict(zip(corpus.column("row_id").to_pylist(), corpus.column("fold").to_pylist(), strict=True))
        assert [fold[row] for row in own.column("row_id").to_pylist()] == own.column("fold").to_pylist()


def test_scores_are_those_of_the_predictions(swept: tuple[Path, SweepResult]) -> None:
    _, result = swept
    table = pq.read_table(result.predictions).to_pylist()
    labels = sorted(TOPICS)
    for row in result.trials:
        assert (row["status"], row["folds_done"]) == ("finished", 3)
        mine = [each for each in table if each["trial"] == row["trial"]]
        for fold, scores in row["by_fold"].items():
            own = [each for each in mine if each["fold"] == int(fold)]
            true, given = (np.array([labels.index(each[name]) for each in own]) for name in ("label", "predicted"))
            assert scores["f1_macro"] == pytest.approx(float(f1_macro(confusion(true, given, 4))))
            assert scores["loss"] == pytest.approx(
                -np.mean([each["log_probability_of_label"] for each in own]), rel=1e-4
            )
        assert row["f1_macro"]["value"] == pytest.approx(np.mean([s["f1_macro"] for s in row["by_fold"].values()]))
        if row["trial"] in {result.chosen[name] for name in ("trial", "best", "runner_up")}:
            assert row["out_of_fold"]["f1_macro"]["n"] == len(mine)


def test_a_fold_is_what_train_finds_on_it(swept: tuple[Path, SweepResult], base: Path) -> None:
    """The sweep leaves out embeddings that no row has and reads the base once: the same numbers come of it."""
    job, result = swept
    chosen = next(row for row in result.trials if row["trial"] == result.chosen["trial"])
    overrides = [f"{key}={value}" for key, value in chosen["settings"].items()]
    alone = pipeline.train(job, [*overrides, "name=alone", "folds.validation=1"])
    lines = (Path(alone.artifact).parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [line for line in map(json.loads, lines) if "validation_loss" in line]
    fold = read_json(Path(result.predictions).parent / f"folds/trial-{chosen['trial']:04d}/fold-1/fold.json")
    assert [line["validation_loss"] for line in scores] == pytest.approx([s["loss"] for s in fold["scores"]], rel=1e-5)
    assert [line["validation_f1_macro"] for line in scores] == [s["f1_macro"] for s in fold["scores"]]


def test_the_choice_is_trained_on_all_folds_and_scored_on_the_sealed_rows(swept: tuple[Path, SweepResult]) -> None:
    _, result = swept
    best = read_json(Path(result.predictions).parent / "best" / "result.json")
    assert best["artifact"] == result.artifact and Path(str(result.artifact), "config.json").exists()
    assert best["metrics"]["validation"] is None and result.metrics["test"]["f1_macro"]["n"] > 0
    parts = best["rows"]["parts"]
    assert parts["train"] == sum(parts.values()) - parts["test"]
    yaml = (Path(result.predictions).parent / "best" / "job.yaml").read_text(encoding="utf-8")
    assert "validation: none" in yaml and f"learning_rate: {result.chosen['settings']['train.learning_rate']}" in yaml


def test_what_is_finished_is_returned_and_another_search_refused(swept: tuple[Path, SweepResult]) -> None:
    job, result = swept
    assert pipeline.tune(job).to_json() == json.loads(json.dumps(result.to_json()))
    with pytest.raises(RunConflict, match="a sweep named tiny exists"):
        pipeline.tune(job, ["tune.seed=3"])
    # By the first objective configurations are stopped and one is chosen.
    with pytest.raises(RunConflict, match="a sweep named tiny exists"):
        pipeline.tune(job, ["tune.objectives={loss: min, f1_macro: max}"])


def test_folds_that_are_done_are_not_done_again(
    swept: tuple[Path, SweepResult], cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed sweep leaves: lines, some folds, and no result from where on others are written."""
    job, result = swept
    folder = Path(result.predictions).parent
    with monkeypatch.context() as killing, pytest.raises(KeyboardInterrupt):
        killing.setattr("raysft.sweep.summarise", killed)
        pipeline.tune(job, ["tune.nested=true"])
    assert not (folder / "result.json").exists()
    gone = folder / "folds" / "trial-0002" / "fold-1" / "fold.json"
    gone.unlink()
    times = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("fold.json"))}
    again = pipeline.tune(job)
    assert gone.exists() and len(times) == 11
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert strip(again.trials) == strip(result.trials) and again.chosen == result.chosen


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


def strip(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in each.items() if name != "seconds"} for each in trials]


NOTHING_COUNTS = dict.fromkeys(TOPICS, 0.0)  # found out where the model is trained


def test_a_configuration_that_cannot_be_trained_is_told_and_the_rest_goes_on(
    cluster: None, base: Path, tmp_path: Path
) -> None:
    tune = {"search": {"train.class_weights": [None, NOTHING_COUNTS]}, "refit": False, **WHOLE}
    result = pipeline.tune(sweep_job(tmp_path, base, tune=tune, train={"epochs": 1, "device": "cpu"}))
    first, second = result.trials
    assert (first["status"], second["status"], second["folds_done"]) == ("finished", "failed", 0)
    assert "have the weight 0" in second["why"] and result.chosen["trial"] == first["trial"]
    assert result.artifact is None and result.metrics == {}


def test_where_nothing_succeeds_it_says_why_and_tries_again(
    cluster: None, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = {"search": {"train.class_weights": [NOTHING_COUNTS]}, "refit": False}
    job = sweep_job(tmp_path, base, tune=tune, train={"epochs": 1, "device": "cpu"})
    for _ in range(2):
        assert run(["tune", str(job)]) == TrainingFailed.exit_code
        said = capsys.readouterr().err
        assert "every configuration failed: trial 1" in said and "have the weight 0" in said and "Traceback" not in said


def test_racing_leaves_out_what_cannot_win(cluster: None, base: Path, tmp_path: Path) -> None:
    """A rate at which nothing is learnt, beside one at which all is."""
    search = {"search": {"train.learning_rate": [1e-7, 5e-3], "train.head_learning_rate": [1e-7, 1e-2]}, "refit": False}
    job = sweep_job(tmp_path, base, corpus_rows(240), tune=search, folds={"k": 4}, train={"epochs": 3, "device": "cpu"})
    result = pipeline.tune(job)
    states = {tuple(row["settings"].values()): row for row in result.trials}
    assert states[(1e-7, 1e-7)]["status"] == "stopped" and states[(1e-7, 1e-7)]["folds_done"] < 4
    assert result.chosen["trial"] != states[(1e-7, 1e-7)]["trial"]
    assert sum(row["folds_done"] for row in result.trials) < 16
    lines = [json.loads(line) for line in Path(result.predictions).with_name("trials.jsonl").read_text().splitlines()]
    assert any(
        "behind trial" in line.get("stopped", "") or "could not reach" in line.get("stopped", "") for line in lines
    )


def test_nested(cluster: None, base: Path, tmp_path: Path) -> None:
    tune = {"search": {"train.learning_rate": RATES}, "nested": True, "refit": False, **WHOLE}
    job = sweep_job(tmp_path, base, tune=tune, train={"epochs": 1, "device": "cpu"})
    result = pipeline.tune(job)
    assert result.nested is not None and result.nested["chosen"].keys() == {"0", "1", "2"}
    open_rows = result.trials[0]["out_of_fold"]["f1_macro"]["n"]
    assert result.nested["metrics"]["f1_macro"]["n"] == open_rows
    folds = Path(result.predictions).parent / "folds"
    assert len(list(folds.rglob("fold-*-nested/fold.json"))) == 3
    assert len(list(folds.rglob("fold-*-without-*/fold.json"))) == 2 * 3 * 2  # configurations x folds left out x others


def test_workers_that_share_each_fold(cluster: None, base: Path, tmp_path: Path) -> None:
    train = {"epochs": 1, "device": "cpu", "workers": 2, "batch_size": 16}
    job = sweep_job(tmp_path, base, tune=None, train=train, folds={"k": 2})
    together = pipeline.cv(job)
    alone = pipeline.cv(job, ["name=alone", "train.workers=1", "train.micro_batch=8"])
    assert together.trials[0]["loss"]["value"] == pytest.approx(alone.trials[0]["loss"]["value"], rel=1e-4)
    assert not list(Path(together.predictions).parent.rglob("checkpoints"))


def test_cv_of_tags(cluster: None, base: Path, tmp_path: Path) -> None:
    write_tagged(tmp_path / "tagged.jsonl", tagged_rows(60))
    job = write_job(tmp_path, base, **{**tagged_sections(), "folds": {"k": 2}})
    assert run(["cv", str(job), "--set", "train.epochs=2"]) == 0
    result = SweepResult.read(tmp_path / "out" / "sweeps" / "tiny-cv" / "result.json")
    assert len(result.trials) == 1 and result.objectives == {"f1_macro": "max", "loss": "min"}
    scores = result.chosen["out_of_fold"]
    assert scores["f1_micro"]["low"] <= scores["f1_micro"]["value"] <= scores["f1_micro"]["high"]
    assert result.chosen["settings"] == {} and result.artifact is None


TINY = {"init": {"layers": 1, "hidden": 16, "heads": 2, "vocabulary": 300}, "max_length": 32}


def small_sweep(
    folder: Path, base: Path, rows: list[dict[str, str]] | None = None, refit: bool = True, **sections: Any
) -> SweepResult:
    """Two rates on two folds, an epoch each, and the choice trained on both."""
    tune = {"search": {"train.learning_rate": RATES}, "refit": refit, **WHOLE}
    return pipeline.tune(
        sweep_job(folder, base, rows, **{"folds": {"k": 2}, "train": ONE_EPOCH, "tune": tune, **sections})
    )


def test_answers(cluster: None, base: Path, tmp_path: Path) -> None:
    """Judged by the loss of their tokens; a conversation is one line however many pieces it has."""
    chats = [{"messages": asked(f"where is the {w}", f"about {t}")} for t, words in TOPICS.items() for w in words]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)), encoding="utf-8")
    result = small_sweep(
        tmp_path,
        base,
        task="generation",
        model=TINY,
        data={"train": "chats.jsonl", "text": None, "label": None, "group": None},
        generation={"max_new_tokens": 2, "rows": 2},
    )
    assert (
        result.objectives == {"loss": "min"}
        and result.chosen["trial"] == min(result.trials, key=lambda row: row["loss"]["value"])["trial"]
    )
    table = pq.read_table(result.predictions).to_pylist()
    rows = [row["row_id"] for row in table if row["trial"] == 1]
    assert len(rows) == len(set(rows)) == result.chosen["out_of_fold"]["loss"]["n"]
    assert result.metrics["test"]["exact_match"]["n"] == 2


def test_labels_as_words(cluster: None, base: Path, tmp_path: Path) -> None:
    data, model = {"audit": {"wrong_labels": "off"}}, {**TINY, "labels": "words"}
    result = small_sweep(tmp_path, base, corpus_rows(60), model=model, data=data, refit=False)
    table = pq.read_table(result.predictions)
    assert set(table.column("predicted").to_pylist()) <= set(TOPICS)
    assert result.objectives == {"f1_macro": "max", "loss": "min"} and result.chosen["out_of_fold"]["f1_macro"]["n"] > 0


def test_several_labels_a_row(cluster: None, base: Path, tmp_path: Path) -> None:
    """Trained on all folds, it gives labels from the mean of the thresholds that were best on each."""
    result = small_sweep(tmp_path, base, label_set_rows(80), data={"multi_label": True})
    folder = Path(result.predictions).parent
    trial, epoch = result.chosen["trial"], result.chosen["epoch"]
    folds = [read_json(each) for each in folder.glob(f"folds/trial-{trial:04d}/fold-?/fold.json")]
    mean = np.mean([each["scores"][epoch - 1]["threshold"] for each in folds])
    facts = read_json(Path(str(result.artifact)) / "raysft.json")
    assert len(folds) == 2 and facts["threshold"] == pytest.approx(mean, abs=1e-4)
    assert result.metrics["test"]["f1_micro"]["n"] > 0


BAD = [
    ({"search": {"train.learning_rat": [1e-4]}}, {}, "learning_rate"),
    ({"search": {"train.learning_rate": {"log": [1e-3, 1e-4]}}}, {}, "train.learning_rate"),
    ({"search": {"train.batch_size": []}}, {}, "train.batch_size"),
    ({"search": {"train.batch_size": [8]}, "objectives": {"perplexity": "min"}}, {}, "perplexity"),
    ({"search": {"train.batch_size": [8]}}, {"folds": {"k": 6}, "data": {"group": None}}, "folds.k"),
    ({"search": {"train.batch_size": [8]}, "nested": True}, {"folds": {"k": 2}}, "tune.nested"),
    ({"search": {"model.freeze.layers": [1, 9]}}, {}, "model.freeze.layers"),
]


@pytest.mark.parametrize(("tune", "sections", "named"), BAD, ids=[named for _, _, named in BAD])
def test_what_cannot_be_is_refused_before_anything_starts(
    cluster: None, base: Path, tmp_path: Path, tune: dict[str, Any], sections: dict[str, Any], named: str
) -> None:
    few = [row for row in corpus_rows(120) if row["label"] != "product"] + [
        row for row in corpus_rows(120) if row["label"] == "product"
    ][:5]
    job = sweep_job(tmp_path, base, few, tune=tune, **sections)
    with pytest.raises(JobFileError) as error:
        pipeline.tune(job)
    assert named in str(error.value) and f"{job.name}:" in str(error.value)
    assert not (tmp_path / "out" / "sweeps" / "tiny" / "trials.jsonl").exists()


def test_without_a_search_it_points_at_cv(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="raysft cv"):
        pipeline.tune(write_job(tmp_path, base))

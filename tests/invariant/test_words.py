"""Labels as words: prepared on the folds of a head, trained, scored as a classifier is, reloaded, said by generate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raysft.claim import claim, identity
from raysft.config import Job, load_job
from raysft.evaluation.evaluation import Baseline, Evaluation
from raysft.evaluation.reload import ReloadCheck, largest_difference
from raysft.events import Silent
from raysft.model.classifier import quiet_transformers
from raysft.plan.refusals import refuse_early
from raysft.prediction.artifact import Artifact
from raysft.prediction.scoring import evaluate_files
from raysft.preparation.start import base_of
from raysft.run import score_run
from raysft.storage.commit import read_json
from raysft.storage.layout import RunFolder, open_output
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.worker import Outcome, Task, run_worker
from tests.support import preparing
from tests.support.answering import write_chat_model
from tests.support.jobs import TOPICS, corpus_rows, write_csv
from tests.support.ranks import run_on_ranks
from tests.support.runs import lines_of, trajectory

LABELS = sorted(TOPICS)
TRAIN = {"epochs": 12, "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32", "seed": 3}
SHORT = {"epochs": 2, "batch_size": 16}
WORDS = {"labels": "words", "max_length": 32}
INIT = {"architecture": "llama", "layers": 2, "hidden": 32, "heads": 2, "vocabulary": 400}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A Llama from random weights, with a tokenizer that knows the texts and the labels."""
    folder = tmp_path_factory.mktemp("base")
    write_csv(folder / "rows.csv", corpus_rows(300))
    job = {"name": "base", "data": {"train": "rows.csv"}, "model": {"init": INIT, **WORDS}, "output": str(folder)}
    (folder / "job.yaml").write_text(json.dumps(job), encoding="utf-8")  # JSON is YAML
    return resolve_base(str(base_of(load_job(folder / "job.yaml")).folder))


def job_of(folder: Path, base: Base, **sections: Any) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    model = {**WORDS, **sections.pop("model", {})}
    train = {**TRAIN, **sections.pop("train", {})}
    return preparing.job_of(folder, base.folder, corpus_rows(300), model=model, train=train, **sections)


@dataclass(frozen=True)
class Finished:
    job: Job
    run: RunFolder
    evaluation: Evaluation
    predictions: pa.Table

    @property
    def artifact(self) -> Artifact:
        return Artifact.open(self.run.model)


def trained(job: Job, base: Base) -> RunFolder:
    """The job's run folder, its model trained and written by this process."""
    refuse_early(job, base)
    prepared, place = preparing.run(job), open_output(job.config.output).run(job.config.name)
    claim(job, base, identity(job, base, prepared.digest), place)
    outcome = run_worker(Task(job.config, job.folder, base, prepared, place, micro_batch=16, threads=1, gpu=False))
    assert isinstance(outcome, Outcome), outcome
    return place


def finish(job: Job, base: Base) -> Finished:
    place = trained(job, base)
    return Finished(job, place, *score_run(job, preparing.run(job), place))


@pytest.fixture(scope="module")
def finished(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finish(job_of(tmp_path_factory.mktemp("job"), base), base)


# --- preparation


def test_rows_folds_and_labels_are_those_of_a_head(base: Base, tmp_path: Path) -> None:
    """Only the tokens differ, and the address with them."""
    words = preparing.run(job_of(tmp_path, base))
    head = preparing.run(load_job(tmp_path / "job.yaml", ["model.labels=head"]))
    assert words.digest != head.digest and words.labels == head.labels
    assert preparing.kept(words) == preparing.kept(head)
    for part in ("train", "validation", "test"):
        one, other = words.tokens(part), head.tokens(part)
        assert one.row_id.tolist() == other.row_id.tolist() and one.label.tolist() == other.label.tolist()
        assert (one.lengths > other.lengths).all()
        assert all(one.targets(at).sum() > 1 for at in range(len(one))) and not len(other.targets(0))


def test_another_template_is_another_preparation(base: Base, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    other = write_chat_model(tmp_path / "other", template=template)
    first, second = (preparing.digest(job_of(tmp_path, each)) for each in (base, resolve_base(str(other))))
    assert first != second


# --- training and scores


def majority_f1(finished: Finished) -> float:
    found = finished.evaluation.baselines["majority"]
    assert isinstance(found, Baseline)
    return found.f1_macro.value


def test_it_learns(finished: Finished) -> None:
    """A word tells the topic; the commonest topic has 0.1 to 0.15."""
    test = finished.evaluation.test
    assert test is not None and finished.evaluation.labels == LABELS
    assert test.metrics["f1_macro"].value > 0.8 > 0.3 > majority_f1(finished)
    assert {"loss", "accuracy", "f1_macro", "f1_weighted", "ece"} <= set(test.metrics)


def test_the_run_is_selected_and_told_as_a_classifier_s(finished: Finished) -> None:
    scores = [line for line in lines_of(finished.run.path) if "validation_f1_macro" in line]
    assert len(scores) == 12 and {"validation_loss", "validation_accuracy"} <= set(scores[0])
    (best,) = (line for line in scores if line["step"] == read_json(finished.run.outcome)["best_step"])
    assert best["validation_f1_macro"] == max(line["validation_f1_macro"] for line in scores)
    validation = finished.evaluation.validation
    assert validation is not None
    assert validation.metrics["loss"].value == pytest.approx(best["validation_loss"], abs=1e-4)
    assert finished.job.config.train.select == "f1_macro"
    assert finished.job.config.train.head_learning_rate == TRAIN["learning_rate"]


def test_predictions_are_those_of_the_evaluation(finished: Finished) -> None:
    rows = finished.predictions.to_pylist()
    found = finished.artifact.predict([row["text"] for row in rows])
    assert [each.label for each in found] == [row["predicted"] for row in rows]
    np.testing.assert_allclose([each.confidence or 0 for each in found], [row["confidence"] for row in rows], atol=1e-4)
    assert all(sum(each.probabilities.values()) == pytest.approx(1, abs=1e-4) for each in found)
    assert sorted(found[0].probabilities) == LABELS
    assert finished.artifact.logits([]).shape == (0, len(LABELS))


def test_other_files_are_scored(finished: Finished, tmp_path: Path) -> None:
    write_csv(tmp_path / "more.csv", corpus_rows(40, seed=5))
    found = evaluate_files(finished.run.model, [str(tmp_path / "more.csv")], finished.job, Silent())
    assert found.test is not None and found.test.metrics["f1_macro"].value > 0.7
    assert found.test.metrics["f1_macro"].n == 40


# --- the artifact


def test_the_artifact_is_a_stock_model_that_reloads(finished: Finished) -> None:
    from transformers import AutoModelForCausalLM

    with ReloadCheck(finished.run.model, finished.run.probe) as check:
        assert check.finish() < 1e-4
    assert len(read_json(finished.run.probe)["texts"]) == 8
    facts = read_json(finished.run.model / "raysft.json")
    assert facts["labels"] == LABELS and facts["labels_are"] == "words"
    model = AutoModelForCausalLM.from_pretrained(finished.run.model)
    assert type(model).__name__ == "LlamaForCausalLM"
    longest = max(len(tokens) for tokens in finished.artifact.model._words.answers)  # type: ignore[union-attr]
    assert model.generation_config.max_new_tokens == longest


def test_plain_generate_says_the_label(finished: Finished) -> None:
    """Whatever the model says freely, of most rows it is the label that scores best."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet_transformers()
    tokenizer = AutoTokenizer.from_pretrained(finished.run.model)
    model = AutoModelForCausalLM.from_pretrained(finished.run.model).eval()
    rows = finished.predictions.to_pylist()[:20]
    said = []
    for row in rows:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["text"]}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            ids = model.generate(**asked)
        said.append(tokenizer.decode(ids[0, asked["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    assert np.mean([one == row["predicted"] for one, row in zip(said, rows, strict=True)]) >= 0.9
    assert len(set(said)) >= 3


# --- ways to train


@pytest.mark.parametrize(
    "way",
    [
        {"model": {"lora": {"r": 8}}, "train": {"learning_rate": 3e-2}},
        {"model": {"freeze": {"layers": 1}}},
        {"train": {"packing": True}},
    ],
    ids=["lora", "freeze", "packing"],
)
def test_every_way_to_train_gives_a_model_that_reloads(base: Base, tmp_path: Path, way: dict[str, Any]) -> None:
    job = job_of(tmp_path, base, **{**way, "train": {**way.get("train", {}), **SHORT}})
    place = trained(job, base)
    assert largest_difference(place.model, place.probe) < 1e-4
    evaluation, _ = score_run(job, preparing.run(job), place)
    best = max(line["validation_f1_macro"] for line in lines_of(place.path) if "validation_f1_macro" in line)
    assert evaluation.validation.metrics["f1_macro"].value == pytest.approx(best, abs=1e-6)
    assert (place.model / "adapter").is_dir() is ("lora" in way.get("model", {}))


def train_in(job: Path, base: Base, micro: int, strategy: str = "ddp") -> list[Any]:
    """Losses and scores of a run of two epochs, as one of its ranks computes them."""
    loaded = load_job(job)
    prepared, place = preparing.run(loaded), open_output(loaded.config.output).run(loaded.config.name)
    outcome = run_worker(Task(loaded.config, loaded.folder, base, prepared, place, micro, 1, False, strategy))
    assert outcome is None or isinstance(outcome, Outcome), outcome
    return [*trajectory(place.path), *(line for line in lines_of(place.path) if "validation_loss" in line)]


def train_both(jobs: list[Path], base: Base) -> list[list[Any]]:
    """On one of two ranks: a run with weights of its own, and one whose weights the ranks share."""
    return [train_in(job, base, 8, strategy) for job, strategy in zip(jobs, ("ddp", "fsdp"), strict=True)]


def scores_of(lines: list[Any]) -> list[tuple[float, float]]:
    found = [line for line in lines if isinstance(line, dict)]
    return [(line["validation_loss"], line["validation_f1_macro"]) for line in found]


def test_two_ranks_and_accumulation_change_nothing(base: Base, tmp_path: Path) -> None:
    """Each rank scores half of the validation rows. Other float32 sums: some 1e-7 a step, magnified by AdamW."""
    jobs = []
    for name in ("one", "split", "ddp", "fsdp"):
        job = job_of(tmp_path / name, base, train=SHORT)
        place = open_output(job.config.output).run(job.config.name)
        claim(job, base, identity(job, base, preparing.run(job).digest), place)
        jobs.append(job.path)
    whole, split = train_in(jobs[0], base, 16), train_in(jobs[1], base, 4)
    first, second = run_on_ranks(2, train_both, jobs[2:], base, folder=tmp_path / "ranks")
    for found in (split, *first, *second):
        steps = [line for line in found if isinstance(line, tuple)]
        np.testing.assert_allclose(steps, [line for line in whole if isinstance(line, tuple)], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(scores_of(found), scores_of(whole), rtol=1e-3, atol=1e-4)
    assert len(scores_of(whole)) == 2


def test_a_run_without_validation_rows_has_no_scores(base: Base, tmp_path: Path) -> None:
    place = trained(job_of(tmp_path, base, folds={"k": 0}, train={**SHORT, "epochs": 1}), base)
    assert not any("validation_loss" in line for line in lines_of(place.path))
    assert json.loads((place.model / "raysft.json").read_text())["labels"] == LABELS

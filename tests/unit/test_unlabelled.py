"""Texts without labels are read, checked and split as others are; what needs labels is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysft import pipeline
from raysft.config import JobConfig, load_job
from raysft.config.sections import ModelSection
from raysft.errors import DataError, JobFileError, UsageError
from raysft.evaluation.evaluation import Evaluation, Scores
from raysft.metrics.interval import Estimate
from raysft.model.classifier import is_sentence_encoder
from raysft.model.language import build_language_model, keep_pooling
from raysft.plan.language import piece_lengths
from raysft.report import language
from raysft.report.facts import ReportFacts
from raysft.storage.pretrained import resolve_base
from tests.support import preparing
from tests.support.jobs import corpus_rows, write_job
from tests.support.language import texts, write_masked_base

TASKS = ("masked-lm", "causal-lm")
RATE = 0.0002


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masked_base(tmp_path_factory.mktemp("base"))


def job_values(task: str, **train: Any) -> dict[str, Any]:
    return {"name": "a", "task": task, "data": {"train": "a.csv"}, "train": train}


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_selects_and_the_head_learns_as_the_body_does(task: str) -> None:
    config = JobConfig.model_validate(job_values(task))
    assert (config.train.select, config.train.head_learning_rate) == ("loss", RATE)
    config = JobConfig.model_validate(job_values(task, learning_rate=0.001))
    assert config.train.head_learning_rate == 0.001
    assert JobConfig.model_validate(job_values(task, head_learning_rate=0.5)).train.head_learning_rate == 0.5
    del (values := job_values(task))["train"]
    assert JobConfig.model_validate(values).train.select == "loss"


def test_other_tasks_keep_their_defaults() -> None:
    train = JobConfig.model_validate(job_values("classification")).train
    assert (train.select, train.head_learning_rate) == ("f1_macro", 0.01)


REFUSED = [
    ({"train": {"select": "f1_macro"}}, "train.select", "loss"),
    ({"train": {"loss": "focal"}}, "train.loss", "labels"),
    ({"train": {"label_smoothing": 0.1}}, "train.label_smoothing", "labels"),
    ({"train": {"class_weights": "balanced"}}, "train.class_weights", "labels"),
    ({"model": {"pooler": "identity"}}, "model.pooler", "classifiers"),
    ({"data": {"label": "label"}}, "data.label", "texts alone"),
    ({"data": {"multi_label": True}}, "data.multi_label", "texts alone"),
]


@pytest.mark.parametrize(("sections", "key", "words"), REFUSED)
def test_what_needs_labels_is_refused_with_its_key(
    base: Path, tmp_path: Path, sections: dict[str, Any], key: str, words: str
) -> None:
    job = write_job(tmp_path, base, task="masked-lm", **sections)
    for verb in (pipeline.check, pipeline.train):
        with pytest.raises(JobFileError) as raised:
            verb(job)
        (problem,) = raised.value.problems
        assert problem.key == key and words in problem.text and "job.yaml" in problem.where


def test_labels_in_the_table_are_not_read(base: Path, tmp_path: Path) -> None:
    """The same file serves pre-training and fine-tuning; a conflict of labels is none here."""
    rows = [*corpus_rows(60), {"text": "hello when", "label": "a", "customer": "x"}]
    rows.append({"text": "hello when", "label": "b", "customer": "y"})
    prepared = preparing.run(preparing.job_of(tmp_path, base, rows, task="masked-lm"))
    assert prepared.labels == () and prepared.audit["labels"] == {} and prepared.audit["wrong_labels"] is None
    assert prepared.audit["rows"]["rejected"] == {"duplicate": 1}
    assert {row["label"] for row in preparing.kept(prepared)} == {""}
    names = {each["name"] for each in prepared.audit["findings"]}
    assert {"duplicates", "near_duplicates", "leakage", "personal_data", "language", "pieces"} <= names
    assert not names & {"conflicts", "small_labels", "imbalance", "label_names", "cut", "wrong_labels"}
    sizes = [len(prepared.tokens(part)) for part in ("train", "validation", "test")]
    assert sum(sizes) == 61 and min(sizes) > 5


def test_groups_stand_in_one_part_though_there_are_no_labels(base: Path, tmp_path: Path) -> None:
    prepared = preparing.run(preparing.job_of(tmp_path, base, corpus_rows(90), task="masked-lm"))
    parts: dict[str, set[int]] = {}
    for row in preparing.kept(prepared):
        parts.setdefault(row["group"], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in parts.values())


def test_plain_text_is_a_text_a_line(base: Path, tmp_path: Path) -> None:
    said = texts(60)
    (tmp_path / "domain.txt").write_text("\n".join([*said, "", said[0]]) + "\n", encoding="utf-8")
    settings: dict[str, Any] = {"data": {"train": "domain.txt", "group": None, "audit": {"max_rejected": 0.1}}}
    prepared = preparing.run(preparing.job_of(tmp_path, base, task="masked-lm", **settings))
    assert prepared.audit["rows"]["rejected"] == {"blank_text": 1, "duplicate": 1}
    assert [row["text"] for row in preparing.kept(prepared)] == said
    assert prepared.audit["sources"][0]["format"] == "lines"


def test_plain_text_has_no_labels_for_other_tasks(base: Path, tmp_path: Path) -> None:
    (tmp_path / "domain.txt").write_text("a\nb\n", encoding="utf-8")
    for data in ({}, {"format": "lines"}):
        job = load_job(write_job(tmp_path, base, data={"train": "domain.txt", "group": None, **data}))
        with pytest.raises(DataError, match=r"cannot read .txt|texts without labels"):
            preparing.run(job)


def test_a_check_counts_pieces(base: Path, tmp_path: Path) -> None:
    rows = [{"text": text} for text in [*texts(100), *(" ".join(texts(20, seed)) for seed in range(1, 21))]]
    found = pipeline.check(write_job(tmp_path, base, rows, task="masked-lm", data={"group": None}))
    assert found.columns["label"] is None and found.labels == []
    prepared = preparing.run(preparing.job_of(tmp_path, base, rows, task="masked-lm", data={"group": None}))
    pieces = prepared.audit["lengths"]["pieces"]
    assert pieces > 1.5 * len(rows)
    assert sum(found.plan.rows.values()) == pytest.approx(pieces, rel=0.1)


def test_lengths_of_pieces_spelled_out() -> None:
    assert sorted(piece_lengths(np.array([7, 8, 20]), 8).tolist()) == [4, 7, 8, 8, 8]


def test_a_model_of_texts_alone_labels_nothing(base: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, base, task="masked-lm")
    run = tmp_path / "out" / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "result.json").write_text("{}")
    with pytest.raises(UsageError, match=r"predict.*masked-lm"):
        pipeline.predict(job, texts=["hello"])
    with pytest.raises(UsageError, match=r"evaluate --data.*masked-lm"):
        pipeline.evaluate(job, files=["rows.csv"])


def facts(base: Path, folder: Path) -> ReportFacts:
    prepared = preparing.run(preparing.job_of(folder, base, task="masked-lm"))
    scores = Scores({"loss": Estimate(2.0, 1.9, 2.2, 40), "perplexity": Estimate(7.389, 6.686, 9.025, 40)}, [], [], [])
    return ReportFacts(
        name="domain <b>", task="masked-lm", base="some/base", base_revision="abc",
        evaluation=Evaluation([], scores, None, {}, "test"), audit=prepared.audit,
        history=[{"step": 1, "loss": 3.0, "rate": 1e-4, "grad_norm": 1.0}, {"step": 1, "validation_loss": 2.5}],
        plan={}, outcome={"last_step": 1, "best_step": 1}, timing={}, job_yaml="name: x", created="2026-01-01",
        version="1", group_column=None,
    )  # fmt: skip


def test_the_page_and_the_card_say_perplexity_and_nothing_of_classes(base: Path, tmp_path: Path) -> None:
    known = facts(base, tmp_path)
    page, card = language.render_page(known), language.render_card(known)
    said = "Perplexity is 7.389 on 40 test texts (95% interval 6.686 to 9.025)."
    assert said in page and said in card
    body = page.split("</style>")[1]
    assert "domain &lt;b&gt;" in body and "domain <b>" not in page
    assert "<svg" in body and "Data audit" in body and "fill-mask" in card
    for word in ("F1", "Confusion", "Baseline", "http:", "https:"):
        assert word not in body and word not in card, word


def test_without_a_scored_part_the_page_says_so(base: Path, tmp_path: Path) -> None:
    known = dataclasses.replace(facts(base, tmp_path), evaluation=Evaluation([], None, None, {}, "test"))
    assert "not scored" in language.render_page(known) and "No part was scored" in language.render_card(known)


def test_a_sentence_encoder_is_still_known_as_one(base: Path, tmp_path: Path) -> None:
    """So that fine-tuning from the pre-trained folder starts the pooler as from the encoder itself."""
    folder, made = tmp_path / "encoder", tmp_path / "made"
    shutil.copytree(base, folder)
    made.mkdir()
    keep_pooling("masked-lm", resolve_base(str(folder)), made)
    assert not any(made.iterdir())
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    keep_pooling("classification", resolve_base(str(folder)), made)
    assert not any(made.iterdir())
    keep_pooling("masked-lm", resolve_base(str(folder)), made)
    assert is_sentence_encoder(made)


def test_an_encoder_cannot_learn_the_next_token(base: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.base.*encoder"):
        build_language_model(resolve_base(str(base)), ModelSection(), "causal-lm", 0)

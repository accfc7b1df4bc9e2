"""Labels as words: what cannot be is refused by `check` and `train` alike, by its key and with what to do."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from raysft import pipeline, run
from raysft.config import JobConfig, load_job
from raysft.errors import JobFileError
from raysft.plan import preflight
from raysft.preparation.address import open_sources
from raysft.preparation.start import base_of, training_texts
from raysft.session import Resources
from raysft.training import launch
from tests.support.answering import CHATML, write_chat_model
from tests.support.jobs import corpus_rows, write_job

VERBS = (pipeline.check, pipeline.train)
WORDS = {"labels": "words", "max_length": 128}


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker on the CPU of this machine, without starting Ray, which would find the same."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(run, "ray_session", nullcontext)
    monkeypatch.setattr(run, "find_resources", lambda train: Resources(train.most_workers, 1, gpu=False))
    monkeypatch.setattr(run, "hold", lambda found, *_: found)
    monkeypatch.setattr(preflight, "may_use_gpu", lambda device: False)
    monkeypatch.setattr(launch, "launch", _begun)


def _begun(*_: Any) -> None:
    raise AssertionError("what should have been refused began to train")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("chat"))


def require_refused(job: Path, overrides: list[str], key: str, words: str) -> None:
    for verb in VERBS:
        with pytest.raises(JobFileError) as caught:
            verb(job, overrides)
        (problem,) = caught.value.problems
        assert problem.key == key and words in problem.text


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("data.multi_label=true", "model.labels", "gives each text one label, and data.multi_label is true; use head"),
        ("train.loss=focal", "train.loss", "belongs to model.labels: head"),
        ("train.class_weights=balanced", "train.class_weights", "leave it out"),
        ("train.label_smoothing=0.1", "train.label_smoothing", "belongs to model.labels: head"),
        ("model.pooler=identity", "model.pooler", "leave it out, where labels are words"),
        ("train.select=f1_micro", "train.select", "this job measures"),
        ("model.max_length=12", "model.max_length", "so that label 'delivery'"),
        ("model.freeze.layers=3", "model.freeze.layers", "2 layers, found 3"),
        ("task=token-classification", "model.labels", "words belongs to task: classification; leave it out"),
    ],
)
def test_settings_that_cannot_be_are_refused(chat: Path, tmp_path: Path, override: str, key: str, words: str) -> None:
    job = write_job(tmp_path, chat, model=WORDS, data={"audit": {"wrong_labels": "off"}})
    require_refused(job, [override], key, words)


def test_an_encoder_is_refused(base_folder: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, base_folder, model={**WORDS, "max_length": 32})
    require_refused(job, [], "model.labels", "is an encoder (bert); use head, or another model.base")


def test_labels_that_the_tokenizer_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    chat = write_chat_model(tmp_path / "chat", template=CHATML.replace("m.content", "m.content | replace('!', '')"))
    rows = [{**row, "label": f"{row['label']}!" if at % 2 else row["label"]} for at, row in enumerate(corpus_rows(80))]
    job = write_job(tmp_path, chat, rows, model=WORDS, data={"audit": {"wrong_labels": "off"}})
    require_refused(job, [], "model.labels", "are the same tokens to the tokenizer of the base; rename one of them")


def test_a_template_that_cannot_write_a_label_or_its_end_is_refused(tmp_path: Path) -> None:
    for template, words in (
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
            "leaves answers out",
        ),
        ("{{ raise_exception('no') }}", "no"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "nothing says where an answer"),
    ):
        chat = write_chat_model(tmp_path / str(len(words)), template=template)
        require_refused(write_job(tmp_path, chat, model=WORDS), [], "model.base", words)


def test_a_job_is_planned_with_what_scoring_reads(chat: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, chat, model=WORDS)
    words = pipeline.check(job)
    assert words.labels == ["account", "delivery", "product", "refund"]
    assert words.plan.tokens > pipeline.check(job, ["model.labels=head"]).plan.tokens


def test_the_head_of_a_language_model_learns_at_the_rate_of_its_body() -> None:
    """There is no new one; and F1 selects, as it does for a head of labels."""
    job: dict[str, Any] = {"name": "x", "data": {"train": "x.csv"}, "model": {"labels": "words"}}
    found = JobConfig.model_validate({**job, "train": {"learning_rate": 3e-4}})
    assert (found.train.head_learning_rate, found.train.select) == (3e-4, "f1_macro")
    assert found.language_task == "generation" and found.labels_are_words
    head = JobConfig.model_validate({**job, "model": {}})
    assert head.language_task is None and not head.labels_are_words
    assert head.train.head_learning_rate != head.train.learning_rate
    assert JobConfig.model_validate({**job, "task": "causal-lm", "model": {}}).language_task == "causal-lm"


def test_a_tokenizer_that_is_learnt_knows_the_labels(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    path = write_job(tmp_path, tmp_path, corpus_rows(60))
    text = path.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.strip().startswith("base:"))
    init = {"layers": 1, "hidden": 16, "heads": 2, "vocabulary": 600}
    path.write_text(text.replace(line, f"  init: {json.dumps(init)}"), encoding="utf-8")
    folders = []
    for labels, known in (("words", True), ("head", False)):
        job = load_job(path, [f"model.labels={labels}"])
        folders.append(base_of(job).folder)
        tokenizer = Tokenizer.from_file(str(folders[-1] / "tokenizer.json"))
        assert (len(tokenizer.encode("delivery", add_special_tokens=False).ids) == 1) is known
        assert ("delivery" in training_texts(job.config, open_sources(job))) is known
    assert folders[0] != folders[1]

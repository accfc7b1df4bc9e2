"""Continued pre-training as a job of its own, without Ray: texts without labels give a base to fine-tune from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from raysft.config import Job
from raysft.config.sections import ModelSection
from raysft.evaluation.language import evaluate_language, mean_loss
from raysft.evaluation.reload import TOLERANCE, largest_difference
from raysft.model.classifier import build_classifier
from raysft.prediction.artifact import Artifact
from raysft.preparation.prepared import Prepared
from raysft.storage.commit import read_json
from raysft.storage.layout import RunFolder
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.worker import Outcome, Task, run_worker
from tests.support import preparing
from tests.support.language import texts, write_causal_base, write_masked_base

ROWS = 240
WRITERS = {"masked-lm": write_masked_base, "causal-lm": write_causal_base}


@dataclass(frozen=True)
class Trained:
    """One finished training."""

    job: Job
    base: Base
    prepared: Prepared
    run: RunFolder
    outcome: Outcome

    @property
    def losses(self) -> list[float]:
        lines = map(json.loads, self.run.metrics.read_text().splitlines())
        return [line["validation_loss"] for line in lines if "validation_loss" in line]


def train(folder: Path, base: Path, task: str, **settings: Any) -> Trained:
    rows = [{"text": text} for text in [*texts(ROWS), " ".join(texts(20, seed=5)), "中"]]
    learning = {"epochs": 8, "learning_rate": 5e-3, "precision": "fp32", **settings}
    model = {"base": str(base), "max_length": 32}
    job = preparing.job_of(folder, base, rows, task=task, data={"group": None}, train=learning, model=model)
    prepared, run = preparing.run(job), RunFolder(folder / "run")
    run.path.mkdir()
    found = resolve_base(str(base))
    task_of_worker = Task(job.config, job.folder, found, prepared, run, micro_batch=16, threads=1, gpu=False)
    outcome = run_worker(task_of_worker)
    assert isinstance(outcome, Outcome), outcome
    return Trained(job, found, prepared, run, outcome)


@pytest.fixture(scope="module", params=["masked-lm", "causal-lm"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    return train(folder, WRITERS[request.param](folder / "base"), request.param)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("fine-tuned")
    return train(folder, write_masked_base(folder / "base"), "masked-lm", epochs=2)


def test_the_loss_falls_and_the_best_epoch_is_kept(trained: Trained) -> None:
    """From guessing among all tokens; words of a topic stand together, so that there is something to learn."""
    losses = trained.losses
    vocabulary = int(trained.base.config["vocab_size"])
    assert min(losses) < 0.85 * math.log(vocabulary) and min(losses) < losses[0]
    per_epoch = trained.outcome.last_step // len(losses)
    assert trained.outcome.best_step == per_epoch * (1 + int(np.argmin(losses)))


def test_the_pieces_of_a_long_text_are_rows_of_the_run(trained: Trained) -> None:
    audit = trained.prepared.audit
    found = next(each for each in audit["findings"] if each["name"] == "pieces")
    assert found["found"] == 1 and audit["lengths"]["pieces"] > audit["lengths"]["texts"] == ROWS + 2
    assert audit["lengths"]["unlearnable"] == 1 and "1 texts have no token" in found["explanation"]
    tokens = {part: trained.prepared.tokens(part) for part in ("train", "validation", "test")}
    owners = [set(rows.row_id.tolist()) for rows in tokens.values()]
    assert not owners[0] & owners[1] and not owners[1] & owners[2] and not owners[0] & owners[2]
    assert trained.outcome.examples == 8 * len(tokens["train"])


def test_the_artifact_is_stock_and_reloads(trained: Trained) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    kind: Any = AutoModelForMaskedLM if trained.job.config.task == "masked-lm" else AutoModelForCausalLM
    model, info = kind.from_pretrained(trained.run.model, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert len(AutoTokenizer.from_pretrained(trained.run.model)) <= model.config.vocab_size
    assert largest_difference(trained.run.model, trained.run.probe) < TOLERANCE


def test_it_says_whether_the_head_is_new(trained: Trained) -> None:
    told = read_json(trained.run.model / "raysft.json")["language_head"]
    # The tiny BERT is a body alone; GPT-2's head is nothing but its embeddings.
    assert told == ("new" if trained.job.config.task == "masked-lm" else "of the base")


def test_scores_on_validation_are_those_of_training_and_count_texts(trained: Trained) -> None:
    config = trained.job.config
    found, rows = evaluate_language(trained.prepared, trained.run.model, config.task, config.train.seed)
    assert found.validation is not None and found.test is not None and found.baselines == {}
    loss, perplexity = (found.validation.metrics[name] for name in ("loss", "perplexity"))
    # Other batches in float32.
    assert loss.value == pytest.approx(min(trained.losses), rel=1e-5)
    assert perplexity.value == pytest.approx(math.exp(loss.value))
    assert loss.low < loss.value < loss.high and perplexity.low == pytest.approx(math.exp(loss.low))
    parts = trained.prepared.audit["parts"]
    assert rows.num_rows == parts["validation"] + parts["test"]
    asked = sum(found.n for found in (loss, found.test.metrics["loss"]))
    assert asked == sum(tokens > 0 for tokens in rows.column("tokens").to_pylist())


def test_fine_tuning_from_it_starts_with_its_body(masked: Trained) -> None:
    """Equal tensors before the first step; the language head is left behind."""
    base = resolve_base(str(masked.run.model))
    classifier = build_classifier(base, ModelSection(), ("a", "b"), 0)
    stored = load_file(masked.run.model / "model.safetensors")
    body = {name: tensor for name, tensor in classifier.state_dict().items() if name in stored}
    assert len(body) > 30 and {name for name in stored if name.startswith("bert.")} == set(body)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in body.items())
    before = build_classifier(masked.base, ModelSection(), ("a", "b"), 0).state_dict()
    assert not any(
        torch.equal(tensor, before[name]) for name, tensor in body.items() if tensor.ndim == 2 and "type" not in name
    )


def test_a_finetuning_job_runs_from_its_folder(trained: Trained, tmp_path: Path) -> None:
    """Also over a decoder that named no padding token: its classifier finds a row's last token by it."""
    job = preparing.job_of(tmp_path, trained.run.model, train={"epochs": 1, "precision": "fp32"})
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    base = resolve_base(str(trained.run.model))
    outcome = run_worker(Task(job.config, job.folder, base, preparing.run(job), run, 16, 1, gpu=False))
    assert isinstance(outcome, Outcome), outcome
    assert read_json(run.model / "raysft.json")["base"] == str(trained.run.model)
    assert largest_difference(run.model, run.probe) < TOLERANCE
    artifact, said = Artifact.open(run.model), texts(3, seed=9)
    np.testing.assert_allclose(artifact.logits(said), [artifact.logits([each])[0] for each in said], atol=1e-5)


def test_mean_loss_is_over_tokens_and_units_are_drawn_whole() -> None:
    """Two texts of loss 1 and 3 a token, the second with 3 times the tokens: (10 + 90) / (10 + 30)."""
    losses, tokens = np.array([10.0, 90.0]), np.array([10, 30])
    assert mean_loss(losses, tokens, np.array([0, 1])).value == 2.5
    together = mean_loss(losses, tokens, np.array([0, 0]))
    assert (together.low, together.high, together.n) == (2.5, 2.5, 2)

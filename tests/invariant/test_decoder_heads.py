"""A head over the labels on a decoder: it reads each row's last token, whatever padding and rows stand beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysft.claim import claim, identity
from raysft.config import Job, load_job
from raysft.config.sections import ModelSection
from raysft.corpus.tokens import from_lists
from raysft.evaluation.reload import largest_difference
from raysft.events import Silent
from raysft.model.classifier import build_classifier
from raysft.model.padding import pad_id
from raysft.plan.refusals import refuse_early
from raysft.prediction.artifact import Artifact
from raysft.preparation.build import prepare
from raysft.preparation.prepared import Prepared
from raysft.preparation.start import base_of
from raysft.run import score_run
from raysft.storage.layout import RunFolder, open_output
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.forward import predict_logits
from raysft.training.precision import Precision
from raysft.training.worker import Outcome, Task, run_worker
from tests.support import preparing
from tests.support.answering import write_chat_model
from tests.support.jobs import TOPICS, corpus_rows, write_csv
from tests.support.language import write_causal_base
from tests.support.runs import lines_of

CPU = torch.device("cpu")
LABELS = tuple(sorted(TOPICS))
KINDS = ("llama", "gpt2", "gpt2 without padding")
TRAIN = {"epochs": 3, "batch_size": 8, "precision": "fp32", "seed": 3}
WAYS: dict[str, dict[str, Any]] = {
    "full": {"train": {"learning_rate": 2e-3}},
    "lora": {"model": {"lora": {"r": 8}}, "train": {"learning_rate": 1e-2}},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    """Two whose tokenizers name no padding token, though one names an end; and one that names neither."""
    from transformers import AutoTokenizer

    found = {}
    for kind in ("llama", "gpt2"):
        folder = write_chat_model(tmp_path_factory.mktemp(kind), kind)
        AutoTokenizer.from_pretrained(folder, eos_token="<|im_end|>").save_pretrained(folder)
        found[kind] = resolve_base(str(folder))
    found[KINDS[2]] = resolve_base(str(write_causal_base(tmp_path_factory.mktemp("causal"))))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"lora": {"r": 4}}], ids=["full", "lora"])
def test_logits_of_a_row_depend_on_nothing_beside_it(
    bases: dict[str, Base], kind: str, settings: dict[str, Any]
) -> None:
    model = build_classifier(bases[kind], ModelSection.model_validate(settings), LABELS, 0)
    draw = np.random.default_rng(0)
    ids = [draw.integers(3, 60, size).tolist() for size in (1, 2, 9, 30, 17, 5)]
    rows, pad = from_lists(ids, [0] * len(ids)), pad_id(model)
    plain = Precision.plain(CPU)
    together = predict_logits(model, rows, pad, plain)
    alone = [predict_logits(model, from_lists([each], [0]), pad, plain)[0] for each in ids]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    model.eval()
    with torch.inference_mode():
        for each, wanted in zip(ids, alone, strict=True):  # by hand: the last hidden state through the head
            hidden = model.base_model(input_ids=torch.tensor([each])).last_hidden_state[0, -1]  # type: ignore[operator]
            np.testing.assert_allclose(model.score(hidden).numpy(), wanted, atol=1e-5)  # type: ignore[operator]
    assert np.std(together, axis=0).min() > 1e-4


def prepared_of(job: Job, base: Base) -> Prepared:
    return prepare(job, base, open_output(job.config.output), Silent())


def train(job: Job, base: Base) -> RunFolder:
    refuse_early(job, base)
    prepared, place = prepared_of(job, base), open_output(job.config.output).run(job.config.name)
    claim(job, base, identity(job, base, prepared.digest), place)
    outcome = run_worker(Task(job.config, job.folder, base, prepared, place, micro_batch=8, threads=1, gpu=False))
    assert isinstance(outcome, Outcome), outcome
    return place


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_artifact_gives_the_scores_and_labels_of_training(
    bases: dict[str, Base], tmp_path: Path, kind: str, way: str
) -> None:
    base, more = bases[kind], WAYS[way]
    job = preparing.job_of(
        tmp_path,
        base.folder,
        corpus_rows(160),
        model={"max_length": 48, **more.get("model", {})},
        train={**TRAIN, **more["train"]},
    )
    place = train(job, base)
    assert largest_difference(place.model, place.probe) < 1e-4
    evaluation, predictions = score_run(job, prepared_of(job, base), place)
    scores = [line for line in lines_of(place.path) if "validation_f1_macro" in line]
    assert evaluation.validation.metrics["f1_macro"].value == pytest.approx(
        max(line["validation_f1_macro"] for line in scores), abs=1e-6
    )
    assert len({line["validation_loss"] for line in scores}) == 3  # each epoch changed what is said
    rows, artifact = predictions.to_pylist(), Artifact.open(place.model)
    found = artifact.predict([row["text"] for row in rows])
    assert [each.label for each in found] == [row["predicted"] for row in rows]
    np.testing.assert_allclose([each.confidence or 0 for each in found], [row["confidence"] for row in rows], atol=1e-4)
    assert require_stock(place.model) == {"llama": "Llama"}.get(kind, "GPT2") + "ForSequenceClassification"


def require_stock(folder: Path) -> str:
    """The pipeline of transformers, which makes batches of its own, labels as we do."""
    from transformers import AutoModelForSequenceClassification, pipeline

    said = [row["text"] for row in corpus_rows(9, seed=4)]
    classify = pipeline("text-classification", str(folder), device="cpu")
    own = Artifact.open(folder).predict(said)
    for each, mine in zip(classify(said, truncation=True, batch_size=4), own, strict=True):
        assert each["label"] == mine.label and each["score"] == pytest.approx(mine.confidence, abs=1e-4)
    return type(AutoModelForSequenceClassification.from_pretrained(folder)).__name__


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_decoder_from_random_weights_classifies_too(tmp_path: Path, architecture: str) -> None:
    """Beside the commonest topic, which has 0.1 to 0.15."""
    init = {"architecture": architecture, "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 300}
    write_csv(tmp_path / "rows.csv", corpus_rows(160))
    described: dict[str, Any] = {
        "name": "described",
        "model": {"init": init, "max_length": 32},
        "data": {"train": "rows.csv", "audit": preparing.QUIET},
        "train": {**TRAIN, "learning_rate": 1e-2, "epochs": 6},
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "job.yaml").write_text(json.dumps(described), encoding="utf-8")  # JSON is YAML
    job = load_job(tmp_path / "job.yaml")
    base = base_of(job)
    evaluation, _ = score_run(job, prepared_of(job, base), train(job, base))
    assert evaluation.validation.metrics["f1_macro"].value > 0.5
    assert evaluation.baselines["majority"].f1_macro.value < 0.2

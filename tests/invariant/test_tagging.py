"""Tags of tokens: the loss is that of plain torch, and a job goes from spans to spans, all but Ray."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raysft.config import Job
from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.encode import IGNORED, TAGS, Encoding, tag_names
from raysft.corpus.tokens import TokenizedRows, from_tables
from raysft.corpus.windows import window_rows
from raysft.errors import DataError, UsageError
from raysft.evaluation.evaluation import Evaluation
from raysft.evaluation.reload import ReloadCheck
from raysft.evaluation.tagger import Tagger
from raysft.model.tagger import build_tagger
from raysft.plan.refusals import refuse_early
from raysft.prediction.artifact import Artifact
from raysft.prediction.files import predict_files
from raysft.prediction.scoring import evaluate_files
from raysft.prediction.texts import Reading
from raysft.run import score_run
from raysft.storage.layout import RunFolder, open_output
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import ranks
from raysft.training.dropout import RowDropout
from raysft.training.loop import Loop
from raysft.training.losses import gamma_of, softmax_losses
from raysft.training.precision import Precision
from raysft.training.tagging import Tagging, units_of
from raysft.training.worker import Outcome, Task, run_worker
from tests.support.jobs import write_base
from tests.support.language import write_causal_base
from tests.support.predicting import Heard
from tests.support.preparing import job_of, run
from tests.support.ranks import run_on_ranks
from tests.support.runs import lines_of, run_until, trajectory
from tests.support.tagged import TYPES, spans_in, tagged_rows, tagged_sections, write_tagged

CPU = torch.device("cpu")
NAMES = tag_names(TYPES)
SETTINGS = TrainSection(
    epochs=2, batch_size=16, learning_rate=3e-3, head_learning_rate=1e-2, seed=3, select="f1_micro", precision="fp32"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def windows(base: Base, count: int, seed: int) -> TokenizedRows:
    """Short texts and texts of several windows, as the shards of a job hold them."""
    rows = tagged_rows(count, seed) + tagged_rows(count // 4, seed + 1, joined=3)
    table = pa.table(
        {
            "row_id": pa.array(range(len(rows)), pa.int64()),
            "text": [row["text"] for row in rows],
            "label": [json.dumps(row["spans"]) for row in rows],
        }
    )
    return from_tables([window_rows(table, Encoding(TAGS, base.folder / "tokenizer.json", 16, NAMES))[0]])


def make_loop(
    base: Base, folder: Path, settings: TrainSection = SETTINGS, micro: int = 16, strategy: str = "ddp"
) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    train = windows(base, 60, 0)
    return Loop(
        model=build_tagger(base, ModelSection(), NAMES, settings.seed),
        objective=Tagging(train, windows(base, 20, 5), settings, 0, CPU, NAMES),
        settings=settings,
        micro_batch=micro,
        train=train,
        precision=Precision.plain(CPU),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        strategy=strategy,
    )


# --- the loop


def test_first_step_agrees_with_plain_torch_in_float64(base: Base, tmp_path: Path) -> None:
    """Step 1 without dropout: a model in double precision, one window at a time, torch's own mean over the words."""
    settings = SETTINGS.model_copy(update={"clip_norm": None})
    loop = make_loop(base, tmp_path, settings, micro=4)
    for module in loop.model.modules():
        if isinstance(module, RowDropout):
            module.p = 0.0
    reference = build_tagger(base, ModelSection(), NAMES, settings.seed).double().eval()
    logits, said = [], []
    for row in np.concatenate(loop.sampler.steps(0)[0]):
        ids = torch.from_numpy(loop.train.tokens(row).astype(np.int64))[None]
        tags = torch.from_numpy(units_of(loop.train.targets(row), len(NAMES), "spaced"))
        logits.append(reference(input_ids=ids).logits[0])
        said.append(tags)
    loss = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(said), ignore_index=IGNORED)
    torch.autograd.backward(loss)
    norm = torch.stack([(p.grad**2).sum() for p in reference.parameters() if p.grad is not None]).sum().sqrt()
    loop.run()
    found_loss, found_norm = trajectory(tmp_path)[0]
    # float32 against float64: seven digits, less what sums over some hundred terms cost.
    assert found_loss == pytest.approx(loss.item(), rel=1e-5)
    assert found_norm == pytest.approx(norm.item(), rel=1e-4)


def test_micro_batches_do_not_change_the_trajectory(base: Base, tmp_path: Path) -> None:
    """With dropout on: 1 micro-batch of 16 windows, and 4 of 4. float32 sums in another order differ by 1e-7 a step."""
    make_loop(base, tmp_path / "whole").run()
    make_loop(base, tmp_path / "split", micro=4).run()
    np.testing.assert_allclose(trajectory(tmp_path / "split"), trajectory(tmp_path / "whole"), rtol=1e-4, atol=1e-5)


def test_resumed_is_bit_identical(base: Base, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"save_every": 2})
    whole = make_loop(base, tmp_path / "whole", settings)
    whole.run()
    run_until(make_loop(base, tmp_path / "cut", settings), 3)
    again = make_loop(base, tmp_path / "cut", settings)
    again.run()
    assert again.resumed_from == 2
    assert ranks.weights_digest(again.model) == ranks.weights_digest(whole.model)


def run_loop(base: Base, folder: Path, strategy: str) -> None:
    make_loop(base, folder, micro=8, strategy=strategy).run()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_follow_the_trajectory_of_one(base: Base, tmp_path: Path, strategy: str) -> None:
    """With dropout on; and the ranks score together what one scores alone."""
    run_loop(base, tmp_path / "one", "ddp")
    run_on_ranks(2, run_loop, base, tmp_path / "two", strategy, folder=tmp_path / "ranks")
    np.testing.assert_allclose(trajectory(tmp_path / "two"), trajectory(tmp_path / "one"), rtol=1e-4, atol=1e-5)
    one, two = ([line for line in lines_of(tmp_path / name) if "validation_loss" in line] for name in ("one", "two"))
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["validation_loss"] == pytest.approx(mine["validation_loss"], rel=1e-4)
        assert theirs["validation_f1_micro"] == pytest.approx(mine["validation_f1_micro"], abs=0.02)


@pytest.mark.parametrize(
    ("spans", "units", "inside"),
    [
        ([[0, 6, "delivery"]], "spaced", [IGNORED, IGNORED, IGNORED, IGNORED]),
        ([[0, 4, "delivery"]], "words", [IGNORED, IGNORED, 2, 0]),
        ([[4, 6, "delivery"]], "words", [IGNORED, IGNORED, 0, 1]),
        ([[0, 1, "delivery"]], "pieces", [0, 0, 0, 0]),
        ([[0, 1, "delivery"], [1, 2, "delivery"], [5, 6, "delivery"]], "pieces", [1, 0, 0, 1]),
    ],
)
def test_units_are_as_wide_as_the_entities_let_them(
    base: Base, spans: list[list[Any]], units: str, inside: list[int]
) -> None:
    """The tokenizer cuts `xyz-is` into the letters of xyz, the hyphen and `is`."""
    table = pa.table({"row_id": [0], "text": ["xyz-is late"], "label": [json.dumps(spans)]})
    part = from_tables([window_rows(table, Encoding(TAGS, base.folder / "tokenizer.json", 16, NAMES))[0]])
    found = Tagging(part, part, SETTINGS, 0, CPU, NAMES)
    assert found.units == units
    first = NAMES.index("B-delivery") if spans[0][0] == 0 else 0
    expected = [each and each + NAMES.index("B-delivery") - 1 if each > 0 else each for each in inside]
    assert found.batch(np.array([0]), 0).targets.tolist() == [[IGNORED, first, *expected, 0, IGNORED]]


@pytest.mark.parametrize(
    "changed",
    [{"class_weights": {"B-delivery": 3.0, "O": 0.5}}, {"label_smoothing": 0.1}, {"loss": "focal", "focal_gamma": 1.5}],
    ids=["weights", "smoothing", "focal"],
)
def test_losses_are_those_of_the_tags_one_by_one(base: Base, changed: dict[str, Any]) -> None:
    """Of a weighted mean, with the losses of single targets as other tests compare them with plain torch."""
    settings = SETTINGS.model_copy(update=changed)
    part = windows(base, 10, 0)
    objective = Tagging(part, part, settings, 0, CPU, NAMES)
    rows = np.arange(len(part))
    batch = objective.batch(rows, 0)
    logits = torch.randn(*batch.targets.shape, len(NAMES), generator=torch.Generator().manual_seed(0))
    weight = changed.get("class_weights", {})
    total, count = 0.0, 0.0
    for scores, tag in zip(logits.flatten(0, 1), batch.targets.flatten().tolist(), strict=True):
        if tag != IGNORED:
            size = weight.get(NAMES[tag], 1.0)
            single = softmax_losses(scores[None], torch.tensor([tag]), settings.label_smoothing, gamma_of(settings))
            total, count = total + size * float(single), count + size
    assert float(objective.loss(logits, batch)) == pytest.approx(total, rel=1e-5)
    assert objective.weight(rows, 0) == pytest.approx(count)


def test_without_a_validation_part_there_are_no_scores(base: Base) -> None:
    part, none = windows(base, 4, 0), from_tables([])
    assert Tagging(part, none, SETTINGS, 0, CPU, NAMES).judge(lambda _: torch.zeros(0)).scores == {}


def test_a_decoder_tags_too_and_its_artifact_reloads(tmp_path: Path) -> None:
    """Its tokenizer names no padding token: the model gets one."""
    causal = resolve_base(str(write_causal_base(tmp_path / "base")))
    write_tagged(tmp_path / "tagged.jsonl", tagged_rows(60))
    job = job_of(tmp_path, causal.folder, **tagged_sections(train={"epochs": 1}))
    prepared, place = run(job), open_output(job.config.output).run(job.config.name)
    place.path.mkdir(parents=True)
    outcome = run_worker(Task(job.config, job.folder, causal, prepared, place, micro_batch=16, threads=1, gpu=False))
    assert isinstance(outcome, Outcome), outcome
    with ReloadCheck(place.model, place.probe) as check:
        assert check.finish() < 1e-4


def test_the_folder_of_another_tagger_is_refused(base: Base, tmp_path: Path) -> None:
    build_tagger(base, ModelSection(), ("O", "I-LOC", "I-PER"), 0).save_pretrained(tmp_path)  # type: ignore[operator]
    with pytest.raises(UsageError, match="are not O, then B- and I- of each type"):
        Tagger(tmp_path)


# --- the journey


@dataclass(frozen=True)
class Finished:
    """A trained job and what was measured of it."""

    job: Job
    run: RunFolder
    evaluation: Evaluation
    predictions: pa.Table

    @property
    def artifact(self) -> Artifact:
        return Artifact.open(self.run.model)


@pytest.fixture(scope="module")
def finished(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("job")
    write_tagged(folder / "tagged.jsonl", tagged_rows(160) + tagged_rows(20, 1, joined=4))
    job = job_of(folder, base.folder, **tagged_sections())
    prepared, place = run(job), open_output(job.config.output).run(job.config.name)
    place.path.mkdir(parents=True)
    refuse_early(job, base)
    outcome = run_worker(Task(job.config, job.folder, base, prepared, place, micro_batch=16, threads=1, gpu=False))
    assert isinstance(outcome, Outcome), outcome
    return Finished(job, place, *score_run(job, prepared, place))


def test_it_learns(finished: Finished) -> None:
    """A word alone says what it is: by seed 0.97 to 1. Giving no entity scores 0."""
    scores = finished.evaluation.test
    assert scores is not None
    assert scores.metrics["f1_micro"].value > 0.9
    assert finished.evaluation.labels == list(TYPES) and [each.label for each in scores.classes] == list(TYPES)


def test_the_scores_are_those_of_the_predictions(finished: Finished) -> None:
    """Of whole texts: nothing of the long ones is cut."""
    rows = [row for row in finished.predictions.to_pylist() if row["part"] == "test"]
    assert max(len(row["text"].split()) for row in rows) > 30
    true = {(row["row_id"], *span) for row in rows for span in json.loads(row["label"])}
    given = {(row["row_id"], *span) for row in rows for span in json.loads(row["predicted"])}
    found = finished.evaluation.test.metrics if finished.evaluation.test else {}
    assert found["f1_micro"].value == pytest.approx(2 * len(true & given) / (len(true) + len(given)))
    assert found["precision"].value == pytest.approx(len(true & given) / len(given))
    exact = np.mean([json.loads(row["label"]) == json.loads(row["predicted"]) for row in rows])
    assert found["accuracy"].value == pytest.approx(exact)


def test_the_artifact_is_a_stock_one_that_reloads(finished: Finished) -> None:
    from transformers import AutoModelForTokenClassification

    model: Any = AutoModelForTokenClassification.from_pretrained(finished.run.model)
    assert [model.config.id2label[index] for index in range(len(NAMES))] == list(NAMES)
    assert json.loads((finished.run.model / "raysft.json").read_text())["units"] == "spaced"
    with ReloadCheck(finished.run.model, finished.run.probe) as check:
        assert check.finish() < 1e-4


def test_entities_are_told_in_characters_of_the_text_as_it_was_given(finished: Finished) -> None:
    text = "  is\tmy\u0000 parcel\r\n late for e\u0301 the   doorstep " * 6
    (found,) = finished.artifact.predict([text])
    spans = json.loads(found.label)
    assert found.text == text and 0 < found.confidence <= 1  # type: ignore[operator]
    assert [[text[start:end], name] for start, end, name in spans] == [[text[s:e], n] for s, e, n in spans_in(text)]
    assert len(spans) == 18


def test_files_of_tokens_and_files_of_texts_are_read(finished: Finished, tmp_path: Path) -> None:
    conll = tmp_path / "more.conll"
    conll.write_text("my\tO\nparcel\tO\n\nthe\tO\nvan\tO\n", encoding="utf-8")
    found = predict_files(Artifact.open(finished.run.model), [str(conll)], ["hello"], Reading(), Heard())
    assert [(each.text, json.loads(each.label)) for each in found] == [
        ("my parcel", [[3, 9, "delivery"]]),
        ("the van", [[4, 7, "delivery"]]),
        ("hello", []),
    ]


def test_other_labelled_files_are_scored(finished: Finished, tmp_path: Path) -> None:
    more = write_tagged(tmp_path / "more.jsonl", tagged_rows(40, seed=9))
    found = evaluate_files(finished.run.model, [str(more)], finished.job, Heard())
    assert found.test is not None and found.test.metrics["f1_micro"].value > 0.9
    odd = write_tagged(tmp_path / "odd.jsonl", [{"text": "a planet", "spans": [[2, 8, "star"]]}])
    with pytest.raises(DataError, match=r"odd\.jsonl:1: label 'star' is not one of the model's"):
        evaluate_files(finished.run.model, [str(odd)], finished.job, Heard())

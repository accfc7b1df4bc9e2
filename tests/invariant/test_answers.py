"""Answers through the loop: packed rows follow the trajectory of padded ones and see nothing of each other; adapters
answer alone as they do merged."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from raysft.config.sections import JobConfig, LoraSection, ModelSection, TrainSection
from raysft.corpus.answers import Answering
from raysft.corpus.sampler import Batching, Sampler
from raysft.corpus.template import template_of
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.language import build_language_model, keeps_rows_apart
from raysft.plan.plan import choose_batching, choose_micro_rows
from raysft.storage.layout import RunFolder
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import ranks
from raysft.training.artifact import write_artifact
from raysft.training.language import Language, lesson_batch
from raysft.training.lessons import Answers, lesson_of
from raysft.training.loop import Loop
from raysft.training.precision import Precision
from raysft.training.worker import Task
from tests.support.answering import asked, write_chat_model
from tests.support.jobs import corpus_rows
from tests.support.ranks import run_on_ranks
from tests.support.runs import lines_of, run_until, trajectory

CPU = torch.device("cpu")
KINDS = ("llama", "gpt2")  # gpt2 has dropout
SETTINGS = TrainSection(
    epochs=2, batch_size=16, learning_rate=1e-3, head_learning_rate=1e-3, seed=3, select="loss", precision="fp32",
    batching="random",
)  # fmt: skip
SIZE = 256
RECORDS = [
    json.dumps(asked(row["text"], row["label"])) if number % 3 else json.dumps(asked("hi", "yes?", row["text"], "ok"))
    for number, row in enumerate(corpus_rows(80))
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: resolve_base(str(write_chat_model(folder / kind, kind))) for kind in KINDS}


def answering_of(base: Base) -> Answering:
    return Answering(template_of(base.folder), base.folder / "tokenizer.json", 160)


def rows_of(base: Base, records: list[str]) -> TokenizedRows:
    ids, marks, _ = answering_of(base).encode(records)
    return from_lists(ids, [-1] * len(ids), marks)


def make_loop(
    base: Base,
    folder: Path,
    packed: int | None = None,
    micro: int = 16,
    positions: int | None = None,
    settings: TrainSection = SETTINGS,
    model: ModelSection | None = None,
) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    model = model or ModelSection()
    network = build_language_model(base, model, "generation", settings.seed)
    train, validation = rows_of(base, RECORDS[:60]), rows_of(base, RECORDS[60:])
    lesson = lesson_of("generation", base.folder, network)
    return Loop(
        model=network,
        objective=Language(lesson, train, validation, settings.seed, 0, CPU, packed, sums=True),
        settings=settings,
        micro_batch=micro,
        micro_tokens=positions,
        train=train,
        precision=Precision.plain(CPU),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        model_settings=model,
        packed=packed,
    )


def require_same(folder: Path, one: str, other: str) -> None:
    """float32 sums in another order; after some steps rounding has grown."""
    np.testing.assert_allclose(trajectory(folder / other), trajectory(folder / one), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_follow_the_trajectory_of_padded_ones(bases: dict[str, Base], tmp_path: Path, kind: str) -> None:
    """With dropout on: its masks belong to rows wherever they stand. In one micro-batch, and in several."""
    make_loop(bases[kind], tmp_path / "padded").run()
    make_loop(bases[kind], tmp_path / "packed", SIZE).run()
    make_loop(bases[kind], tmp_path / "pieces", SIZE, micro=5, positions=2 * SIZE).run()
    require_same(tmp_path, "padded", "packed")
    require_same(tmp_path, "padded", "pieces")
    padded, packed = (lines_of(tmp_path / name)[-1] for name in ("padded", "packed"))
    assert packed["padding_share"] < 0.5 * padded["padding_share"] if "padding_share" in padded else True


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_sequence_see_nothing_of_each_other(bases: dict[str, Base], kind: str) -> None:
    """One conversation is changed: the logits of the others do not move, and are those that they have alone."""
    model = build_language_model(bases[kind], ModelSection(), "generation", 0).eval()
    assert keeps_rows_apart(model)
    lesson, some = Answers(1), np.arange(4)
    records = [json.dumps(asked(text, "no")) for text in ("is it", "and then", "where to", "who")]
    other = [*records[:1], json.dumps(asked("an", "ox")), *records[2:]]
    logits = []
    for each in (records, other):
        rows = rows_of(bases[kind], each)
        batch, counts = lesson_batch(lesson, rows, some, (0, 0), 0, CPU, SIZE)
        assert batch.inputs["input_ids"].shape[0] == 1
        with torch.inference_mode():
            found = model(**batch.inputs).logits[0]
        logits.append(found.split(counts.tolist()))
    for number in (0, 2, 3):
        # It may stand elsewhere in the sequence now, where float32 rounds otherwise; logits are of order 1.
        torch.testing.assert_close(logits[0][number], logits[1][number], rtol=0, atol=1e-5)
        alone, _ = lesson_batch(lesson, rows_of(bases[kind], records), np.array([number]), (0, 0), 0, CPU)
        with torch.inference_mode():
            torch.testing.assert_close(logits[0][number], model(**alone.inputs).logits[0], rtol=1e-4, atol=1e-4)
    assert (logits[0][1][0] - logits[1][1][0]).abs().max() > 0.1


def test_only_answers_are_learnt(bases: dict[str, Base], tmp_path: Path) -> None:
    """Step 1 against plain torch in float64: the mean over the tokens of answers and of their end marks."""
    loop = make_loop(bases["llama"], tmp_path, SIZE)
    reference = build_language_model(bases["llama"], ModelSection(), "generation", SETTINGS.seed).double().eval()
    rows = np.concatenate(loop.sampler.steps(0)[0])
    answering, losses = answering_of(bases["llama"]), []
    for row in rows:
        text, spans = answering.template.render(json.loads(RECORDS[row]))
        ids = torch.from_numpy(loop.train.tokens(row).astype(np.int64))
        with torch.no_grad():
            log_p = reference(input_ids=ids[None]).logits[0].log_softmax(-1)
        offsets = answering._offsets(text)
        for place, (start, end) in enumerate(offsets):
            if place and any(start < last and end > first for first, last in spans):
                losses.append(-float(log_p[place - 1, ids[place]]))
    loop.run()
    assert trajectory(tmp_path)[0][0] == pytest.approx(np.mean(losses), rel=1e-5)


def run_packed(base: Base, folder: Path) -> None:
    make_loop(base, folder, SIZE, micro=8).run()


def test_two_ranks_follow_the_trajectory_of_one(bases: dict[str, Base], tmp_path: Path) -> None:
    run_packed(bases["gpt2"], tmp_path / "one")
    run_on_ranks(2, run_packed, bases["gpt2"], tmp_path / "two", folder=tmp_path / "ranks")
    require_same(tmp_path, "one", "two")


def test_resumed_is_bit_identical(bases: dict[str, Base], tmp_path: Path) -> None:
    whole = make_loop(bases["gpt2"], tmp_path / "whole", SIZE)
    whole.run()
    run_until(make_loop(bases["gpt2"], tmp_path / "cut", SIZE), 6)
    second = make_loop(bases["gpt2"], tmp_path / "cut", SIZE)
    second.run()
    assert second.resumed_from == 4
    assert ranks.weights_digest(second.model) == ranks.weights_digest(whole.model)


def test_adapters_answer_alone_as_they_do_merged(bases: dict[str, Base], tmp_path: Path) -> None:
    """The folder as a stranger loads it: the merged model by transformers, the adapters by peft on their base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = bases["llama"]
    model = ModelSection(lora=LoraSection(r=4, alpha=8), base=str(base.folder))
    settings = SETTINGS.model_copy(update={"learning_rate": 2e-2})
    loop = make_loop(base, tmp_path / "run", settings=settings, model=model)
    loop.run()
    config = JobConfig(name="x", task="generation", data={"train": "x.jsonl"}, model=model, train=settings)  # type: ignore[arg-type]
    rows = {"row_id": list(range(60)), "record": RECORDS[:60]}
    import pyarrow as pa

    data: Any = SimpleNamespace(labels=(), digest="d", part=lambda _: pa.table(rows))
    task = Task(config, tmp_path, base, data, RunFolder(tmp_path / "run"), micro_batch=16, threads=1, gpu=False)
    write_artifact(task, base, loop)
    folder = tmp_path / "run" / "model"
    merged = AutoModelForCausalLM.from_pretrained(folder).eval()
    start = AutoModelForCausalLM.from_pretrained(base.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [
        tokenizer.apply_chat_template(json.loads(record)[:-1], add_generation_prompt=True, return_tensors="pt")
        for record in RECORDS[:5]
    ]
    prompts = [each["input_ids"] if not isinstance(each, torch.Tensor) else each for each in prompts]
    said = [merged.generate(each, max_new_tokens=12, do_sample=False).tolist() for each in prompts]
    adapted: Any = PeftModel.from_pretrained(start, folder / "adapter").eval()
    assert [adapted.generate(input_ids=each, max_new_tokens=12, do_sample=False).tolist() for each in prompts] == said
    with torch.inference_mode():
        for each in prompts:
            torch.testing.assert_close(adapted(input_ids=each).logits, merged(input_ids=each).logits, rtol=0, atol=1e-3)
    assert merged.generation_config.eos_token_id is not None and merged.generation_config.max_new_tokens == 128


def test_a_plan_knows_packing() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 200)
    settings = TrainSection(batch_size=32, batching="random")
    batching = choose_batching(settings, choose_micro_rows(settings), 1024, 128)
    assert batching == Batching(32, 32, None, 1024, False, 128)
    packed = Sampler(lengths, batching, 0, 1)
    padded = Sampler(lengths, choose_batching(settings, choose_micro_rows(settings), 1024), 0, 1)
    assert packed.positions(packed.steps(0)) < 0.75 * padded.positions(padded.steps(0))

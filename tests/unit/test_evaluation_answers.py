"""Scores of answers: what was written beside what should have been, on each part, in predictions and in other files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysft import pipeline
from raysft.config.sections import GenerationSection
from raysft.corpus.answers import Answering
from raysft.corpus.template import template_of
from raysft.corpus.tokens import from_lists
from raysft.errors import DataError
from raysft.evaluation.answers import SAMPLES, AnswerScorer, _chosen, baselines, evaluate_answers
from raysft.evaluation.evaluation import AnswerScores, Evaluation
from raysft.evaluation.reload import largest_difference
from raysft.metrics.answers import token_f1
from raysft.prediction.artifact import Artifact
from raysft.prediction.scoring import evaluate_files
from raysft.preparation.prepared import Prepared
from raysft.result import baselines_json, metrics_json
from tests.support import preparing
from tests.support.answering import asked, write_chat_model, write_scripted_model
from tests.support.jobs import corpus_rows, write_csv
from tests.support.predicting import Heard

SAID = "go him"
LENGTH = 128
COLUMNS = ["row_id", "source", "line", "unit", "text", "label", "prediction", "confidence", "exact_match", "token_f1"]
COLUMNS += ["ended", "loss", "tokens", "part"]


def section(**values: Any) -> GenerationSection:
    return GenerationSection.model_validate({"max_new_tokens": 16, **values})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It says "go him" whatever it is asked."""
    return write_scripted_model(tmp_path_factory.mktemp("model"), SAID + "<|im_end|>", max_length=LENGTH)


def rows(count: int = 60) -> list[dict[str, Any]]:
    """Every third answer is the model's own, every third has a word of it."""
    answers = [SAID, "go her", "stay"]
    return [{"prompt": row["text"], "answer": answers[at % 3]} for at, row in enumerate(corpus_rows(count))]


def prepare(folder: Path, base: Path, count: int = 60, **sections: Any) -> Prepared:
    preparing.write_lines(folder / "rows.jsonl", rows(count))
    data = {"train": "rows.jsonl", "group": None}
    job = preparing.job_of(folder, base, data=data, task="generation", model={"max_length": LENGTH}, **sections)
    return preparing.run(job)


@pytest.fixture(scope="module")
def prepared(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("data"), model)


@pytest.fixture(scope="module")
def found(model: Path, prepared: Prepared) -> tuple[Evaluation, pa.Table]:
    return evaluate_answers(prepared, model, section(), 7)


def by_hand(folder: Path, ids: list[int], marks: list[int]) -> tuple[float, int]:
    """(summed loss, tokens) of what is learnt of a row."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        log_p = plain(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    learnt = [at for at in range(1, len(ids)) if marks[at]]
    return -sum(float(log_p[at - 1, ids[at]]) for at in learnt), len(learnt)


# --- scores


def test_each_part_is_answered_and_scored(found: tuple[Evaluation, pa.Table], prepared: Prepared) -> None:
    evaluation, table = found
    assert table.column_names == COLUMNS and evaluation.scored_on == "test"
    for name, scores in (("test", evaluation.test), ("validation", evaluation.validation)):
        corpus = prepared.part(name)
        lines = [line for line in table.to_pylist() if line["part"] == name]
        assert [line["row_id"] for line in lines] == corpus.column("row_id").to_pylist() and len(lines) > 5
        assert isinstance(scores, AnswerScores)
        assert list(scores.metrics) == ["exact_match", "token_f1", "loss", "perplexity"]
        right = [label == SAID for label in corpus.column("label").to_pylist()]
        assert scores.metrics["exact_match"].value == pytest.approx(np.mean(right))
        f1 = [token_f1(SAID, label) for label in corpus.column("label").to_pylist()]
        assert scores.metrics["token_f1"].value == pytest.approx(np.mean(f1))
        assert {each.n for each in scores.metrics.values()} == {len(lines)}
        loss = sum(line["loss"] for line in lines) / sum(line["tokens"] for line in lines)
        assert scores.metrics["loss"].value == pytest.approx(loss)
        assert scores.metrics["perplexity"].value == pytest.approx(math.exp(loss))
        assert scores.ended == {"end mark": len(lines)}
    line = table.to_pylist()[0]
    assert line["prediction"] == SAID and line["ended"] == "end mark" and 0 < line["confidence"] < 1


def test_the_loss_is_that_of_the_tokens_learnt(
    found: tuple[Evaluation, pa.Table], prepared: Prepared, model: Path
) -> None:
    tokens = prepared.tokens("test")
    lines = {line["row_id"]: line for line in found[1].to_pylist()}
    for at in range(len(tokens)):
        loss, count = by_hand(model, tokens.tokens(at).tolist(), tokens.targets(at).tolist())
        assert lines[int(tokens.row_id[at])]["loss"] == pytest.approx(loss, rel=1e-4)
        assert lines[int(tokens.row_id[at])]["tokens"] == count > 0


def test_the_commonest_training_answer_is_the_rival(found: tuple[Evaluation, pa.Table], prepared: Prepared) -> None:
    (rival,) = found[0].baselines.values()
    labels = prepared.part("test").column("label").to_pylist()
    train = prepared.part("train").column("label").to_pylist()
    always = max(sorted(set(train)), key=train.count)
    mean = np.mean([token_f1(always, label) for label in labels])
    assert rival.token_f1.value == pytest.approx(mean)  # type: ignore[union-attr]
    ours = found[0].test
    assert ours is not None and rival.gain.value == pytest.approx(ours.metrics["token_f1"].value - mean)
    json.dumps([found[0].to_json(), metrics_json(found[0]), baselines_json(found[0])], allow_nan=False)


def test_of_answers_as_frequent_the_first_of_the_alphabet_counts(found: tuple[Evaluation, pa.Table]) -> None:
    table = found[1]
    assert baselines(["b", "a"], table) == baselines(["a"], table) and baselines([], table) == {}


def test_some_rows_are_answered_and_the_loss_counts_all(model: Path, prepared: Prepared) -> None:
    evaluation, table = evaluate_answers(prepared, model, section(rows=3), 7)
    again, _ = evaluate_answers(prepared, model, section(rows=3), 7)
    other, _ = evaluate_answers(prepared, model, section(rows=3), 8)
    assert evaluation.test is not None and evaluation.test == again.test != other.test
    size = prepared.part("test").num_rows
    assert {name: each.n for name, each in evaluation.test.metrics.items()} == {
        "exact_match": 3, "token_f1": 3, "loss": size, "perplexity": size,
    }  # fmt: skip
    (rival,) = evaluation.baselines.values()
    assert rival.gain.n == 3
    lines = [line for line in table.to_pylist() if line["part"] == "test"]
    assert len(lines) == size and sum(line["prediction"] is None for line in lines) == size - 3
    assert all(line["tokens"] > 0 for line in lines)
    assert all((line["prediction"] is None) == (line["exact_match"] is None) for line in lines)
    more, _ = evaluate_answers(prepared, model, section(rows=10**6), 7)
    assert more.test is not None and more.test.metrics["exact_match"].n == size


@given(st.integers(1, 60), st.none() | st.integers(1, 80), st.integers(0, 5))
def test_a_seeded_sample_of_rows(count: int, most: int | None, seed: int) -> None:
    chosen = _chosen(count, most, seed).tolist()
    assert len(chosen) == min(count, most or count) and sorted(set(chosen)) == chosen
    assert chosen == _chosen(count, most, seed).tolist() and set(chosen) <= set(range(count))


def test_samples_are_right_and_wrong_ones_the_worst_first(model: Path, tmp_path: Path) -> None:
    prepared = prepare(tmp_path, model, 150, folds={"k": 0, "test": "60%"})
    evaluation, _ = evaluate_answers(prepared, model, section(), 7)
    assert evaluation.validation is None and isinstance(evaluation.test, AnswerScores)
    samples = evaluation.test.samples
    assert len(samples) == SAMPLES and sum(each.exact_match for each in samples) == SAMPLES // 2
    assert [each.token_f1 for each in samples] == sorted(each.token_f1 for each in samples)
    assert len({each.where for each in samples}) == SAMPLES
    for each in samples:
        assert [turn["role"] for turn in each.turns] == ["user"]
        assert each.exact_match == (each.reference == SAID) and each.answer == SAID


# --- parts that are small, or not there


def test_without_a_test_part_the_validation_part_is_the_headline(model: Path, tmp_path: Path) -> None:
    prepared = prepare(tmp_path, model, folds={"test": 0})
    evaluation, table = evaluate_answers(prepared, model, section(), 7)
    assert evaluation.test is None and evaluation.scored_on == "validation" and evaluation.validation is not None
    assert evaluation.baselines and set(table.column("part").to_pylist()) == {"validation"}


def test_without_any_part_nothing_is_scored(model: Path, tmp_path: Path) -> None:
    evaluation, table = evaluate_answers(prepare(tmp_path, model, folds={"k": 0, "test": 0}), model, section(), 7)
    assert evaluation == Evaluation([], None, None, {}, "validation") and table.num_rows == 0


def corpus_of(folder: Path, answers: list[str], prompt: str = "why?") -> tuple[pa.Table, Any]:
    turns = [asked(prompt, answer) for answer in answers]
    table = pa.table(
        {
            "row_id": range(len(turns)), "source": ["a.csv"] * len(turns), "line": range(len(turns)),
            "unit": range(len(turns)), "text": [prompt] * len(turns), "label": answers,
            "record": [json.dumps(each) for each in turns],
        }
    )  # fmt: skip
    ids, marks, _ = Answering(template_of(folder), folder / "tokenizer.json", LENGTH).encode(
        table.column("record").to_pylist()
    )
    return table, from_lists(ids, [-1] * len(ids), marks)


def test_a_single_row(model: Path) -> None:
    scorer = AnswerScorer(model, section(), 0)
    corpus, tokens = corpus_of(model, [SAID])
    scores = scorer.score(corpus, scorer.rows(corpus, tokens, "test"))
    assert scores.metrics["exact_match"].value == 1 and scores.metrics["exact_match"].n == 1
    assert scores.metrics["exact_match"].low < 0.5 and len(scores.samples) == 1
    assert all(math.isfinite(each.low) and math.isfinite(each.high) for each in scores.metrics.values())


def test_a_model_that_only_ends(tmp_path: Path) -> None:
    folder = write_scripted_model(tmp_path, "<|im_end|>")
    scorer = AnswerScorer(folder, section(), 0)
    corpus, tokens = corpus_of(folder, ["yes", "größer 你好 🙂", "the"])
    table = scorer.rows(corpus, tokens, "test")
    assert table.column("prediction").to_pylist() == ["", "", ""]
    assert table.column("token_f1").to_pylist() == [0, 0, 1]  # "the" is an article: neither has a word
    assert scorer.score(corpus, table).metrics["exact_match"].value == 0


def test_long_prompts_lose_their_beginning_and_it_is_said(tmp_path: Path) -> None:
    folder, heard = write_chat_model(tmp_path, positions=64), Heard()
    scorer = AnswerScorer(folder, section(), 0, heard)
    corpus, tokens = corpus_of(folder, ["yes", "no"], "why? " * 400)
    table = scorer.rows(corpus, tokens, "test")
    assert table.num_rows == 2 and set(table.column("ended").to_pylist()) == {"max_new_tokens"}
    assert heard.notes == ["2 of 2 prompts lost their beginning: at most 48 tokens fit"]


# --- the artifact in a fresh process


@pytest.mark.parametrize("marks", [True, False])
def test_a_reloaded_model_computes_the_same_logits(tmp_path: Path, marks: bool) -> None:
    from tokenizers import Tokenizer, processors
    from transformers import AutoModelForCausalLM

    folder = write_chat_model(tmp_path, template=None)
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    first = tokenizer.token_to_id("<|im_start|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", first)]
    )
    tokenizer.save(path)
    text = "<|user|>\nwhy?\n<|assistant|>\nno\n"
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=marks).ids])
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=ids).logits[0]
    recorded = {
        "task": "generation", "marks": marks, "texts": [text],
        "logits": [logits.gather(1, ids[0][:, None])[:, 0].tolist()],
    }  # fmt: skip
    probe = tmp_path / "probe.json"
    probe.write_text(json.dumps(recorded))
    assert largest_difference(folder, probe) < 1e-5
    probe.write_text(json.dumps({**recorded, "texts": [], "logits": []}))
    assert largest_difference(folder, probe) == 0


# --- predictions


def test_texts_are_answered(model: Path) -> None:
    found = pipeline.predict(model, texts=["where", "größer 你好 🙂?", " ", json.dumps(asked("a", "b", "c"))])
    assert [each.label for each in found] == [SAID, SAID, "", SAID]
    assert found[2].error == "blank_text" and found[2].confidence is None
    assert found[3].text == "a\nb\nc" and found[0].probabilities == {} and 0 < found[0].confidence < 1
    artifact = Artifact.open(model)
    assert artifact.answerer is not None and artifact.tagger is None
    (alone,) = artifact.answer([asked("where")])
    assert alone.confidence == pytest.approx(found[0].confidence, abs=1e-5)


def test_files_hold_prompts_or_conversations(model: Path, tmp_path: Path) -> None:
    chats: list[Any] = [
        asked("a"),
        asked("a", "b", "c"),
        asked("a", "the answer is written anew"),
        [{"role": "system", "content": "be brief"}, *asked("a")],
        "a plain prompt",
        [{"role": "robot", "content": "x"}],
        [{"role": "assistant", "content": "nobody asked"}],
        [],
        {"text": "a"},
        None,
    ]
    path = preparing.write_lines(tmp_path / "chats.jsonl", [{"messages": chat} for chat in chats])
    output = tmp_path / "answers.jsonl"
    heard = Heard()
    written = pipeline.predict(model, [str(path)], output=output, column="messages", listener=heard)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["label"] for line in lines] == [SAID] * 5 + [""] * 5
    assert [line["text"] for line in lines[:5]] == ["a", "a\nb\nc", "a", "be brief\na", "a plain prompt"]
    assert [line["error"].partition(":")[0] for line in lines[5:]] == [
        "unknown_role", "blank_text", "blank_text", "text_is_not_text", "blank_text",
    ]  # fmt: skip
    assert (written.rows, written.predicted) == (10, 5) and "5 of 10 rows have no prediction" in heard.warnings[0]
    assert pipeline.predict(model, [str(path)], column="messages")[1].label == SAID


def test_answers_as_a_table(model: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "new.csv", [{"text": "where?"}, {"text": "why,\nplease?"}])
    pipeline.predict(model, [str(path)], output=tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["text"], line["label"], line["error"]) for line in lines] == [
        ("where?", SAID, ""),
        ("why,\nplease?", SAID, ""),
    ]


def test_what_a_template_refuses_is_the_error_of_its_row(tmp_path: Path) -> None:
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x:"
    folder = write_chat_model(tmp_path / "model", template=picky, facts={})
    chats = [asked("a"), [{"role": "system", "content": "be brief"}, *asked("b")]]
    path = preparing.write_lines(tmp_path / "chats.jsonl", [{"text": chat} for chat in chats])
    first, second = pipeline.predict(folder, [str(path)])
    assert first.error == "" and second.error.startswith("template_refuses: ") and "no system" in second.error


def test_an_input_beside_the_prompt_is_read_where_the_corpus_had_one(model: Path, tmp_path: Path) -> None:
    from raysft.prediction.texts import open_files, prompts_of

    path = write_csv(tmp_path / "a.csv", [{"text": "translate", "input": "Haus"}, {"text": "rest", "input": ""}])
    bare = write_csv(tmp_path / "b.csv", [{"text": "rest"}])
    from raysft.prediction.texts import Reading

    sources = open_files([str(path), str(bare)], Reading())
    found = list(prompts_of(sources, ["x"], "text", "input", template_of(model)))
    assert [row.text for row in found] == ["translate\n\nHaus", "rest", "rest", "x"]
    system = write_csv(tmp_path / "c.csv", [{"text": "hi", "system": "be brief"}])
    (row,) = prompts_of(open_files([str(system)], Reading()), [], "text", "system", template_of(model))
    assert [turn["role"] for turn in row.turns] == ["system", "user"]


# --- other files


def test_other_files_are_scored_as_the_job_says(model: Path, tmp_path: Path) -> None:
    preparing.write_lines(tmp_path / "rows.jsonl", rows(30))
    settings: dict[str, Any] = {"data": {"train": "rows.jsonl", "group": None}, "task": "generation"}
    job = preparing.job_of(tmp_path, model, model={"max_length": LENGTH}, **settings)
    fresh = preparing.write_lines(tmp_path / "fresh.jsonl", [*rows(9), {"prompt": "no answer", "answer": ""}])
    heard = Heard()
    with pytest.raises(DataError, match=r"1 of 10 rows rejected.*blank_answer 1"):
        evaluate_files(model, [str(fresh)], job, heard)
    fresh = preparing.write_lines(tmp_path / "fresh.jsonl", rows(9))
    found = evaluate_files(model, [str(fresh)], job, heard)
    assert found.test is not None and found.validation is None
    assert found.test.metrics["exact_match"].value == pytest.approx(1 / 3)
    assert found.test.metrics["loss"].n == 9 and heard.notes[-1] == "rows: 9 read = 9 kept + 0 rejected"

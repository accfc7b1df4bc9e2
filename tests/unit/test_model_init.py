"""A model that the job file describes: what is refused, the tokenizer it learns, a folder that is whole or absent."""

from __future__ import annotations

import functools
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysft.claim import claim, identity
from raysft.config import Job, load_job
from raysft.config.model import InitSection
from raysft.corpus import vocabulary
from raysft.corpus.template import template_of
from raysft.corpus.vocabulary import CHAT, DECODER, ENCODER, bounded, learn_tokenizer
from raysft.errors import JobFileError, NotFound, UsageError
from raysft.model.scratch import inner_width, model_config, write_model
from raysft.plan.preflight import check_job
from raysft.plan.size import model_size
from raysft.preparation import start
from raysft.preparation.address import open_sources
from raysft.preparation.start import base_of, training_texts
from raysft.storage.commit import ASIDE, is_whole, sha256_file
from raysft.storage.layout import Output
from raysft.storage.pretrained import Base, resolve_base
from tests.support.jobs import corpus_rows, write_csv

SMALL = {"architecture": "llama", "layers": 1, "hidden": 16, "heads": 2, "vocabulary": 300}
COMMANDS = ["jump twice and walk", "walk after jump", "I_JUMP I_JUMP I_TURN_RIGHT", "I_TURN_RIGHT I_WALK"]
PAIRS = [
    {"prompt": f"{word} {count} times", "answer": " ".join([f"I_{word.upper()}"] * count)}
    for word in ("jump", "walk", "run")
    for count in range(1, 9)
]


def job_of(folder: Path, init: dict[str, Any] | None = None, task: str = "causal-lm", **sections: Any) -> Job:
    """A job over ten small texts, or over questions and answers; sections are merged over its own."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "train.csv").is_file():
        write_csv(folder / "train.csv", corpus_rows(10))
        write_csv(folder / "pairs.csv", PAIRS)
    job: dict[str, Any] = {
        "name": "described",
        "task": task,
        "model": {"init": {**SMALL, **(init or {})}, "max_length": 32},
        "data": {"train": "pairs.csv" if task == "generation" else "train.csv"},
        "train": {"epochs": 1, "precision": "fp32"},
        "output": str(folder / "out"),
    }
    for name, values in sections.items():
        job[name] = {**job[name], **values} if isinstance(values, dict) else values
    path = folder / "job.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")  # JSON is YAML
    return load_job(path)


@pytest.mark.parametrize(
    ("init", "key", "words"),
    [
        ({"heads": 3}, "model.init.heads", r"must divide hidden \(16\) into even widths, such as 1, 2, 4; found 3"),
        ({"hidden": 12, "heads": 4}, "model.init.heads", "into even widths, such as 2, 3, 6; found 4"),
        ({"architecture": "gpt2", "heads": 3}, "model.init.heads", r"must divide hidden \(16\), such as 1, 2, 4; "),
        ({"hidden": "wide"}, "model.init.hidden", "whole number|integer"),
        ({"vocabulary": 200}, "model.init.vocabulary", "264"),
        ({"architecture": "mamba"}, "model.init.architecture", "'llama', 'gpt2' or 'bert'"),
        ({"layer": 3}, "model.init.layer", "did you mean `layers`"),
    ],
)
def test_a_description_that_cannot_be_is_refused_by_its_key(
    tmp_path: Path, init: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(JobFileError, match=words) as refused:
        job_of(tmp_path, init)
    assert [problem.key for problem in refused.value.problems] == [key]


@pytest.mark.parametrize("other", [{"base": "sentence-transformers/all-MiniLM-L6-v2"}, {"revision": "abc"}])
def test_a_base_beside_a_description_is_refused(tmp_path: Path, other: dict[str, str]) -> None:
    with pytest.raises(JobFileError, match=f"init starts from random weights, {next(iter(other))} belongs to"):
        job_of(tmp_path, model={"init": SMALL, **other})


@pytest.mark.parametrize(
    ("architecture", "task", "words"),
    [
        ("bert", "generation", "bert is an encoder; task: generation needs llama or gpt2"),
        ("bert", "causal-lm", "needs llama or gpt2"),
        ("llama", "masked-lm", "llama is a decoder; task: masked-lm needs bert"),
        ("gpt2", "token-classification", "needs bert"),
    ],
)
def test_an_architecture_that_is_not_for_the_task_is_refused(
    tmp_path: Path, architecture: str, task: str, words: str
) -> None:
    with pytest.raises(JobFileError, match=rf"job\.yaml:1: model\.init\.architecture: .*{words}"):
        base_of(job_of(tmp_path, {"architecture": architecture}, task))


def test_texts_must_fit_into_the_positions(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match=r"model\.init\.positions: at least model\.max_length \(32\), found 16"):
        base_of(job_of(tmp_path, {"positions": 16}))
    shorter = resolve_base(str(base_of(job_of(tmp_path, {"architecture": "gpt2"})).folder))
    with pytest.raises(JobFileError, match=r"model\.max_length: at most 32 for"):
        check_job(job_of(tmp_path, model={"max_length": 64, "init": None, "base": str(shorter.folder)}), shorter)


@functools.cache
def learnt(kind: str) -> Any:
    return learn_tokenizer(COMMANDS * 5, 400, DECODER if kind == "decoder" else ENCODER)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@given(st.text() | st.text(st.sampled_from(" \t\r\n\0a_é😀漢|<>end"), max_size=30))
def test_any_text_is_written_and_read_back_to_the_character(kind: str, text: str) -> None:
    ids = learnt(kind).encode(text, add_special_tokens=False).ids
    assert learnt(kind).decode(ids, skip_special_tokens=False) == text
    if not any(mark in text for mark in (*DECODER.tokens, *ENCODER.tokens)):
        whole = learnt(kind).encode(text).ids  # with marks around it, which are left out again
        assert learnt(kind).decode(whole, skip_special_tokens=True) == text


@given(st.lists(st.sampled_from([*DECODER.tokens, " ", "  ", "jump", "\n", "a b"]), max_size=8))
def test_marks_within_a_text_change_nothing_around_them(parts: list[str]) -> None:
    text = "".join(parts)
    tokenizer = learnt("decoder")
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_word_is_one_token_and_the_same_one_wherever_it_stands() -> None:
    tokenizer = learnt("decoder")
    assert tokenizer.encode("I_TURN_RIGHT").tokens == ["ĠI_TURN_RIGHT"]
    assert tokenizer.encode("jump and jump").tokens == ["Ġjump", "Ġand", "Ġjump"]
    assert tokenizer.encode("<|user|>jump<|end|>").tokens == ["<|user|>", "Ġjump", "<|end|>"]


def test_an_encoder_keeps_words_and_punctuation_apart_and_says_where_they_stand() -> None:
    text = "walk, walk"
    found = learnt("encoder").encode(text)
    assert found.tokens[0] == "[CLS]" and found.tokens[-1] == "[SEP]"
    words = {word: found.word_to_chars(word) for word in found.word_ids if word is not None}
    assert [text[first:last] for first, last in words.values()] == ["walk", ",", "walk"]


def test_a_tokenizer_is_the_same_in_another_process() -> None:
    said = [row["text"] for row in corpus_rows(300)]
    code = (
        "import json, sys; from raysft.corpus.vocabulary import *\n"
        "print(learn_tokenizer(json.load(sys.stdin), 500, DECODER).to_str())"
    )
    run = functools.partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run(input=json.dumps(said)).stdout.strip() == learn_tokenizer(said, 500, DECODER).to_str()


def test_no_more_texts_are_looked_at_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "MOST_TEXTS", 3)
    assert list(bounded("abcde")) == ["a", "b", "c"]
    monkeypatch.setattr(vocabulary, "MOST_CHARACTERS", 5)
    assert list(bounded(["aaa", "bbb", "ccc"])) == ["aaa", "bb"]


def test_it_learns_from_usable_training_rows_alone(tmp_path: Path) -> None:
    rows = [
        {"text": "seen", "label": "a", "part": "train"},
        {"text": "marked", "label": "a", "part": "test"},
        {"text": "checked", "label": "a", "part": "validation"},
        {"text": "unlabelled", "label": "", "part": "train"},
    ]
    write_csv(tmp_path / "rows.csv", rows)
    write_csv(tmp_path / "other.csv", [{"text": "sealed", "label": "a", "part": "train"}])
    data = {"train": "rows.csv", "test": "other.csv", "split": "part"}
    job = job_of(tmp_path, {"architecture": "bert"}, "classification", data=data)
    assert list(training_texts(job.config, open_sources(job))) == ["seen"]


def test_of_conversations_it_learns_each_turn(tmp_path: Path) -> None:
    job = job_of(tmp_path, task="generation")
    said = list(training_texts(job.config, open_sources(job)))
    assert said[:2] == ["jump 1 times", "I_JUMP"] and len(said) == 2 * len(PAIRS)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_folder_is_a_base_like_any_other(tmp_path: Path, architecture: str, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    task = "masked-lm" if architecture == "bert" else "causal-lm"
    base = base_of(job_of(tmp_path, {"architecture": architecture, "tied": tied}, task))
    assert base.name == f"{architecture} 1x16 from scratch" and base.revision == "local folder"
    assert base.folder.parent == tmp_path / "out" / "bases"
    kind: Any = AutoModelForMaskedLM if architecture == "bert" else AutoModelForCausalLM
    model, tokenizer = kind.from_pretrained(base.folder), AutoTokenizer.from_pretrained(base.folder)
    assert model.config.vocab_size == len(tokenizer) == 300 and model.dtype == torch.float32
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert tokenizer.pad_token_id == model.config.pad_token_id == 0
    assert tokenizer.mask_token == ("[MASK]" if architecture == "bert" else None)
    if architecture != "bert":
        assert tokenizer.eos_token == vocabulary.END and tokenizer.eos_token_id == model.config.eos_token_id
    assert tokenizer.decode(tokenizer(" a  parcel\r\n").input_ids, skip_special_tokens=True) == " a  parcel\r\n"
    size = model_size(base)
    stored = sum(p.numel() for p in model.parameters())
    assert (size.hidden, size.layers, size.inner) == (16, 1, 64) and size.parameters == stored


def test_a_conversation_is_written_as_its_template_says(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = base_of(job_of(tmp_path, task="generation"))
    template, tokenizer = template_of(base.folder), AutoTokenizer.from_pretrained(base.folder)
    assert template.source == CHAT == tokenizer.chat_template and template.has_special_tokens
    turns = [
        {"role": "system", "content": " be brief"},
        {"role": "user", "content": "jump 2 times"},
        {"role": "assistant", "content": "I_JUMP I_JUMP\n"},
        {"role": "user", "content": "walk"},
        {"role": "assistant", "content": "I_WALK"},
    ]
    text, answers = template.render(turns)
    assert [text[first:last] for first, last in answers] == ["I_JUMP I_JUMP\n<|end|>", "I_WALK<|end|>"]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == text
    ids = tokenizer.apply_chat_template(turns)["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 5 and tokenizer.decode(ids) == text
    assert base.config["max_position_embeddings"] == 32 + 128  # an answer has its place behind a prompt


def test_the_same_job_finds_the_same_folder_and_another_place_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random.seed(1)
    torch.manual_seed(1)
    first = base_of(job_of(tmp_path / "a"))
    second = base_of(job_of(tmp_path / "b"))
    assert first.folder.name == second.folder.name and first.folder != second.folder
    assert contents(first) == contents(second)
    monkeypatch.setattr(start, "write_model", None)  # is not called again
    assert base_of(job_of(tmp_path / "a")) == first


def contents(base: Base) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in base.folder.iterdir()}


def test_what_changes_the_bytes_changes_the_folder_and_nothing_else_does(tmp_path: Path) -> None:
    def folder(**sections: Any) -> str:
        job = job_of(tmp_path, **sections)
        return start.init_digest(job.config, open_sources(job), None)

    first = folder()
    write_csv(tmp_path / "other.csv", corpus_rows(3, seed=5))
    same = [folder(train={"epochs": 9}), folder(name="x"), folder(data={"test": "other.csv"})]
    assert set(same) == {first}
    others = [folder(train={"seed": 8}), folder(init={"layers": 2}), folder(model={"init": SMALL, "max_length": 16})]
    (tmp_path / "train.csv").write_text("text\nanother text\n", encoding="utf-8")
    assert len({first, *others, folder()}) == 5


def test_what_a_killed_writer_left_is_no_base_and_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(folder: Path, *_: Any) -> int:
        (folder / "model.safetensors").write_bytes(b"half")
        shutil.copytree(folder, folder.with_name(folder.name.partition(ASIDE)[0] + ASIDE + "0badc0de"))
        raise KeyboardInterrupt

    job = job_of(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(start, "write_model", die)
        base_of(job)
    left = list((tmp_path / "out" / "bases").glob("[!.]*"))
    assert len(left) == 1 and ASIDE in left[0].name
    base = base_of(job)
    assert is_whole(base.folder) and list((tmp_path / "out" / "bases").glob("[!.]*")) == [base.folder]


def test_a_damaged_folder_is_built_anew(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    whole = base_of(job)
    with (whole.folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert base_of(job) == whole and is_whole(whole.folder)


def test_building_leaves_the_generator_of_the_process_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    base_of(job_of(tmp_path))
    assert torch.equal(torch.rand(4), expected)


def test_a_tokenizer_that_is_there_is_used_with_its_own_vocabulary(tmp_path: Path, base_folder: Path) -> None:
    from transformers import AutoTokenizer

    alone = shutil.copytree(base_folder, tmp_path / "tokens")
    (alone / "model.safetensors").unlink()
    (alone / "config.json").unlink()
    base = base_of(job_of(tmp_path, {"tokenizer": "tokens"}))
    theirs, ours = (AutoTokenizer.from_pretrained(folder) for folder in (base_folder, base.folder))
    assert base.config["vocab_size"] == len(theirs)
    assert ours("the parcel is late").input_ids == theirs("the parcel is late").input_ids
    again = base_of(job_of(tmp_path, {"tokenizer": str(base_folder), "vocabulary": 999}))
    assert again.config["vocab_size"] == len(theirs)


def test_a_tokenizer_that_cannot_be_used_is_refused_by_its_key(tmp_path: Path, base_folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"^model\.init\.tokenizer: no such folder"):
        base_of(job_of(tmp_path, {"tokenizer": "./nowhere"}))
    with pytest.raises(UsageError, match=r"model\.init\.tokenizer: empty has no tokenizer\.json"):
        base_of(job_of(tmp_path, {"tokenizer": "empty"}))
    with pytest.raises(JobFileError, match=r"model\.init\.tokenizer: names no mask token"):
        base_of(job_of(tmp_path, {"architecture": "bert", "tokenizer": str(base_folder)}, "masked-lm"))


def test_a_run_is_known_by_what_was_built_and_its_job_file_runs_again(tmp_path: Path, base_folder: Path) -> None:
    shutil.copytree(base_folder, tmp_path / "tokens")
    job = job_of(tmp_path, {"tokenizer": "tokens"})
    base = base_of(job)
    mine = identity(job, base, "data")
    assert mine["settings"]["model"]["base"] == base.identity and "init" not in mine["settings"]["model"]
    run = Output(tmp_path / "out").run("described")
    claim(job, base, mine, run)
    assert base_of(load_job(run.job)) == base


@pytest.mark.parametrize(("hidden", "llama"), [(256, 704), (192, 512), (64, 192)])
def test_the_width_within_a_layer(hidden: int, llama: int) -> None:
    assert inner_width(InitSection(hidden=hidden)) == llama
    assert inner_width(InitSection(architecture="gpt2", hidden=hidden)) == 4 * hidden
    assert inner_width(InitSection(hidden=hidden, inner=100)) == 100


def test_another_seed_draws_other_weights(tmp_path: Path) -> None:
    config = model_config(InitSection(layers=1, hidden=16, heads=2), 32, 300, {"eos_token_id": 1})
    for seed in (1, 2):
        assert write_model(tmp_path / str(seed), config, seed) > 0
    first, second = (sha256_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    assert first != second
    assert config.bos_token_id is None and config.pad_token_id is None

"""Answers are what the model would write if each prompt were alone, and they end where they should."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.config.sections import GenerationSection
from raysft.corpus.messages import Turn
from raysft.corpus.template import PLAIN, Template, template_of
from raysft.evaluation.decoding import (
    END_MARK,
    MOST_TOKENS,
    STOP_TEXT,
    Answerer,
    Choice,
    Prompts,
    _least,
    padded_left,
)
from raysft.events import Silent
from tests.support.answering import asked, write_chat_model, write_scripted_model
from tests.support.tokenizers import MARKS

QUESTIONS = [
    asked("where is my parcel"),
    asked("hi"),
    asked("größer als naïve 你好 🙂", "yes", "and then? " * 6),
    asked("one two three four five, of course " * 3),
    asked("x" * 40, "42", "y"),
]


def section(**values: Any) -> GenerationSection:
    return GenerationSection.model_validate(values)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp(request.param), request.param)


@functools.cache
def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def by_hand(folder: Path, ids: list[int], tokens: int) -> tuple[list[int], float]:
    """(the likeliest next tokens, their mean log-probability), the whole text computed anew for each."""
    plain = loaded(folder)
    found: list[int] = []
    log_p: list[float] = []
    for _ in range(tokens):
        with torch.inference_mode():
            logits = plain(input_ids=torch.tensor([[*ids, *found]])).logits[0, -1].log_softmax(-1)
        found.append(int(logits.argmax()))
        log_p.append(float(logits.max()))
    return found, float(np.mean(log_p))


# --- batches


def test_a_batch_of_different_lengths_is_each_prompt_alone(model: Path) -> None:
    answerer = Answerer(model, section(max_new_tokens=16))
    tokens = [answerer.prompts.tokens(turns, answerer.room)[0] for turns in QUESTIONS]
    assert len({len(each) for each in tokens}) == len(tokens)
    together = [ids for ids, _ in answerer._written(tokens, range(len(tokens)))]
    alone = [answerer._written([each], [0])[0][0] for each in tokens]
    assert together == alone
    assert together == [by_hand(model, each, 16)[0] for each in tokens]
    assert len({tuple(each) for each in together}) > 3  # they do not all say the same


def test_answers_stand_in_the_order_of_the_prompts_whatever_the_batches(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = Answerer(model, section(max_new_tokens=12))
    expected = [answerer.answer([turns])[0] for turns in QUESTIONS]
    monkeypatch.setattr("raysft.evaluation.decoding.EVAL_BATCH", 2)
    found = answerer.answer(QUESTIONS)
    assert [each.text for each in found] == [each.text for each in expected]
    for each, own in zip(found, expected, strict=True):
        assert each.log_p == pytest.approx(own.log_p, abs=1e-5) and each.tokens == 12 and each.ended == MOST_TOKENS


def test_the_confidence_is_the_mean_log_probability_of_the_tokens(model: Path) -> None:
    answerer = Answerer(model, section(max_new_tokens=7))
    (found,) = answerer.answer([QUESTIONS[0]])
    ids, _ = answerer.prompts.tokens(QUESTIONS[0], answerer.room)
    assert found.log_p == pytest.approx(by_hand(model, ids, 7)[1], abs=1e-5)


def test_progress_is_told_and_nothing_asked_is_nothing_answered(model: Path) -> None:
    told: list[tuple[int, int]] = []

    class Told(Silent):
        def progress(self, done: int, total: int, text: str) -> None:
            told.append((done, total))

    answerer = Answerer(model, section(max_new_tokens=2))
    answerer.answer(QUESTIONS, listener=Told())
    assert told[-1] == (5, 5)
    assert answerer.answer([]) == []


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5))
def test_padding_stands_on_the_left(prompts: list[list[int]]) -> None:
    ids, mask = padded_left(prompts, 0)
    assert [row[row > 0].tolist() for row in ids] == prompts and torch.equal(mask, (ids > 0).long())
    assert bool(mask[:, -1].all()) and ids.shape == (len(prompts), max(map(len, prompts)))


# --- drawing


def test_drawn_tokens_depend_on_seed_and_row_and_not_on_the_batch(model: Path) -> None:
    answerer = Answerer(model, section(max_new_tokens=16, temperature=1.5))
    together = answerer.answer(QUESTIONS, numbers=[7, 3, 9, 1, 4])
    alone = [answerer.answer([turns], numbers=[row])[0] for turns, row in zip(QUESTIONS, [7, 3, 9, 1, 4], strict=True)]
    assert [each.text for each in together] == [each.text for each in alone]
    other = answerer.answer([QUESTIONS[0]], numbers=[8])[0]
    assert other.text != together[0].text
    answerer._seed = 5
    assert answerer.answer([QUESTIONS[0]], numbers=[7])[0].text != together[0].text
    greedy = Answerer(model, section(max_new_tokens=16)).answer(QUESTIONS)
    assert [each.text for each in greedy] != [each.text for each in together]


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -30.0]]).repeat(4000, 1)
    choice = Choice(section(temperature=2.0), 0, range(4000), 1)
    drawn = choice(torch.zeros(4000, 1), logits).argmax(-1).bincount(minlength=4) / 4000
    wanted = (logits[0] / 2).softmax(-1)
    assert drawn.numpy() == pytest.approx(wanted.numpy(), abs=0.03)
    assert choice.log_p[0][0] == pytest.approx(float(logits[0].log_softmax(-1).max()), abs=2.0)


def test_top_p_draws_among_the_likeliest_that_reach_it() -> None:
    p = torch.tensor([[0.1, 0.5, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    assert _least(p, 0.5).tolist() == [[0.5], [0.25]]
    assert _least(p, 0.51).tolist() == [[0.3], [0.25]]
    assert _least(p, 1.0).tolist() == [[0.1], [0.25]]
    choice = Choice(section(temperature=1.0, top_p=0.6), 0, range(500), 1)
    drawn = choice(torch.zeros(500, 1), p[:1].log().repeat(500, 1)).argmax(-1)
    assert set(drawn.tolist()) == {1, 2}


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20), st.floats(0.01, 10), st.floats(0.01, 1))
@settings(max_examples=50)
def test_whatever_is_drawn_has_a_probability(logits: list[float], temperature: float, top_p: float) -> None:
    choice = Choice(section(temperature=temperature, top_p=top_p), 0, range(8), 1)
    scores = torch.tensor([logits] * 8, dtype=torch.float32)
    kept = choice(torch.zeros(8, 1), scores)
    assert torch.isfinite(kept).sum(-1).tolist() == [1] * 8
    assert bool(((scores / temperature).softmax(-1).gather(1, kept.argmax(-1)[:, None]) > 0).all())


def test_temperature_0_takes_the_likeliest() -> None:
    kept = Choice(section(), 0, [0], 1)(torch.zeros(1, 1), torch.tensor([[0.0, 3.0, 1.0]]))
    assert kept.tolist() == [[-math.inf, 0.0, -math.inf]]


# --- ends


def scripted(folder: Path, said: str, template: str | None = None, **values: Any) -> tuple[str, str, int]:
    given = {} if template is None else {"template": template}
    answerer = Answerer(write_scripted_model(folder, said, **given), section(**{"max_new_tokens": 30, **values}))
    found = answerer.answer([asked("where"), asked("where is my parcel where")])
    assert found[0].text == found[1].text and found[0].ended == found[1].ended
    return found[0].text, found[0].ended, found[0].tokens


def test_the_mark_of_the_template_ends_an_answer(tmp_path: Path) -> None:
    text, ended, tokens = scripted(tmp_path, "go him<|im_end|>")
    assert (text, ended) == ("go him", END_MARK) and tokens < 10


def test_an_answer_that_is_nothing_but_its_end_is_empty(tmp_path: Path) -> None:
    assert scripted(tmp_path / "a", "<|im_end|>") == ("", END_MARK, 1)
    assert scripted(tmp_path / "b", "STOP", stop=["STOP"])[:2] == ("", STOP_TEXT)


def test_a_model_that_never_ends_is_stopped(tmp_path: Path) -> None:
    text, ended, tokens = scripted(tmp_path, "go him", max_new_tokens=20)
    assert text.startswith("go him") and (ended, tokens) == (MOST_TOKENS, 20)


def test_an_answer_ends_before_the_first_stop_text(tmp_path: Path) -> None:
    text, ended, tokens = scripted(tmp_path, "go him;ENDbut<|im_end|>", stop=["but", "END"])
    assert (text, ended) == ("go him;", STOP_TEXT) and tokens < 20


def test_a_stop_text_may_be_of_other_letters_or_a_mark(tmp_path: Path) -> None:
    assert scripted(tmp_path / "a", "ja ü你x<|im_end|>", stop=["你"])[:2] == ("ja ü", STOP_TEXT)
    assert scripted(tmp_path / "b", "ja<|im_start|>x", stop=["<|im_start|>"])[:2] == ("ja", STOP_TEXT)
    assert scripted(tmp_path / "c", "ja<|im_end|>", stop=["<|im_end|>"])[:2] == ("ja", STOP_TEXT)


def test_plain_words_of_the_template_end_an_answer(tmp_path: Path) -> None:
    words = CLOSED_BY_WORDS
    assert Template(words).closing == "\n[END]\n"
    assert scripted(tmp_path, "go him\n[END]", template=words)[:2] == ("go him", END_MARK)


CLOSED_BY_WORDS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n[END]\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def test_ends_of_text_are_those_of_tokenizer_config_and_generation_config(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    folder = write_chat_model(tmp_path, template=None)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert Answerer(folder)._ends.marks == frozenset()
    model.generation_config = GenerationConfig(eos_token_id=[3, 4], repetition_penalty=9.0)
    model.config.eos_token_id = 5
    model.save_pretrained(folder)
    tokenizer.eos_token = MARKS[0]
    tokenizer.save_pretrained(folder)
    answerer = Answerer(folder)
    assert answerer._ends.marks == {3, 4, 5, tokenizer.eos_token_id}
    assert answerer.model.generation_config.repetition_penalty is None  # a base's own habits are not the job's


def test_what_a_tokenizer_adds_behind_a_text_ends_an_answer_and_no_prompt(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    folder = write_chat_model(tmp_path, template=None)
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    first, last = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", first), ("<|im_end|>", last)]
    )
    tokenizer.save(path)
    prompts = Prompts(folder)
    ids, _ = prompts.tokens(asked("hi"), 100)
    assert ids[0] == first and last not in ids and prompts.end_tokens() == {last}
    short, cut = prompts.tokens(asked("hi"), 5)
    assert short == [first, *ids[-4:]] and cut == len(ids) - 5


# --- long prompts


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_prompt_longer_than_the_model_reads_loses_its_beginning(kind: str, tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path, kind, positions=64)
    answerer = Answerer(folder, section(max_new_tokens=16))
    assert (answerer.room, answerer.new_tokens) == (48, 16)
    long, short = answerer.answer([asked("why? " * 500), asked("why?")])
    assert long.cut > 1000 and short.cut == 0 and long.tokens == short.tokens == 16
    ids, cut = answerer.prompts.tokens(asked("why? " * 500), 48)
    whole, _ = answerer.prompts.tokens(asked("why? " * 500), 10**6)
    assert len(ids) == 48 and cut == len(whole) - 48 and ids[1:] == whole[-47:] and ids[0] == whole[0]
    assert answerer.prompts.tokens(asked("why? " * 500), 1)[0] == whole[-1:]


def test_no_more_is_cut_than_an_answer_needs(tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path, positions=64, facts={"max_length": 40})
    assert Answerer(folder, section(max_new_tokens=8)).room == 40  # as many as training kept
    crowded = Answerer(folder, section(max_new_tokens=500))
    assert (crowded.room, crowded.new_tokens) == (32, 32)
    (found,) = crowded.answer([asked("why? " * 100)])
    assert found.tokens == 32 and found.ended == MOST_TOKENS


def test_settings_come_from_the_job_of_the_model_unless_given(tmp_path: Path) -> None:
    job = {"generation": {"max_new_tokens": 3, "stop": ["x"]}, "train": {"seed": 11}}
    folder = write_chat_model(tmp_path, facts={"max_length": 30, "job": job})
    answerer = Answerer(folder)
    assert answerer.settings == section(max_new_tokens=3, stop=("x",)) and answerer._seed == 11
    assert Answerer(folder, section(max_new_tokens=4)).settings.max_new_tokens == 4


# --- prompts


def test_a_prompt_is_the_beginning_of_what_was_learnt() -> None:
    turns: list[Turn] = [*asked("how much?", "42", "sure?", "yes")]
    for source in (PLAIN, CLOSED_BY_WORDS):
        text, spans = Template(source).render(turns)
        assert Template(source).prompt(turns[:-1]) == text[: spans[-1][0]]
    assert Template("{{ raise_exception('no') }}").closing == ""


def test_the_plain_template_is_known_again_in_a_finished_model(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(PLAIN, encoding="utf-8")
    assert template_of(tmp_path).source == PLAIN and not template_of(tmp_path).has_special_tokens


def test_a_template_that_writes_nothing_still_gives_the_model_a_token(tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path, template="{% if messages | length > 9 %}x{% endif %}")
    (found,) = Answerer(folder, section(max_new_tokens=2)).answer([asked("a")])
    assert found.tokens == 2

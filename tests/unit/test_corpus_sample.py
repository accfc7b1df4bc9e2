"""What is learnt of a row, as text: nothing is lost, characters stay whole, long rows are shortened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from raysft.corpus.answers import Answering
from raysft.corpus.sample import ELLIPSIS, MOST, RUN_MOST, Run, clipped, learnt_runs, replaced, visible
from raysft.corpus.targets import compact
from raysft.corpus.template import PLAIN, Template
from raysft.corpus.vocabulary import DECODER, learn_tokenizer
from tests.support.answering import CHATML, asked
from tests.support.tokenizers import write_bytes_tokenizer, write_unigram_tokenizer

EMOJI = "\U0001f469\u200d\U0001f680"  # a woman, a joiner and a rocket: many tokens of bytes


@pytest.fixture(scope="module")
def bytes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bytes_tokenizer(tmp_path_factory.mktemp("bytes") / "tokenizer.json")


@pytest.fixture(scope="module")
def learnt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer that model.init learns, which writes words with the space before them."""
    path = tmp_path_factory.mktemp("learnt") / "tokenizer.json"
    learn_tokenizer(["where is my parcel", "it is here"] * 4, 300, DECODER).save(str(path))
    return path


def answering(file: Path, source: str = CHATML, **settings: object) -> Answering:
    return Answering(Template(source, has_special_tokens=True), file, **{"max_length": 512, **settings})  # type: ignore[arg-type]


def runs_of(how: Answering, *contents: str) -> list[Run]:
    ids, marks, _ = how.encode([compact(asked(*contents))])
    return learnt_runs(ids[0], marks[0], how.tokenizer)


def learnt(runs: list[Run]) -> str:
    return "|".join(run.text for run in runs if run.learnt)


def test_the_answers_and_their_end_marks_are_learnt(bytes_file: Path) -> None:
    runs = runs_of(answering(bytes_file), "where?", "here", "thanks", "bye")
    assert runs[:2] == [Run("<|im_start|>", False, True), Run("user\nwhere?", False)]
    assert learnt(runs) == "here|<|im_end|>|\n|bye|<|im_end|>|\n"
    assert (
        learnt(runs_of(answering(bytes_file, learn="last"), "where?", "here", "thanks", "bye")) == "bye|<|im_end|>|\n"
    )


def test_of_all_but_the_first_token_is_learnt(bytes_file: Path) -> None:
    first, *rest = runs_of(answering(bytes_file, learn="all"), "where?", "here")
    assert first == Run("<|im_start|>", False, True)
    assert all(run.learnt for run in rest)


@pytest.mark.parametrize("answer", [EMOJI, f"{EMOJI} yes", f"yes {EMOJI}", "größer 你好"])
def test_characters_of_several_tokens_stay_whole(bytes_file: Path, learnt_file: Path, answer: str) -> None:
    for file, source in ((bytes_file, CHATML), (bytes_file, PLAIN), (learnt_file, str(DECODER.chat))):
        runs = runs_of(answering(file, source), EMOJI, answer)
        assert learnt(runs).startswith(answer)
        assert "\ufffd" not in "".join(run.text for run in runs)


def test_a_character_whose_tokens_have_both_fates_belongs_to_the_last(bytes_file: Path) -> None:
    ids = Tokenizer.from_file(str(bytes_file)).encode("a\U0001f680b").ids
    assert len(ids) == 6  # four of them are the rocket
    assert learnt_runs(ids, [0, 0, 0, 1, 1, 1], bytes_file) == [Run("a", False), Run("\U0001f680b", True)]
    assert learnt_runs(ids, [0, 1, 1, 0, 0, 0], bytes_file) == [Run("a", False), Run("\U0001f680b", False)]


def test_a_row_that_was_cut_within_a_character_shows_where(bytes_file: Path) -> None:
    ids = Tokenizer.from_file(str(bytes_file)).encode("\U0001f680b").ids[2:]
    (run, last) = learnt_runs(ids, [0, 0, 1], bytes_file)
    assert set(run.text) == {"\ufffd"} and last == Run("b", True)


def test_the_spaces_of_pieces_are_kept(tmp_path: Path) -> None:
    """Metaspace takes the first space of what it reads away, which must not happen at every run."""
    file = write_unigram_tokenizer(tmp_path / "tokenizer.json")
    library = Tokenizer.from_file(str(file))
    from tokenizers import decoders

    library.decoder = decoders.Metaspace()
    library.save(str(file))
    ids = library.encode("one two three", add_special_tokens=False).ids
    half = ids.index(int(library.token_to_id("▁") or 0), 1)
    assert "".join(run.text for run in learnt_runs(ids, [0] * half + [1] * (len(ids) - half), file)) == "one two three"


def test_nothing_gives_nothing(bytes_file: Path) -> None:
    assert learnt_runs([], [], bytes_file) == []


@given(st.lists(st.tuples(st.integers(0, 319), st.booleans()), max_size=30))
def test_joined_they_are_what_the_tokenizer_reads(
    tmp_path_factory: pytest.TempPathFactory, row: list[tuple[int, bool]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    if not file.exists():
        write_bytes_tokenizer(file)
    library = Tokenizer.from_file(str(file))
    ids = [token % library.get_vocab_size() for token, _ in row]
    runs = learnt_runs(ids, [int(mark) for _, mark in row], file)
    assert "".join(run.text for run in runs) == library.decode(ids, skip_special_tokens=False)
    assert all(run.text for run in runs)


def test_other_text_is_put_into_the_run_in_which_its_place_begins() -> None:
    runs = [Run("call 01", False), Run("71 23", True), Run("45 now", False)]
    assert replaced(runs, [(5, 14, "***")]) == [Run("call ***", False), Run(" now", False)]
    assert replaced(runs, [(0, 4, "x"), (16, 18, "y")]) == [Run("x 01", False), Run("71 23", True), Run("45 ny", False)]
    assert replaced(runs, []) == runs


@given(st.lists(st.text(max_size=5), max_size=6), st.lists(st.integers(0, 20), max_size=6))
def test_replacing_does_to_runs_what_it_does_to_their_text(texts: list[str], ends: list[int]) -> None:
    text = "".join(texts)
    bounds = sorted({min(end, len(text)) for end in ends})
    places = [(first, last, "<>") for first, last in zip(bounds[::2], bounds[1::2], strict=False)]
    wanted, at = "", 0
    for first, last, new in places:
        wanted, at = wanted + text[at:first] + new, last
    found = replaced([Run(each, index % 2 == 0) for index, each in enumerate(texts)], places)
    assert "".join(run.text for run in found) == wanted + text[at:]


def test_a_long_row_is_shortened_to_its_end() -> None:
    runs = [Run("x" * 2000, False), *(Run("answer " * 40, index % 2 == 0) for index in range(9))]
    found = clipped(runs)
    assert sum(len(run.text) for run in found) <= MOST + len(ELLIPSIS)
    assert found[0] == Run("… ", False) and found[-1] == runs[-1]
    (only,) = clipped(runs[:1])
    assert len(only.text) == RUN_MOST + len(ELLIPSIS)
    assert clipped(runs[-2:]) == runs[-2:]


def test_ends_of_lines_are_seen_and_nothing_steers_the_terminal() -> None:
    assert visible("a\nb\tc") == "a⏎\nb\tc"
    assert visible("\x1b[31mred\x9b") == "\ufffd[31mred\ufffd"
    assert visible(EMOJI) == EMOJI

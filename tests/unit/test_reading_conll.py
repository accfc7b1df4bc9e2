"""CoNLL columns: sentences of tokens with tags."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.reading import CORPORA, NO_CORPORA, batches, details, read, seen, source, write

LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r \ufeff"), min_size=1, max_size=8)
TOKEN = LETTERS.filter(lambda token: not token.startswith("-DOCSTART-"))
TAG = st.sampled_from(["O", "B-person", "I-person", "B-corporation"])


@given(
    sentences=st.lists(st.lists(st.tuples(TOKEN, TAG), min_size=1, max_size=5), max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
    between=st.sampled_from(["", " ", "\t", " \t "]),
    middle=st.sampled_from(["", "NN\t", "NN\tI-NP\t"]),
)
def test_written_sentences_are_read_back_equal_with_their_lines(
    tmp_path_factory: pytest.TempPathFactory,
    sentences: list[list[tuple[str, str]]],
    end: str,
    between: str,
    middle: str,
) -> None:
    """Tokens such as # and U+2028 among them."""
    content, line, expected = "", 1, []
    for sentence in sentences:
        content += "".join(f"{token}\t{middle}{tag}{end}" for token, tag in sentence) + between + end
        expected.append((line, [token for token, _ in sentence], [tag for _, tag in sentence], None))
        line += len(sentence) + 1
    assert read(tmp_path_factory.getbasetemp(), content or "\n", "rows.conll") == expected


def test_columns_may_be_separated_by_spaces(tmp_path: Path) -> None:
    found = read(
        tmp_path, "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects   VBZ I-VP O\n\nGerman JJ I-NP B-MISC\n", "a.conll"
    )
    assert found == [(3, ["EU", "rejects"], ["B-ORG", "O"], None), (6, ["German"], ["B-MISC"], None)]


def test_a_space_in_a_token_belongs_to_it_where_tabs_separate(tmp_path: Path) -> None:
    assert read(tmp_path, "New York\tB-place\nis\tO\n", "a.conll") == [(1, ["New York", "is"], ["B-place", "O"], None)]


def test_comments_are_skipped_and_a_hash_with_a_tag_is_a_token(tmp_path: Path) -> None:
    tabs = "# id 1\n#\tO\n# text = a b\nb\tB-x\n#tag\tO\n"
    assert read(tmp_path, tabs, "a.conll") == [(2, ["#", "b", "#tag"], ["O", "B-x", "O"], None)]
    spaces = "# sent_id = 1\n# newdoc\na B-x\n# O\n# B-x\n#\n#tag O\n"
    assert read(tmp_path, spaces, "a.conll") == [(3, ["a", "#", "#", "#tag"], ["B-x", "O", "B-x", "O"], None)]


def test_a_comment_that_ends_like_a_tag_is_no_token(tmp_path: Path) -> None:
    comments = "# text = Vitamin O\n# newdoc O B-x O\n"
    spaces = f"{comments}Vitamin NN B-x\nO NN I-x\n\n{comments}# SYM O\n#1 NN O\n"
    for content in (spaces, spaces.replace("NN ", "NN\t").replace(" NN", "\tNN").replace("# SYM O", "#\tSYM\tO")):
        found = read(tmp_path, content, "a.conll")
        assert [row[1:] for row in found] == [
            (["Vitamin", "O"], ["B-x", "I-x"], None),
            (["#", "#1"], ["O", "O"], None),
        ]
        assert [row[0] for row in found] == [3, 8]


def test_a_damaged_line_makes_no_comment_of_a_token(tmp_path: Path) -> None:
    assert read(tmp_path, "a\n#\tO\nb\tO\n\n#\tNN\tO\nc\tO\n", "a.conll")[1][1] == ["#", "c"]
    assert [row[1] for row in read(tmp_path, "a b O\n\n# O\nb O\nc O\n", "a.conll")] == [["a"], ["#", "b", "c"]]


def test_a_document_ends_a_sentence(tmp_path: Path) -> None:
    found = read(tmp_path, "A O\n-DOCSTART- O\nB O\n-DOCSTART- O\n", "a.conll")
    assert found == [(1, ["A"], ["O"], None), (3, ["B"], ["O"], None)]


def test_a_sentence_without_end_is_rejected_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row would hide how much of the file it is, and hold all of it in memory."""
    monkeypatch.setattr("raysft.reading.conll.MAX_TOKENS", 10)
    found = read(tmp_path, "a O\n" * 10 + "\n" + "b O\n" * 35 + "\nc O\n", "a.conll")
    assert [(row[0], row[3]) for row in found] == [
        (1, None),
        *((line, "sentence_too_long") for line in (12, 22, 32, 42)),
        (48, None),
    ]
    assert found[4][1] == " ".join("b" * 5) and found[5][1:3] == (["c"], ["O"])
    said = details(source(tmp_path / "a.conll"))[4]
    assert said == "lines 42 to 46 are part of a sentence of more than 10 tokens; a blank line ends one"


def test_a_token_without_a_tag_rejects_its_sentence_only(tmp_path: Path) -> None:
    found = read(tmp_path, "a\tO\nb\nc\t\n\nd\tO\n\n\tO\n\nNew York\n", "a.conll")
    assert [(row[0], row[3]) for row in found] == [
        (1, "missing_tag"),
        (5, None),
        (7, "missing_tag"),
        (9, "missing_tag"),
    ]
    assert found[0][1] == "a b c"
    assert (
        details(source(tmp_path / "a.conll"))[0] == "line 2 has a token and no tag: b, in the sentence of lines 1 to 3"
    )


def test_a_bad_byte_rejects_its_sentence_only(tmp_path: Path) -> None:
    found = read(tmp_path, b"a\tO\ncaf\xe9\tO\n\nb\tO\n", "a.conll")
    assert [(row[1], row[3]) for row in found] == [(["a", "caf\ufffd"], "not_utf8"), (["b"], None)]


def test_many_sentences_come_in_batches(tmp_path: Path) -> None:
    path = write(tmp_path, "a\tO\n\n" * 5000, "a.conll")
    assert [len(batch) for batch in batches(source(path))] == [4096, 904]


@pytest.mark.skipif(not CORPORA.is_dir(), reason=NO_CORPORA)
@pytest.mark.parametrize(
    ("name", "sentences", "tokens"),
    [("wnut17train.conll", 3394, 62730), ("emerging.dev.conll", 1009, 15733), ("emerging.test.annotated", 1287, 23394)],
)
def test_a_real_corpus(name: str, sentences: int, tokens: int) -> None:
    found = seen(source(CORPORA / "wnut17" / name, "conll"))
    assert (len(found), sum(len(row[1]) for row in found)) == (sentences, tokens)
    assert all(row[3] is None and len(row[1]) == len(row[2]) for row in found)
    kinds = ["corporation", "creative-work", "group", "location", "person", "product"]
    assert {tag for row in found for tag in row[2]} <= {"O", *(f"{mark}-{kind}" for mark in "BI" for kind in kinds)}

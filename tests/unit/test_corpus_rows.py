"""The canonical row: whatever a cell holds, a row is kept or has one named reason, and none is lost."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.answers import Answering
from raysft.corpus.rows import ROW, Meaning, canonical, clean, concat, where
from raysft.corpus.targets import labels_of, spans_of
from raysft.corpus.template import PLAIN as PLAIN_TEMPLATE
from raysft.corpus.template import Template
from raysft.reading.records import Columns, RawBatch
from raysft.reading.sources import Source
from tests.support.tokenizers import write_bytes_tokenizer

SOURCE = Source("train", "folder/a.csv", "csv")
PLAIN = Columns("text", "label")
ALL = Columns("text", "label", "input", "customer", "when", "part")
ONE = Meaning("classification")
REASONS = {
    "blank_text", "missing_label", "several_labels", "bad_labels", "tags_do_not_match", "bad_tag", "bad_span",
    "blank_token", "no_answer", "blank_answer", "unknown_role", "bad_messages", "missing_group", "missing_time",
    "bad_time", "unknown_split", "not_utf8", "malformed_csv", "template_refuses",
    *(f"{role}_is_not_text" for role in ("text", "label", "context", "group", "time", "split")),
}  # fmt: skip


def batch_of(**cells: list[Any]) -> RawBatch:
    size = len(cells["text"])
    return RawBatch(list(range(2, size + 2)), dict(cells), [None] * size, [""] * size)


def rows_of(meaning: Meaning = ONE, columns: Columns = PLAIN, source: Source = SOURCE, **cells: Any) -> pa.Table:
    return canonical(batch_of(**cells), source, columns, meaning)


def test_a_row_stands_with_its_place() -> None:
    found = rows_of(text=[" a ", "Cafe\u0301"], label=["x", 3.0])
    assert found.schema.equals(ROW)
    assert found.to_pylist()[1] == {
        "origin": "train",
        "source": "folder/a.csv",
        "line": 3,
        "text": "Café",
        "label": "3",
        "record": None,
        "group": "",
        "time": None,
        "reason": None,
        "detail": "",
    }


FIRST_REASONS = [
    ({"text": "a", "label": "x"}, None, ""),
    ({"text": 7, "label": True}, None, ""),
    ({"text": " \n", "label": ""}, "blank_text", ""),
    ({"text": "\x00", "label": "x"}, "blank_text", ""),
    ({"text": None, "label": "x"}, "blank_text", ""),
    ({"text": ["a"], "label": "x"}, "text_is_not_text", "found a list of 1"),
    ({"text": {}, "label": "x"}, "text_is_not_text", "found an object"),
    ({"text": "a", "label": " ", "group": ""}, "missing_label", ""),
    ({"text": "a", "label": ["x"]}, "several_labels", "a list of 1, 'x'; set data.multi_label: true"),
    ({"text": "a", "label": "x", "group": " "}, "missing_group", "no value in column customer"),
    ({"text": "a", "label": "x", "time": ""}, "missing_time", "no value in column when"),
    (
        {"text": "a", "label": "x", "time": "1/2/3", "split": "?"},
        "bad_time",
        "found '1/2/3'; write a number, 2024-01-31 or 2024-01-31T10:00:00+01:00",
    ),
    ({"text": "a", "label": "x", "group": "\udcff"}, "not_utf8", "in the group"),
    ({"text": "a\ud83d", "label": "x"}, "not_utf8", "in the text"),
    ({"text": "a", "label": "x", "split": "\udcff"}, "not_utf8", "in the split"),
]


@pytest.mark.parametrize(("cells", "reason", "detail"), FIRST_REASONS)
def test_the_first_thing_wrong_is_the_reason(cells: dict[str, Any], reason: str | None, detail: str) -> None:
    cells = {"group": "g", "time": 1, "split": "train", **cells}
    columns: dict[str, Any] = {role: [cell] for role, cell in cells.items()}
    found = rows_of(columns=ALL, **columns)
    assert (found["reason"][0].as_py(), found["detail"][0].as_py()) == (reason, detail)


def test_what_is_not_asked_for_cannot_be_missing() -> None:
    found = rows_of(columns=Columns("text", None), text=["a"])
    assert found["reason"].to_pylist() == [None] and found["label"].to_pylist() == [""]
    tokens = rows_of(Meaning("token-classification"), Columns("text", None), text=[["a", "b"], "a b"])
    assert tokens["text"].to_pylist() == ["a b", "a b"]
    assert tokens["reason"].to_pylist() == [None, None]


def test_a_named_column_without_cells_is_empty() -> None:
    found = rows_of(columns=ALL, text=["a"], label=["x"])
    assert found["reason"].to_pylist() == ["missing_group"]


def test_a_rejected_row_keeps_its_reason_and_stays_readable() -> None:
    batch = RawBatch(
        [1, 2], {"text": ["a\udcff\x00", None], "label": [{"x": "\ud800"}, "y"]}, ["malformed_csv"] * 2, ["\udcff", ""]
    )
    found = canonical(batch, SOURCE, PLAIN, ONE)
    assert found["reason"].to_pylist() == ["malformed_csv"] * 2
    assert found["text"].to_pylist() == ["a\ufffd", ""]
    assert found["label"].to_pylist() == ['{"x": "\ufffd"}', "y"]
    assert found["detail"].to_pylist() == ["\ufffd", ""]


def test_a_row_without_a_usable_label_keeps_its_text_group_and_time() -> None:
    found = rows_of(columns=ALL, text=["a "], label=[None], group=[7], time=["5"], split=["Dev"])
    row = found.to_pylist()[0]
    wanted = {"text": "a", "label": "", "group": "7", "time": 5.0, "origin": "validation", "reason": "missing_label"}
    assert {key: row[key] for key in wanted} == wanted


def test_the_split_column_says_which_part_and_else_the_file_does() -> None:
    held = Source("test", "held.csv", "csv")
    columns = Columns("text", "label", split="part")
    cells: dict[str, Any] = {"text": ["a", "b", "c"], "label": ["x"] * 3}
    found = rows_of(columns=columns, source=held, split=["train", "eval", "other"], **cells)
    assert found["origin"].to_pylist() == ["train", "test", "test"]
    assert found["reason"].to_pylist() == [None, None, "unknown_split"]
    assert rows_of(columns=columns, source=held, **cells)["origin"].to_pylist() == ["test"] * 3


def test_labels_of_one_spelling_and_different_types_do_not_mix() -> None:
    found = rows_of(text=["a"] * 6, label=[1, True, "1", 1.0, "True", "1"])
    assert found["label"].to_pylist() == ["1", "true", "1", "1", "True", "1"]


def test_every_task_has_its_target() -> None:
    cut_at = Columns("text", "label", separator=";")
    several = rows_of(Meaning("classification", multi_label=True), cut_at, text=["a", "b"], label=["y;x", "x"])
    assert several["label"].to_pylist() == ['["x","y"]', '["x"]']
    cut = rows_of(Meaning("classification", True, "/"), text=["a"], label=["y;x/x"])
    assert cut["label"].to_pylist() == ['["x","y;x"]']
    tagged = rows_of(Meaning("token-classification"), text=["EU rejects"], label=["B-ORG O"])
    assert tagged["label"].to_pylist() == ['[[0,2,"ORG"]]']
    answers = rows_of(Meaning("generation"), ALL, text=["Say"], context=["é"], label=["é"], group=[1], time=[1])
    row = answers.to_pylist()[0]
    assert (row["text"], row["label"], row["reason"]) == ("Say\n\né", "é", None)
    assert json.loads(row["record"])[0] == {"role": "user", "content": "Say\n\né"}


ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m.content }}\n{% endfor %}"
)
TOKENIZER = Path(mkdtemp()) / "tokenizer.json"
write_bytes_tokenizer(TOKENIZER)
ANSWERING = Answering(Template(ALTERNATE, has_special_tokens=True), TOKENIZER, 10**9)


def test_a_chat_that_the_template_refuses_is_one_rejected_row() -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    chats = [said, [said[0], *said], said]
    columns = Columns("text", None)
    found = rows_of(Meaning("generation", answering=ANSWERING), columns, text=chats)
    assert found["reason"].to_pylist() == [None, "template_refuses", None]
    assert "Conversation roles must alternate" in found["detail"][1].as_py()
    assert rows_of(Meaning("generation"), columns, text=chats)["reason"].null_count == 3


def test_a_column_called_system_begins_the_chat() -> None:
    chat = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    found = rows_of(Meaning("generation"), Columns("text", None, "system"), text=[chat] * 2, context=["be brief", None])
    turns = [[turn["role"] for turn in json.loads(record)] for record in found["record"].to_pylist()]
    assert turns == [["system", "user", "assistant"], ["user", "assistant"]]


def test_times_are_read_in_the_form_of_their_column() -> None:
    cells = [2024, "2023-05-01", 20240131, "20240131", 1700000000, "1700000000000", date(2024, 1, 31)]
    found = rows_of(
        columns=Columns("text", "label", time="when", times="dates"), text=["a"] * 7, label=["x"] * 7, time=cells
    )
    kept = [1682899200.0, 1706659200.0, 1706659200.0, 1706659200.0]
    assert [time for time in found["time"].to_pylist() if time is not None] == kept
    assert found["reason"].to_pylist() == ["bad_time", None, None, None, "bad_time", "bad_time", None]
    assert found["detail"][0].as_py() == "found '2024', a number in a column of dates; write it as 2024-01-31"
    found = rows_of(
        columns=Columns("text", "label", time="when", times="numbers"), text=["a"] * 7, label=["x"] * 7, time=cells
    )
    assert found["reason"].to_pylist() == [None, "bad_time", None, None, None, None, "bad_time"]
    assert found["detail"][1].as_py().startswith("found '2023-05-01', a date in a column of numbers")


def test_tags_are_read_as_the_corpus_writes_them() -> None:
    rows: dict[str, Any] = {"text": ["a b"], "label": ["U-turn O"]}
    meaning = Meaning("token-classification")
    assert rows_of(meaning, Columns("text", "label", tags="plain"), **rows)["label"][0].as_py() == '[[0,1,"U-turn"]]'
    assert rows_of(meaning, Columns("text", "label", tags="prefixed"), **rows)["label"][0].as_py() == '[[0,1,"turn"]]'


@pytest.mark.parametrize("count", [0, 1, 5])
def test_tables_add_up(count: int) -> None:
    found = concat([rows_of(text=["a"] * count, label=["x"] * count)] * 2)
    assert found.schema.equals(ROW) and found.num_rows == 2 * count
    assert concat([]).schema.equals(ROW) and concat([]).num_rows == 0


def test_a_place_is_file_and_line() -> None:
    assert where("/long/way/tickets.csv", 12) == "tickets.csv:12"


ANY_TEXT = st.text() | st.text(st.characters(categories=["Cs", "Cc", "Ll", "Mn", "Nd"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.binary(max_size=8)
    | st.decimals()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.times()
    | st.timedeltas()
    | st.sampled_from([10**309, "[" * 20, "0" * 20, "1e999", date.max, datetime.max, Decimal("sNaN")])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(ANY_TEXT | st.integers() | st.dates(), inner, max_size=3)
    ),
    max_leaves=10,
)
TAG = st.sampled_from(["O", "B-A", "I-A", "E-B", "S-B", "A", "B"])
OFFSET = st.integers(-1, 12)
GOOD_SPAN = st.builds(lambda start, size: [start, start + size, "A"], st.integers(0, 9), st.integers(1, 9))
SPAN = st.tuples(OFFSET, OFFSET, ANYTHING) | st.fixed_dictionaries({"start": OFFSET, "end": OFFSET, "label": ANYTHING})
ROLE = st.sampled_from(["user", "assistant", "gpt", "system", "tool"]) | ANYTHING
TURN = st.fixed_dictionaries({"role": ROLE, "content": ANYTHING}) | st.fixed_dictionaries(
    {"from": ROLE, "value": ANY_TEXT}
)
LIKELY = st.one_of(
    st.lists(TAG, max_size=5),
    st.lists(GOOD_SPAN, max_size=2),
    st.lists(TAG | ANYTHING, max_size=5),
    st.lists(SPAN | ANYTHING, max_size=3),
    st.lists(TURN | ANYTHING, max_size=4),
    st.lists(st.dictionaries(st.just("type"), ANYTHING), max_size=2),
    st.sampled_from(["train", "2024-01-31", "a, b; c", "EU rejects German call"]),
)


def as_written(cell: Any) -> Any:
    """The cell as a text format holds it."""
    try:
        return json.dumps(cell)
    except (TypeError, ValueError):
        return str(type(cell))


def as_printed(cell: Any) -> Any:
    try:
        return repr(cell)
    except ValueError:  # a number of too many digits
        return cell


CELL = ANYTHING | LIKELY | LIKELY.map(as_written) | (LIKELY | ANYTHING).map(as_printed)
ROLES = ("text", "label", "context", "group", "time", "split")
MEANINGS = [
    ONE,
    Meaning("classification", multi_label=True),
    Meaning("classification", multi_label=True, label_separator=", "),
    Meaning("token-classification"),
    Meaning("generation"),
    Meaning("generation", answering=ANSWERING),
]


def check_kept(row: dict[str, Any], meaning: Meaning, labelled: bool) -> None:
    """What everybody after this may rely on."""
    assert row["text"] and clean(row["text"]) == row["text"]
    if meaning.task == "generation":
        turns = json.loads(row["record"])
        assert turns[-1] == {"role": "assistant", "content": row["label"]} and row["label"]
        assert all(set(turn) == {"role", "content"} and clean(turn["content"]) == turn["content"] for turn in turns)
        assert {turn["role"] for turn in turns} <= {"system", "user", "assistant"}
        return
    assert row["record"] is None
    if not labelled:
        assert row["label"] == ""
    elif meaning.task == "token-classification":
        end = 0
        for span in spans_of(row["label"]):
            assert end <= span[0] < span[1] <= len(row["text"]) and span[2]
            assert row["text"][span[0] : span[1]] == row["text"][span[0] : span[1]].strip()
            end = span[1]
    else:
        labels = labels_of(row["label"]) if meaning.multi_label else (row["label"],)
        assert labels and list(labels) == sorted(set(labels))
        assert all(label and clean(label) == label for label in labels)


@given(st.data(), st.sampled_from(MEANINGS), st.integers(0, 4))
def test_no_cell_stops_the_reading_or_loses_a_row(data: st.DataObject, meaning: Meaning, size: int) -> None:
    cells = {role: data.draw(st.lists(CELL, min_size=size, max_size=size), role) for role in ROLES}
    columns = data.draw(st.sampled_from([PLAIN, ALL, Columns("text", None)]))
    given_reasons = data.draw(st.lists(st.sampled_from([None, None, "malformed_csv"]), min_size=size, max_size=size))
    named = {role: cells[role] for role in ROLES if getattr(columns, role) is not None}
    batch = RawBatch(
        list(range(1, size + 1)), named, given_reasons, data.draw(st.lists(ANY_TEXT, min_size=size, max_size=size))
    )
    found = canonical(batch, SOURCE, columns, meaning)
    assert found.schema.equals(ROW)
    assert found["line"].to_pylist() == batch.line
    for row, reason in zip(found.to_pylist(), given_reasons, strict=True):
        assert row["reason"] in REASONS | {None}
        assert reason is None or row["reason"] == reason
        assert row["origin"] in {"train", "validation", "test"}
        assert row["text"] is not None and row["label"] is not None and row["detail"] is not None
        if row["reason"] is None:
            check_kept(row, meaning, columns.label is not None)
            assert bool(row["group"]) == bool(columns.group)
            assert row["time"] is None if columns.time is None else math.isfinite(row["time"])


def nested(depth: int, as_list: bool) -> Any:
    cell: Any = "a"
    for _ in range(depth):
        cell = [cell] if as_list else {"role": cell, "content": cell}
    return cell


def test_deep_and_endless_cells_have_reasons() -> None:
    endless: list[Any] = []
    endless.append(endless)
    hostile = [10**5000, [10**5000], [[10**5000, 10**5000, "X"]], endless, nested(50_000, True), nested(15, False)]
    hostile += ["[" * 50_000, "[" * 900 + "]" * 900, '{"a":' * 50_000, "[(" * 50_000, "9" * 5000, "a" * 2_000_000]
    for meaning in MEANINGS:
        cells: dict[str, Any] = dict.fromkeys(ROLES, hostile)
        found = rows_of(meaning, ALL, **cells)
        assert found.num_rows == len(hostile) and found["reason"].null_count == 0


@given(st.data())
def test_plain_rows_are_all_kept(data: st.DataObject) -> None:
    words = st.text(st.characters(codec="utf-8")).map(lambda text: f"x{text}")
    texts, labels = data.draw(st.lists(words)), data.draw(st.lists(words, min_size=1))
    chosen = [labels[index % len(labels)] for index in range(len(texts))]
    found = rows_of(text=texts, label=chosen)
    assert found["reason"].to_pylist() == [None] * len(texts)
    assert found["text"].to_pylist() == [clean(text) for text in texts]
    assert found["label"].to_pylist() == [clean(label) for label in chosen]


def test_an_inside_tag_without_a_begin_is_a_slip_where_entities_begin() -> None:
    rows: dict[str, Any] = {"text": [["a", "b"]] * 3, "label": ["B-PER I-PER", "O I-PER", "B-PER I-LOC"]}
    meaning = Meaning("token-classification")
    strict = rows_of(meaning, Columns("text", "label", tags="begun"), **rows)
    assert strict["reason"].to_pylist() == [None, "inside_without_begin", "inside_without_begin"]
    assert strict["detail"].to_pylist()[1] == "'I-PER', token 2, follows no B-PER"
    assert rows_of(meaning, Columns("text", "label", tags="prefixed"), **rows)["reason"].null_count == 3


LONG = "a word " * 40


@pytest.mark.parametrize(
    ("chat", "long_prompts", "reason"),
    [
        (("hi", LONG), "cut", "answer_too_long"),
        ((LONG, "yes"), "cut", None),
        ((LONG, "yes"), "reject", "prompt_too_long"),
        (("hi", "yes"), "reject", None),
    ],
)
def test_answers_are_never_cut(tmp_path: Path, chat: tuple[str, str], long_prompts: str, reason: str | None) -> None:
    write_bytes_tokenizer(tmp_path / "tokenizer.json")
    answering = Answering(Template(PLAIN_TEMPLATE), tmp_path / "tokenizer.json", 48, long_prompts=long_prompts)
    columns = Columns("text", "label")
    found = rows_of(Meaning("generation", answering=answering), columns, text=[chat[0]], label=[chat[1]])
    assert found["reason"].to_pylist() == [reason]
    if reason is None:
        ids, marks, _ = answering.encode(found["record"].to_pylist())
        assert len(ids[0]) <= 48 and sum(marks[0]) == len(answering._offsets("yes\n"))

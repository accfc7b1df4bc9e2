"""Chats, prompts and instructions as people have them become the same turns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.cells import Unusable
from raysft.corpus.cleaning import clean
from raysft.corpus.messages import conversation, turns_of

RECORD = '[{"role":"user","content":"Say é"},{"role":"assistant","content":"é"}]'
MESSAGES = [{"role": "user", "content": "Say é"}, {"role": "assistant", "content": "é"}]
SHAREGPT = [{"from": "human", "value": "Say é"}, {"from": "gpt", "value": "é"}]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "é"}]},
    {"role": "assistant", "content": ["é"]},
]
SHAPES = [
    (MESSAGES, None),
    (json.dumps(MESSAGES), None),
    (repr(MESSAGES), ""),
    ([{"content": "Say é", "role": "User", "from": None}, {"role": "bot", "content": "e\u0301\r\n"}], None),
    (SHAREGPT, None),
    (json.dumps(SHAREGPT, ensure_ascii=False), None),
    ([{"role": None, "content": None, **turn} for turn in SHAREGPT], None),  # a Parquet file of both kinds
    (PARTS, None),
    ("Say é", " é "),
    (MESSAGES[:1], "é"),
    (MESSAGES[:1], MESSAGES[1:]),
    (json.dumps(MESSAGES[:1]), json.dumps(MESSAGES[1:])),
]


@pytest.mark.parametrize(("text", "label"), SHAPES)
def test_every_shape_becomes_the_same_turns(text: Any, label: Any) -> None:
    assert conversation(text, label) == ("Say é", "é", RECORD)


def test_an_input_follows_its_instruction_after_a_blank_line() -> None:
    assert conversation("Add up.", 3, "1 and 2")[0] == "Add up.\n\n1 and 2"
    for nothing in (None, "", " ", float("nan")):
        assert conversation("Say é", "é", nothing) == ("Say é", "é", RECORD)


def test_the_text_is_all_that_stands_before_the_last_answer() -> None:
    text, label, record = conversation(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "human", "content": "Hi"},
            {"role": "human", "content": "there"},
            {"role": "model", "content": "Hello"},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "Bye"},
        ]
    )
    assert (text, label) == ("Be brief.\nHi\nthere\nHello", "Bye")
    assert [turn["role"] for turn in turns_of(record)] == ["system", "user", "user", "assistant", "user", "assistant"]


def test_a_prompt_may_look_like_a_list() -> None:
    for prompt in ("[1, 2] has how many items?", "[1, 2]", '[{"a": 1}]', "[]"):
        assert conversation(prompt, '["two"]')[:2] == (prompt, '["two"]')


USER = MESSAGES[0]
BAD = [
    (None, "a", "blank_text", ""),
    ([], None, "blank_text", ""),
    (" ", "a", "blank_text", ""),
    (MESSAGES[1:], None, "blank_text", "nothing stands before the answer"),
    ([{**USER, "content": " "}, MESSAGES[1]], None, "blank_text", "nothing stands before the answer"),
    ("a", None, "blank_answer", ""),
    ("a", " \n", "blank_answer", ""),
    ([USER, {"role": "assistant", "content": None}], None, "blank_answer", ""),
    ([USER], None, "no_answer", "the last of 1 turns is of the user"),
    ([*MESSAGES, USER], "", "no_answer", "the last of 3 turns is of the user"),
    ([*MESSAGES, {"role": "tool", "content": "7"}], None, "unknown_role", "'tool' in turn 3; known are system, "),
    ([{"role": 3, "content": "a"}], None, "unknown_role", "'3' in turn 1; known are system, developer, user, "),
    ([{"content": "a"}], None, "bad_messages", "turn 1 has no role"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], None, "bad_messages", "turn 1 has a part of type 'image"),
    ([{"role": "user", "content": [3]}], None, "bad_messages", "turn 1 has a part that is no text; only text can"),
    ([{"role": "user", "content": {"a": 1}}], None, "text_is_not_text", "found an object"),
    (["a", "b"], None, "bad_messages", "turn 1 is a value of type str, wanted role and content"),
    (MESSAGES[:1], ["a"], "bad_messages", "turn 1 is a value of type str, wanted role and content"),
    ({"a": 1}, "a", "text_is_not_text", "found an object"),
    ("a", {"a": 1}, "label_is_not_text", "found an object"),
    ('[{"role": "user", "content": "\\ud800"}]', "a", "not_utf8", "in the text"),
    ("a", "\ud800", "not_utf8", "in the label"),
]


@pytest.mark.parametrize(("text", "label", "reason", "detail"), BAD)
def test_what_is_no_chat_says_why(text: Any, label: Any, reason: str, detail: str) -> None:
    with pytest.raises(Unusable) as raised:
        conversation(text, label)
    assert raised.value.reason == reason
    assert raised.value.detail.startswith(detail) and bool(raised.value.detail) == bool(detail)


def test_an_input_beside_messages_is_refused() -> None:
    with pytest.raises(Unusable, match="bad_messages"):
        conversation(MESSAGES, None, "more")
    with pytest.raises(Unusable, match="context_is_not_text"):
        conversation("a", "b", ["more"])


def test_what_the_system_says_may_have_a_column_of_its_own() -> None:
    system = {"role": "system", "content": "be brief"}
    for text, label in SHAPES:
        record = conversation(text, label, " be brief", context_is_system=True)[2]
        assert turns_of(record) == [system, *MESSAGES]
        assert conversation(text, label, None, context_is_system=True)[2] == RECORD
    assert turns_of(conversation([system, *MESSAGES], None, "be brief", True)[2]) == [system, *MESSAGES]
    with pytest.raises(Unusable, match="bad_messages"):
        conversation([system, *MESSAGES], None, "be long", True)


NAMES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
TURNS = st.lists(st.tuples(st.sampled_from([*NAMES]), st.text(st.characters(codec="utf-8"))), max_size=6)


@given(TURNS, st.text(st.characters(codec="utf-8")))
def test_no_word_of_a_chat_is_lost(turns: list[tuple[str, str]], answer: str) -> None:
    turns = [*turns, ("user", "x"), ("gpt", f"{answer}x")]
    wanted = [{"role": NAMES[role], "content": clean(content)} for role, content in turns]
    chat = [{"from": role, "value": content} for role, content in turns]
    text, label, record = conversation(chat)
    assert turns_of(record) == wanted
    assert label == wanted[-1]["content"]
    assert text == clean("\n".join(turn["content"] for turn in wanted[:-1] if turn["content"])) == clean(text)
    assert conversation(json.dumps(chat)) == (text, label, record)
    assert conversation(wanted) == (text, label, record)

"""Chats, prompts and instructions as people have them -> turns of system, user and assistant.

Read are: messages [{role, content}] (content a text, or parts of type text), conversations [{from, value}], a prompt
and its completion (texts or messages), and an instruction with its input and output.
"""

from __future__ import annotations

import json
from typing import Any

from raysft.corpus.cells import Unusable, kind, list_of, short, text_of
from raysft.corpus.targets import compact

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human"), USER),
    **dict.fromkeys(("assistant", "gpt", "bot", "model"), ASSISTANT),
}

Turn = dict[str, str]  # {"role": system | user | assistant, "content": clean text}


def conversation(
    text_cell: Any, label_cell: Any = None, context_cell: Any = None, context_is_system: bool = False
) -> tuple[str, str, str]:
    """(text, label, record) of a row: the turns before the last answer, that answer, and JSON of all turns.

    The context follows the instruction, or is a turn of the system before everything else.
    Raises Unusable: blank_text, blank_answer, no_answer, unknown_role, bad_messages, X_is_not_text, not_utf8.
    """
    turns = _before(text_cell, context_cell, context_is_system)
    turns += _answered(label_cell, needed=_messages_in(text_cell) is None)
    if turns[-1]["role"] != ASSISTANT:
        raise Unusable("no_answer", f"the last of {len(turns)} turns is of the {turns[-1]['role']}")
    text = said(turns[:-1])
    if not text:
        raise Unusable("blank_text", "nothing stands before the answer")
    if not turns[-1]["content"]:
        raise Unusable("blank_answer")
    return text, turns[-1]["content"], compact(turns)


def prompt(text_cell: Any, context_cell: Any = None, context_is_system: bool = False) -> list[Turn]:
    """The turns of a row that shall be answered: `conversation` without its last answer, which may be missing.

    Raises Unusable: blank_text, unknown_role, bad_messages, X_is_not_text, not_utf8.
    """
    turns = _before(text_cell, context_cell, context_is_system)
    turns = turns[:-1] if turns[-1]["role"] == ASSISTANT else turns
    if not said(turns):
        raise Unusable("blank_text", "nothing stands before the answer")
    return turns


def said(turns: list[Turn]) -> str:
    """What is said in some turns, one a line."""
    return "\n".join(filter(None, (turn["content"] for turn in turns)))


def turns_of(record: str) -> list[Turn]:
    """The turns of a row, from its record."""
    found: list[Turn] = json.loads(record)
    return found


def _before(text_cell: Any, context_cell: Any, context_is_system: bool) -> list[Turn]:
    """The turns that stand in the columns of text and context. At least one turn."""
    if context_is_system:
        return _with_system(_asked(text_cell, None), text_of(context_cell, "context"))
    return _asked(text_cell, context_cell)


def _asked(cell: Any, context_cell: Any) -> list[Turn]:
    """The messages, or one turn of the user: the instruction and, after a blank line, its input. At least one turn."""
    context = text_of(context_cell, "context")
    messages = _messages_in(cell)
    if messages and context:
        raise Unusable("bad_messages", "input beside messages; write it into one of them, or into a column `system`")
    if messages is not None:
        turns = _turns(messages)
    else:
        instruction = text_of(cell, "text")
        turns = [_said(USER, f"{instruction}\n\n{context}" if context else instruction)] if instruction else []
    if not turns:
        raise Unusable("blank_text")
    return turns


def _with_system(turns: list[Turn], system: str) -> list[Turn]:
    """The turns behind what a column of its own says for the system; once, where the first turn says it too."""
    if not system or turns[0] == _said(SYSTEM, system):
        return turns
    if turns[0]["role"] == SYSTEM:
        raise Unusable("bad_messages", "a system text beside messages that begin with another one")
    return [_said(SYSTEM, system), *turns]


def _answered(cell: Any, needed: bool) -> list[Turn]:
    """What the label column adds: messages, or an answer; a chat may have its answer already."""
    messages = _messages_in(cell)
    if messages is not None:
        return _turns(messages)
    answer = text_of(cell, "label")
    return [_said(ASSISTANT, answer)] if answer or needed else []


def _messages_in(cell: Any) -> list[Any] | None:
    """The messages of a cell; None: it is a text. A text that only looks like a list stays a text."""
    found = list_of(cell)
    if found is None or not isinstance(cell, str):
        return found
    are_turns = all(isinstance(item, dict) and ("role" in item or "from" in item) for item in found)
    return found if found and are_turns else None


def _turns(messages: list[Any]) -> list[Turn]:
    return [_turn(message, place) for place, message in enumerate(messages, start=1)]


def _turn(message: Any, place: int) -> Turn:
    """{role, content} or {from, value} -> a turn. Parquet fills up what one of its rows lacks with nulls."""
    if not isinstance(message, dict):
        raise Unusable("bad_messages", f"turn {place} is {kind(message)}, wanted role and content")
    role = message.get("role") if message.get("role") is not None else message.get("from")
    content = message.get("content") if message.get("content") is not None else message.get("value")
    if role is None:
        raise Unusable("bad_messages", f"turn {place} has no role")
    if not isinstance(role, str) or role.strip().casefold() not in ROLES:
        raise Unusable("unknown_role", f"{short(role)} in turn {place}; known are {', '.join(ROLES)}")
    return _said(ROLES[role.strip().casefold()], _content(content, place))


def _said(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _content(content: Any, place: int) -> str:
    """A text, or the parts of one; parts follow each other directly, as chat templates write them."""
    if isinstance(content, list | tuple):
        content = "".join(_part(part, place) for part in content)
    return text_of(content, "text")


def _part(part: Any, place: int) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part
    if not isinstance(text, str):
        what = f"of type {short(part['type'])}" if isinstance(part, dict) and "type" in part else "that is no text"
        raise Unusable("bad_messages", f"turn {place} has a part {what}; only text can be learnt")
    return text

"""A conversation as one text: the tokenizer's own chat template, or a plain one, and which characters are answers."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

# Roles on a line of their own, and the end mark of the base behind an answer; for bases without a template.
PLAIN = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}"
    "{% if message.role == 'assistant' and eos_token is defined %}{{ eos_token }}{% endif %}"
    "{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ASSISTANT = "assistant"
MARKS = r'(\{\{ "[^"]*" \}\})*'  # as model/answering.py writes them


class TemplateRefuses(Exception):
    """A template that cannot write a conversation so that its answers can be learnt; says why."""


@dataclass(frozen=True)
class Template:
    """A Jinja chat template (the form Hugging Face tokenizers carry) and the special tokens it may name."""

    source: str
    special_tokens: tuple[tuple[str, str], ...] = ()  # ("bos_token", "<s>"), ...
    has_special_tokens: bool = False  # it writes them itself, so the tokenizer must not add them again

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.source, self.special_tokens)).encode()).hexdigest()[:16]

    def render(self, messages: list[dict[str, str]]) -> tuple[str, list[tuple[int, int]]]:
        """The conversation as text, and (start, end) of each answer in it, its closing mark included.

        Raises TemplateRefuses when the template fails, leaves answers out, or writes the beginning of a conversation
        differently once it goes on.
        """
        text = self._write(messages)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] == ASSISTANT:
                before = self._write(messages[:index], prompt=True)
                after = self._write(messages[: index + 1])
                if not (text.startswith(before) and text.startswith(after)):
                    raise TemplateRefuses(
                        "the chat template of model.base rewrites earlier turns, so that answers cannot be told apart; "
                        "use a base with another template, or data of one question and one answer a row"
                    )
                if message["content"] and len(after) <= len(before):
                    raise TemplateRefuses("the chat template of model.base leaves answers out")
                spans.append((len(before), len(after)))
        return text, spans

    def prompt(self, messages: list[dict[str, str]]) -> str:
        """The conversation as text, up to where the next answer begins. Raises TemplateRefuses when it fails."""
        return self._write(messages, prompt=True)

    @cached_property
    def closing(self) -> str:
        """What follows an answer, such as "<|im_end|>\\n"; "" where nothing does, or the template refuses to tell."""
        try:
            text, spans = self.render([{"role": "user", "content": "Q"}, {"role": ASSISTANT, "content": "A"}])
        except TemplateRefuses:
            return ""
        start, end = spans[-1]
        return text[start:end].partition("A")[2]

    def _write(self, messages: list[dict[str, str]], prompt: bool = False) -> str:
        from raysft.corpus.sandbox import TemplateFault, write  # loads Jinja

        known = {"messages": messages, "add_generation_prompt": prompt, **dict(self.special_tokens)}
        try:
            return write(self.source, known)
        except TemplateFault as fault:
            raise TemplateRefuses(f"the chat template of model.base says: {fault}") from None


def template_of(folder: Path) -> Template:
    """The chat template of a base folder (chat_template.jinja, or tokenizer_config.json); else the plain one."""
    config = _config(folder)
    file = folder / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else _default(config.get("chat_template"))
    tokens = tuple((name, _token(config.get(name))) for name in ("bos_token", "eos_token", "unk_token", "pad_token"))
    # A finished run carries the plain one as its own, behind the marks that its tokenizer adds.
    if source is None or re.fullmatch(MARKS + re.escape(PLAIN), source):
        return Template(PLAIN, tokens)
    return Template(source, tokens, has_special_tokens=True)


def _default(written: Any) -> str | None:
    """The template of a config: a text, or the one called default in a list of {"name", "template"}."""
    if isinstance(written, list):
        written = next((each.get("template") for each in written if each.get("name") == "default"), None)
    return written if isinstance(written, str) else None


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return dict(json.loads(file.read_bytes())) if file.is_file() else {}


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")

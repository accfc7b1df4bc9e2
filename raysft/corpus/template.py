"""A conversation as one text: the tokenizer's own chat template, or a plain one, and which characters are answers."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysft.errors import DataError

# Roles on a line of their own; for bases that were never taught a template.
PLAIN = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ASSISTANT = "assistant"


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

        Raises DataError when the template writes the beginning of a conversation differently once it goes on.
        """
        text = self._write(messages)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] == ASSISTANT:
                before = self._write(messages[:index], prompt=True)
                after = self._write(messages[: index + 1])
                if not (text.startswith(before) and text.startswith(after)):
                    raise DataError(
                        "the chat template of model.base rewrites earlier turns, so that answers cannot be told apart",
                        "Use a base with another template, or data of one question and one answer a row.",
                    )
                spans.append((len(before), len(after)))
        return text, spans

    def _write(self, messages: list[dict[str, str]], prompt: bool = False) -> str:
        from jinja2.exceptions import TemplateError

        try:
            return str(
                _compiled(self.source).render(
                    messages=messages, add_generation_prompt=prompt, **dict(self.special_tokens)
                )
            )
        except TemplateError as error:
            raise DataError(
                f"the chat template of model.base fails: {error}", "Use a base with another template."
            ) from None


@functools.lru_cache(maxsize=4)
def _compiled(source: str) -> Any:
    """A template is code from a file: the sandbox gives it neither Python nor the file system."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(source)


def template_of(folder: Path) -> Template:
    """The chat template of a base folder (chat_template.jinja, or tokenizer_config.json); else the plain one."""
    config = _config(folder)
    file = folder / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    if not isinstance(source, str):
        return Template(PLAIN)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    return Template(source, tuple((name, _token(config.get(name))) for name in names), has_special_tokens=True)


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return dict(json.loads(file.read_bytes())) if file.is_file() else {}


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")

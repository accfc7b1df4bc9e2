"""What a finished model needs so that plain transformers answers with it as we do: template, end marks, lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raysft.config.generation import GenerationSection
from raysft.corpus.special import end_tokens, marks_before
from raysft.corpus.template import Template, template_of
from raysft.storage.pretrained import Base


def ready_to_answer(model: Any, tokenizer: Any, base: Base, settings: GenerationSection) -> None:
    """Give the tokenizer the chat template that was learnt, and the model its generation_config."""
    from transformers import GenerationConfig

    template = template_of(base.folder)
    if not tokenizer.chat_template:
        # A template has to write the marks itself: transformers adds none to what it has written.
        before = [] if template.has_special_tokens else marks_before(base.folder / "tokenizer.json")
        tokenizer.chat_template = "".join(f"{{{{ {json.dumps(mark)} }}}}" for mark in before) + template.source
    drawn = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p}
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end_marks(template, tokenizer, base.folder / "tokenizer.json") or None,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=settings.max_new_tokens,
        **(drawn if settings.temperature else {"do_sample": False}),
    )


def end_marks(template: Template, tokenizer: Any, file: Path) -> list[int]:
    """Tokens that end an answer: the end mark of the base, and what follows an answer in training. file: of the
    tokenizer."""
    named = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    return list(dict.fromkeys([*named, *end_tokens(file, template.closing, not template.has_special_tokens)]))

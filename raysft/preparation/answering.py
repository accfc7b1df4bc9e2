"""How the conversations of a job become tokens: the template of its base, and what the job says of answers."""

from __future__ import annotations

from raysft.config.sections import JobConfig
from raysft.corpus.answers import Answering
from raysft.corpus.template import template_of
from raysft.storage.pretrained import Base


def answering_of(config: JobConfig, base: Base) -> Answering | None:
    """None where no answers are learnt."""
    if config.task != "generation":
        return None
    return Answering(
        template=template_of(base.folder),
        tokenizer=base.folder / "tokenizer.json",
        max_length=config.model.max_length,
        learn=config.generation.learn,
        long_prompts=config.generation.long_prompts,
    )

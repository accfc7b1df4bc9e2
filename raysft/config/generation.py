"""The `generation` section: what of a conversation is learnt, and how answers are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from raysft.config.section import Section


class GenerationSection(Section):
    """What of a conversation is learnt, and how answers are written for scores and predictions."""

    learn: Literal["answers", "last", "all"] = Field(
        "answers",
        description="Tokens with a loss: those of every answer, of the last answer alone, or all (the prompt too).",
    )
    long_prompts: Literal["cut", "reject"] = Field(
        "cut",
        description="A prompt that does not fit model.max_length together with its answer: it loses its beginning, or "
        "the row is rejected. The last answer is never cut, and one that lost its beginning is not learnt.",
    )
    max_new_tokens: int = Field(128, ge=1, le=8192, description="Most tokens of an answer that is written.")
    stop: tuple[str, ...] = Field((), description="Texts at which an answer ends, beside the end mark of the base.")
    temperature: float = Field(
        0.0, ge=0, le=10, description="0: always the likeliest token; else tokens are drawn, flatter when higher."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Draw among the likeliest tokens that hold so much probability; 1: among all."
    )
    rows: int | None = Field(
        None,
        ge=1,
        description="Most rows of each part that are answered for scores, a seeded sample; null: all. The loss counts "
        "all rows.",
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if "" in values:
            raise ValueError("a stop text must have at least one character")
        return values

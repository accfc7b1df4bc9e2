"""What all sections of a job file have in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Common rules: unknown keys are refused, no value is turned into another type, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, optional, one of a list, or beside other kinds of values; None for plain keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)

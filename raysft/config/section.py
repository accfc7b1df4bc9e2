"""What all sections of a job file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Common rules: unknown keys are refused, no value is turned into another type, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

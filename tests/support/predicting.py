"""A classifier folder that was never trained, and a listener that remembers: what tests of prediction need."""

from __future__ import annotations

from pathlib import Path

from raysft.config.sections import ModelSection
from raysft.events import Silent
from tests.support.jobs import TOPICS


def write_model(folder: Path, base: Path) -> Path:
    """The base with a random head over the topics, as a plain Hugging Face folder."""
    from transformers import AutoTokenizer

    from raysft.model.classifier import build_classifier
    from raysft.storage.pretrained import resolve_base

    model = build_classifier(resolve_base(str(base)), ModelSection(), tuple(sorted(TOPICS)), seed=1)
    model.save_pretrained(folder)  # type: ignore[operator]
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

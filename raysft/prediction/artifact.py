"""A finished model as a folder: what it predicts, and for which texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from raysft.corpus.encode import from_texts
from raysft.errors import NotFound
from raysft.evaluation.evaluation import Model, model_labels
from raysft.metrics.scores import log_softmax
from raysft.model.classifier import load_classifier
from raysft.storage.pretrained import Base, resolve_base


@dataclass(frozen=True)
class Prediction:
    """One text's label and how sure the model is, 0 to 1; `probabilities` has every label.

    A text that cannot be used has an `error` instead: its label is "", its confidence None, and it has no
    probabilities.
    """

    text: str
    label: str
    confidence: float | None
    probabilities: dict[str, float]
    error: str = ""


@dataclass(frozen=True)
class Artifact:
    """A plain Hugging Face folder that raysft wrote."""

    folder: Path

    @staticmethod
    def open(folder: Path) -> Artifact:
        """Raises NotFound when the folder holds no model."""
        if not (folder / "config.json").is_file():
            raise NotFound(f"no model in {folder}", "Name a run's model folder, or a job file whose run has finished.")
        return Artifact(folder)

    @cached_property
    def labels(self) -> list[str]:
        return model_labels(self.folder)

    @cached_property
    def max_length(self) -> int:
        path = self.folder / "raysft.json"
        if not path.is_file():
            return int(json.loads((self.folder / "config.json").read_bytes()).get("max_position_embeddings", 512))
        return int(json.loads(path.read_bytes())["max_length"])

    @cached_property
    def base(self) -> Base:
        return resolve_base(str(self.folder))

    @cached_property
    def model(self) -> Model:
        return Model(load_classifier(self.folder))

    def logits(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Shape (texts, labels), float32."""
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32)
        return self.model.logits(from_texts(list(texts), self.base.folder / "tokenizer.json", self.max_length))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """A label for each text."""
        probabilities = np.exp(log_softmax(self.logits(texts))) if texts else np.zeros((0, 0))
        found = []
        for text, row in zip(texts, probabilities, strict=True):
            best = int(row.argmax())
            named = {label: round(float(p), 6) for label, p in zip(self.labels, row, strict=True)}
            found.append(Prediction(text, self.labels[best], round(float(row[best]), 6), named))
        return found

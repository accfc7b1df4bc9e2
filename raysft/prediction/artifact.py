"""A finished model as a folder: what it predicts, and for which texts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from raysft.config.sections import GenerationSection
from raysft.corpus.encode import from_texts
from raysft.corpus.messages import Turn, said
from raysft.corpus.offsets import Cleaned, clean_with_offsets
from raysft.corpus.targets import compact
from raysft.errors import NotFound
from raysft.evaluation.decoding import Answer, Answerer
from raysft.evaluation.evaluation import Model, model_labels
from raysft.evaluation.label_sets import LabelSets
from raysft.evaluation.one_label import OneLabel
from raysft.evaluation.tagger import TaggedText, Tagger
from raysft.evaluation.words import WordsModel
from raysft.metrics.label_sets import DEFAULT_THRESHOLD
from raysft.model.classifier import SEVERAL_LABELS, load_classifier
from raysft.storage.pretrained import Base, resolve_base


@dataclass(frozen=True)
class Prediction:
    """One text's label and how sure the model is, 0 to 1; `probabilities` has every label.

    Where a text may have several labels, `label` is a JSON list of them, as in a corpus, and the confidence is the
    probability of the least sure of the model's decisions. Where tokens are tagged, `label` is a JSON list of
    [start, end, "TYPE"] in characters of `text`, there are no probabilities, and the confidence is that of the least
    sure tag. Where answers are written, `label` is the answer to `text`, there are no probabilities, and the confidence
    is the geometric mean of the probabilities of its tokens.
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
    """A plain Hugging Face folder that raysft wrote. generation: how answers are written; None: as its job says."""

    folder: Path
    generation: GenerationSection | None = None

    @staticmethod
    def open(folder: Path, generation: GenerationSection | None = None) -> Artifact:
        """Raises NotFound when the folder holds no model."""
        if not (folder / "config.json").is_file():
            raise NotFound(f"no model in {folder}", "Name a run's model folder, or a job file whose run has finished.")
        return Artifact(folder, generation)

    @cached_property
    def labels(self) -> list[str]:
        return list(self._facts["labels"]) if self.says_labels else model_labels(self.folder)

    @property
    def says_labels(self) -> bool:
        """Whether it is a causal model, whose labels are words."""
        return self._facts.get("labels_are") == "words"

    @cached_property
    def max_length(self) -> int:
        return int(self._facts.get("max_length", self._config.get("max_position_embeddings", 512)))

    @cached_property
    def scorer(self) -> OneLabel | LabelSets:
        """How its logits decide. A folder that raysft did not write gives labels from the probability 0.5 on."""
        if self._config.get("problem_type") == SEVERAL_LABELS:
            return LabelSets(tuple(self.labels), float(self._facts.get("threshold", DEFAULT_THRESHOLD)))
        return OneLabel(tuple(self.labels))

    @cached_property
    def tagger(self) -> Tagger | None:
        """What tags its texts; None for a classifier."""
        kinds = self._config.get("architectures") or [""]
        return Tagger(self.folder) if str(kinds[0]).endswith("ForTokenClassification") else None

    @cached_property
    def answerer(self) -> Answerer | None:
        """What answers its prompts; None for a model of another task."""
        return Answerer(self.folder, self.generation) if self._facts.get("task") == "generation" else None

    @cached_property
    def _config(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "config.json").read_bytes()))

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """raysft.json; empty in a folder that raysft did not write."""
        path = self.folder / "raysft.json"
        return dict(json.loads(path.read_bytes())) if path.is_file() else {}

    @cached_property
    def base(self) -> Base:
        return resolve_base(str(self.folder))

    @cached_property
    def model(self) -> Model | WordsModel:
        if self.says_labels:
            return WordsModel(self.folder, self.labels, self.max_length)
        return Model(load_classifier(self.folder))

    def logits(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Shape (texts, labels), float32."""
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32)
        if isinstance(self.model, WordsModel):
            return self.model.logits(self.model.rows(texts))
        return self.model.logits(from_texts(list(texts), self.base.folder / "tokenizer.json", self.max_length))

    def answer(self, prompts: Sequence[list[Turn]], numbers: Sequence[int] | None = None) -> list[Prediction]:
        """An answer to each conversation. numbers: of the rows, which decide what is drawn where answers are drawn.

        Raises TemplateRefuses.
        """
        assert self.answerer is not None
        answers = self.answerer.answer(prompts, numbers)
        return [_answered(*each) for each in zip(prompts, answers, strict=True)]

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """A label, labels, or entities, for each text."""
        if self.tagger is not None:
            cleaned = [clean_with_offsets(text) for text in texts]
            found = self.tagger.tag([each.text for each in cleaned])
            return [_tagged(*each) for each in zip(texts, cleaned, found, strict=True)]
        logits = self.logits(texts)
        predictions = []
        for text, row, (label, confidence) in zip(
            texts, self.scorer.probabilities(logits), self.scorer.decide(logits), strict=True
        ):
            named = {name: round(float(p), 6) for name, p in zip(self.labels, row, strict=True)}
            predictions.append(Prediction(text, label, round(confidence, 6), named))
        return predictions


def _answered(turns: list[Turn], found: Answer) -> Prediction:
    return Prediction(said(turns), found.text, round(math.exp(found.log_p), 6), {})


def _tagged(text: str, cleaned: Cleaned, found: TaggedText) -> Prediction:
    """Entities with the characters of the text as it was given."""
    spans = [(*cleaned.back(start, end), name) for start, end, name in found.spans]
    return Prediction(text, compact(spans), round(found.confidence, 6), {})

"""A finished causal model that labels texts in its own words, on the device at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from raysft.corpus.label_words import LabelWords
from raysft.corpus.template import template_of
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.metrics.scores import Array
from raysft.model.language import load_language_model
from raysft.model.padding import pad_id
from raysft.training.forward import evaluating
from raysft.training.precision import Precision
from raysft.training.words import LabelScorer


class WordsModel:
    """Gives scores of labels where a classifier gives logits."""

    def __init__(self, folder: Path, labels: Sequence[str], max_length: int) -> None:
        """Raises TemplateRefuses, OSError where the folder is none that transformers loads."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_language_model(folder, "generation").to(self.device)
        self._words = LabelWords(template_of(folder), folder / "tokenizer.json", max_length, tuple(labels))
        pad = pad_id(self._model)
        self._scorer = LabelScorer.of(self._model, self._words.answers, max_length, pad, self.device)

    def logits(self, rows: TokenizedRows) -> Array:
        """Log-likelihood of each label, float32 (rows, labels). rows: prompts, or as the shards of a job hold them."""
        return self._scorer.scores(evaluating(self._model, Precision.plain(self.device)), rows)

    def rows(self, texts: Sequence[str]) -> TokenizedRows:
        """Texts without labels."""
        ids, _ = self._words.prompts(texts)
        return from_lists(ids, [-1] * len(ids))

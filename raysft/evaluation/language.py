"""The scores of a language model on texts without labels: loss and perplexity, with intervals over texts.

Loss is the mean over tokens, in nats; a masked language model is asked for the same hidden ones whenever a part is
scored. Numbers of another tokenizer, which cuts texts into other tokens, mean something else.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raysft.evaluation.evaluation import Evaluation, Scores
from raysft.metrics.interval import Estimate, bounded, resamples
from raysft.model.language import load_language_model
from raysft.model.padding import pad_id
from raysft.preparation.prepared import Prepared
from raysft.training.forward import evaluating
from raysft.training.language import perplexity, row_losses
from raysft.training.lessons import lesson_of
from raysft.training.precision import Precision

Array = np.ndarray[Any, Any]


def evaluate_language(prepared: Prepared, folder: Path, task: str, seed: int) -> tuple[Evaluation, pa.Table]:
    """Scores on validation and on the sealed test part, and a line for each of their texts. folder: the artifact."""
    scored = Scored(folder, task, seed)
    parts, tables = {}, []
    for name in ("validation", "test"):
        if len(prepared.tokens(name)):
            tables.append(scored.rows(prepared, name))
            parts[name] = score(tables[-1])
    found = pa.concat_tables(tables) if tables else pa.table({"row_id": pa.array([], pa.int64())})
    headline = "test" if "test" in parts else "validation"
    return Evaluation([], parts.get("test"), parts.get("validation"), {}, headline), found


class Scored:
    """A finished language model on the device at hand."""

    def __init__(self, folder: Path, task: str, seed: int) -> None:
        self._precision = Precision.plain(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = load_language_model(folder, task).to(self._precision.device)
        self._lesson, self._seed = lesson_of(task, folder, self._model), seed

    def rows(self, prepared: Prepared, part: str) -> pa.Table:
        """A line for each text of a part: where it stands, its summed loss, and how many of its tokens were asked for.

        A text is all of its pieces; one without a token to learn has 0 tokens.
        """
        tokens, corpus = prepared.tokens(part), prepared.part(part)
        forward, pad = evaluating(self._model, self._precision), pad_id(self._model)
        losses, counts = row_losses(forward, self._lesson, tokens, self._seed, pad, self._precision.device)
        place = np.searchsorted(corpus.column("row_id").to_numpy(), tokens.row_id)
        table = corpus.select(["row_id", "source", "line", "unit", "text"])
        for name, values in (("loss", losses), ("tokens", counts)):
            table = table.append_column(name, pa.array(np.bincount(place, values, corpus.num_rows)))
        return table.append_column("part", pa.array([part] * corpus.num_rows, pa.string()))


def score(rows: pa.Table) -> Scores:
    """Loss and perplexity over texts with loss, tokens and unit; those without a token to ask for do not count."""
    losses, tokens, units = (rows.column(name).to_numpy() for name in ("loss", "tokens", "unit"))
    asked = tokens > 0
    found = mean_loss(losses[asked], tokens[asked], units[asked])
    value, low, high = (perplexity(each) for each in (found.value, found.low, found.high))
    return Scores({"loss": found, "perplexity": Estimate(value, low, high, found.n)}, [], [], [])


def mean_loss(losses: Array, tokens: Array, units: Array, seed: int = 0) -> Estimate:
    """Summed loss over summed tokens, of whole texts resampled by units; n is the texts. All (n,)."""
    draws = np.concatenate([weights @ losses / (weights @ tokens) for weights in resamples(units, seed)])
    return bounded(math.fsum(losses) / tokens.sum(), draws, len(losses), units, "loss")

"""Scores of written answers: exact match and token F1 beside the answers that rows have, and the loss of these.

The loss is the mean over the tokens that training learns, in nats; loss and perplexity of another tokenizer, which cuts
texts into other tokens, mean something else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.config.sections import GenerationSection
from raysft.corpus.messages import turns_of
from raysft.corpus.rows import where
from raysft.corpus.tokens import TokenizedRows
from raysft.evaluation.decoding import Answer, Answerer
from raysft.evaluation.evaluation import AnswerBaseline, AnsweredRow, AnswerScores, Evaluation
from raysft.evaluation.language import score as language_scores
from raysft.events import Listener, Silent
from raysft.metrics.answers import NAMES, answer_difference, answer_estimates, answer_scores
from raysft.metrics.scores import Array
from raysft.model.padding import pad_id
from raysft.preparation.prepared import Prepared
from raysft.training.forward import evaluating
from raysft.training.language import row_losses
from raysft.training.lessons import lesson_of

SAMPLES = 20  # of a part, to read
COMMONEST = "commonest_answer"


def evaluate_answers(
    prepared: Prepared, folder: Path, settings: GenerationSection, seed: int, listener: Listener | None = None
) -> tuple[Evaluation, pa.Table]:
    """Scores on validation and on the sealed test part, and a line for each of their rows. folder: the artifact."""
    scorer = AnswerScorer(folder, settings, seed, listener)
    parts, tables = {}, {}
    for name in ("validation", "test"):
        corpus = prepared.part(name)
        if corpus.num_rows:
            tables[name] = scorer.rows(corpus, prepared.tokens(name), name)
            parts[name] = scorer.score(corpus, tables[name])
    headline = "test" if "test" in parts else "validation"
    beside = {}
    if headline in parts:
        beside = baselines(prepared.part("train").column("label").to_pylist(), tables[headline])
    found = pa.concat_tables(tables.values()) if tables else pa.table({"row_id": pa.array([], pa.int64())})
    return Evaluation([], parts.get("test"), parts.get("validation"), beside, headline), found


class AnswerScorer:
    """A finished model that answers rows whose answers are known."""

    def __init__(
        self, folder: Path, settings: GenerationSection | None, seed: int, listener: Listener | None = None
    ) -> None:
        """settings: how answers are written; None: as the model's own job says."""
        self.answerer = Answerer(folder, settings)
        self._lesson = lesson_of("generation", folder, self.answerer.model)
        self._seed, self._listener = seed, listener or Silent()

    def rows(self, corpus: pa.Table, tokens: TokenizedRows, part: str) -> pa.Table:
        """A line for each row: where it stands, its answer, what was written and how good that is, and its summed loss
        over so many tokens. Of rows that were not chosen to be answered (generation.rows) nothing is written.

        corpus: row_id (ascending), source, line, unit, text, label, record; at least one row. tokens: of these rows.
        """
        losses, counts = self._losses(corpus, tokens)
        chosen = _chosen(corpus.num_rows, self.answerer.settings.rows, self._seed)
        answers = self._answers(corpus.take(chosen))
        scores = answer_scores([each.text for each in answers], corpus.column("label").take(chosen).to_pylist())
        table = corpus.select(["row_id", "source", "line", "unit", "text", "label"])
        columns = {
            "prediction": _spread([each.text for each in answers], chosen, corpus.num_rows, pa.string()),
            "confidence": _spread([math.exp(each.log_p) for each in answers], chosen, corpus.num_rows, pa.float64()),
            "exact_match": _spread(scores["exact_match"] > 0, chosen, corpus.num_rows, pa.bool_()),
            "token_f1": _spread(scores["token_f1"], chosen, corpus.num_rows, pa.float64()),
            "ended": _spread([each.ended for each in answers], chosen, corpus.num_rows, pa.string()),
            "loss": pa.array(losses, pa.float64()),
            "tokens": pa.array(counts, pa.int64()),
            "part": pa.array([part] * corpus.num_rows, pa.string()),
        }
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def score(self, corpus: pa.Table, rows: pa.Table) -> AnswerScores:
        """All that is known of the model on these rows. rows: as `rows` gives them."""
        answered = _answered(rows)
        scores = {name: answered.column(name).cast(pa.float64()).to_numpy() for name in NAMES}
        found = answer_estimates(scores, answered.column("unit").to_numpy())
        losses = language_scores(rows).metrics if _learns(rows) else {}
        ended = dict(Counter(answered.column("ended").to_pylist()).most_common())
        return AnswerScores({**found, **losses}, [], [], [], ended, _samples(corpus, rows, self._seed))

    def _answers(self, corpus: pa.Table) -> list[Answer]:
        turns = [turns_of(record)[:-1] for record in corpus.column("record").to_pylist()]
        found = self.answerer.answer(turns, corpus.column("row_id").to_pylist(), self._listener)
        cut = sum(each.cut > 0 for each in found)
        if cut:
            self._listener.note(
                f"{cut} of {len(found)} prompts lost their beginning: at most {self.answerer.room} tokens fit"
            )
        return found

    def _losses(self, corpus: pa.Table, tokens: TokenizedRows) -> tuple[Array, Array]:
        """(summed loss, tokens learnt) of each row of the corpus, (rows,)."""
        model, precision = self.answerer.model, self.answerer.precision
        sums, counts = np.zeros(corpus.num_rows), np.zeros(corpus.num_rows)
        if len(tokens):
            forward = evaluating(model, precision)
            found = row_losses(forward, self._lesson, tokens, self._seed, pad_id(model), precision.device)
            place = np.searchsorted(corpus.column("row_id").to_numpy(), tokens.row_id)
            sums, counts = (np.bincount(place, each, corpus.num_rows) for each in found)
        return sums, counts.astype(np.int64)


def baselines(train_answers: Sequence[str], rows: pa.Table) -> dict[str, AnswerBaseline]:
    """The commonest answer of training, given to each row that was answered; of several the first in the alphabet."""
    counts = Counter(train_answers)
    if not counts:
        return {}
    always = min(counts, key=lambda answer: (-counts[answer], answer))
    answered = _answered(rows)
    units = answered.column("unit").to_numpy()
    scores = answer_scores([always] * answered.num_rows, answered.column("label").to_pylist())
    found = answer_estimates(scores, units)
    gain = answer_difference(answered.column("token_f1").to_numpy(), scores["token_f1"], units)
    return {COMMONEST: AnswerBaseline(found["exact_match"], found["token_f1"], gain)}


def _answered(rows: pa.Table) -> pa.Table:
    return rows.filter(rows.column("prediction").is_valid())


def _learns(rows: pa.Table) -> bool:
    return any(rows.column("tokens").to_pylist())


def _chosen(rows: int, most: int | None, seed: int) -> Array:
    """The rows that are answered, ascending, int64."""
    if most is None or most >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _spread(values: Any, chosen: Array, rows: int, kind: pa.DataType) -> pa.Array:
    """The values at the chosen rows, null at the others."""
    place = np.full(rows, -1)
    place[chosen] = np.arange(len(chosen))
    return pa.array(values, kind).take(pa.array(place, pa.int64(), mask=place < 0))


def _samples(corpus: pa.Table, rows: pa.Table, seed: int) -> list[AnsweredRow]:
    """Some answered rows, half of them right where there are so many of both; the worst first."""
    answered = np.flatnonzero(rows.column("prediction").is_valid().to_numpy())
    right = rows.column("exact_match").take(answered).to_numpy(zero_copy_only=False).astype(bool)
    drawn = np.random.default_rng(seed).permutation(len(answered))
    good, bad = drawn[right[drawn]], drawn[~right[drawn]]
    half = SAMPLES // 2
    few = good[: max(half, SAMPLES - len(bad))]
    taken = answered[np.concatenate([bad[: SAMPLES - len(few)], few])]
    records = corpus.column("record").take(taken).to_pylist()
    found = [_sample(*each) for each in zip(rows.take(taken).to_pylist(), records, strict=True)]
    return sorted(found, key=lambda each: (each.exact_match, each.token_f1))


def _sample(row: dict[str, Any], record: str) -> AnsweredRow:
    return AnsweredRow(
        where=where(row["source"], row["line"]),
        turns=turns_of(record)[:-1],
        reference=row["label"],
        answer=row["prediction"],
        exact_match=row["exact_match"],
        token_f1=row["token_f1"],
        ended=row["ended"],
        confidence=row["confidence"],
    )

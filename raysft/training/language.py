"""The objective of texts and of answers, and its sums: the logits of all tokens never exist at once.

B rows, T tokens of the longest of them, M tokens that are learnt in all of them, V tokens of the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from raysft.corpus.answers import Answering
from raysft.corpus.packing import Layout, layout_of
from raysft.corpus.sampler import Micro
from raysft.corpus.targets import compact
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.judged import Judged, judge_losses
from raysft.model.chunks import CHUNK_BYTES
from raysft.model.language import LEARNT, SAID, own_logits
from raysft.training import ranks
from raysft.training.forward import EVAL_BATCH, batches_of, shared_out
from raysft.training.lessons import Lesson
from raysft.training.objective import Batch, Forward

LOGITS_BYTES = CHUNK_BYTES  # of float32 logits that an evaluation holds at once
PROBE_ROWS = 8
PROBE_LOOK = 256  # rows among which they are looked for
MOST_LOSS = 700.0  # whose exponential is still a float
Array = np.ndarray[Any, Any]


class Language:
    """The objective of tasks whose head is one over the vocabulary. Targets: tokens, int64 (M,), in the order of
    `learnt`.

    The mean is over the tokens that are learnt. Validation always hides the same: those of epoch 0 of the next seed.
    """

    def __init__(
        self,
        lesson: Lesson,
        train: TokenizedRows,
        validation: TokenizedRows,
        seed: int,
        pad_id: int,
        device: torch.device,
        packed: int | None = None,
        sums: bool = False,
    ) -> None:
        """packed: tokens of a training sequence that holds several rows. sums: the model gives the loss of training
        batches itself, so that their logits need not exist at once (see learn_few_positions)."""
        self._packed, self._sums = packed, sums
        self._lesson, self._seed, self._pad_id, self._device = lesson, seed, pad_id, device
        self._train, self._validation = train, validation

    def weight(self, rows: Micro, epoch: int) -> float:
        count, part = self._lesson.count, self._train
        return float(sum(count(part.tokens(row), part.targets(row), self._seed, epoch, int(row)) for row in rows))

    def batch(self, rows: Micro, epoch: int) -> Batch:
        when = (self._seed, epoch)
        batch, _ = lesson_batch(self._lesson, self._train, rows, when, self._pad_id, self._device, self._packed)
        return replace(batch, inputs={**batch.inputs, SAID: batch.targets}) if self._sums else batch

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return logits.sum() if SAID in batch.inputs else token_losses(logits, batch.targets).sum()

    def judge(self, forward: Forward) -> Judged:
        part = self._validation
        if not len(part):
            return Judged()
        losses, counts = row_losses(forward, self._lesson, part, self._seed, self._pad_id, self._device)
        loss = math.fsum(losses) / max(1, int(counts.sum()))
        return judge_losses(part.row_id, losses, counts, {"loss": loss, "perplexity": perplexity(loss)})


def lesson_batch(
    lesson: Lesson,
    part: TokenizedRows,
    rows: Micro,
    when: tuple[int, int],
    pad_id: int,
    device: torch.device,
    packed: int | None = None,
) -> tuple[Batch, Array]:
    """(the rows as a batch, how many tokens of each are learnt, int (B,)). when: seed and epoch. packed: tokens of a
    sequence, where one holds several rows: positions then begin anew with each row, which tells the model's attention
    where a row ends, and what is left empty is as a row of its own."""
    layout = layout_of(part.lengths[rows], packed)
    ids = np.full(layout.shape, pad_id, np.int64)
    mask, positions = np.zeros_like(ids), np.zeros_like(ids)
    positions[:] = np.arange(ids.shape[1]) - _filled(layout)[:, None]
    learnt, said, counts = [], [], []
    for row, sequence, start in zip(rows, layout.sequence.tolist(), layout.start.tolist(), strict=True):
        read, at, targets = lesson.teach(part.tokens(row), part.targets(row), *when, int(row))
        end = start + len(read)
        ids[sequence, start:end], mask[sequence, start:end] = read, 1
        positions[sequence, start:end] = np.arange(len(read))
        learnt.append(at + start + sequence * ids.shape[1])
        said.append(targets)
        counts.append(len(at))
    inputs = {"input_ids": torch.from_numpy(ids), LEARNT: _tensor(learnt)}
    if packed is not None:
        inputs["position_ids"] = torch.from_numpy(positions)
    elif lesson.sees_padding:
        inputs["attention_mask"] = torch.from_numpy(mask)
    inputs = {name: value.to(device) for name, value in inputs.items()}
    return Batch(inputs, _tensor(said).to(device)), np.array(counts)


def _filled(layout: Layout) -> Array:
    """Tokens of each sequence, int64 (S,)."""
    filled = np.zeros(layout.shape[0], np.int64)
    np.maximum.at(filled, layout.sequence, layout.start + layout.lengths)
    return filled


def _tensor(pieces: list[Array]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64))


def token_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each token that is learnt, float32 (M,). logits: any float type, (1, M, V). targets: (M,)."""
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), targets, reduction="none")


def row_losses(
    forward: Forward, lesson: Lesson, part: TokenizedRows, seed: int, pad_id: int, device: torch.device
) -> tuple[Array, Array]:
    """(summed loss, tokens learnt) of each row, float64 and int64 (rows,); the ranks share the work.

    Logits are reduced to these two batch by batch, since those of all rows would fill any memory.
    """
    found = []
    for rows in shared_out(batches_of(part.lengths, _rows_at_once(lesson, int(part.lengths.max())), device)):
        batch, counts = lesson_batch(lesson, part, rows, (seed + 1, 0), pad_id, device)
        losses = token_losses(forward(batch), batch.targets).double().cpu().numpy()
        found.append((rows, np.add.reduceat(np.append(losses, 0.0), np.cumsum(counts) - counts) * (counts > 0), counts))
    sums, tokens = np.zeros(len(part)), np.zeros(len(part), np.int64)
    for rows, losses, counts in (piece for rank in ranks.gather(found) for piece in rank):
        sums[rows], tokens[rows] = losses, counts
    return sums, tokens


def _rows_at_once(lesson: Lesson, longest: int) -> int:
    """Rows whose logits take at most LOGITS_BYTES."""
    row = 4 * lesson.vocabulary * max(1.0, lesson.share * longest)
    return min(EVAL_BATCH, max(1, int(LOGITS_BYTES / row)))


def perplexity(loss: float) -> float:
    """Among how many tokens, alike, the model seems to choose: e to the loss in nats a token."""
    return math.exp(min(loss, MOST_LOSS))


def language_probe(
    task: str, model: nn.Module, train: TokenizedRows, corpus: pa.Table, device: torch.device
) -> dict[str, Any]:
    """Some texts, and the logits that the model gives each of their own tokens; of a long text its first piece.

    corpus: the training rows, with row_id and text.
    """
    first = np.unique(train.row_id, return_index=True)[1]
    chosen = np.sort(first[:PROBE_ROWS])
    logits = [own_logits(model, torch.from_numpy(train.tokens(at).astype(np.int64)).to(device)) for at in chosen]
    text = dict(zip(corpus.column("row_id").to_pylist(), corpus.column("text").to_pylist(), strict=True))
    return {"task": task, "texts": [text[row] for row in train.row_id[chosen].tolist()], "logits": logits}


def answers_probe(model: nn.Module, answering: Answering, records: list[str], device: torch.device) -> dict[str, Any]:
    """The first conversations that are not cut: their texts (null where prompt and answer are tokenized apart), their
    tokens, and the logits of each of these.

    records: of the training rows.
    """
    records = records[:PROBE_LOOK]
    encoded = zip(records, *answering.encode(records), strict=True)
    whole = [(record, ids) for record, ids, _, length in encoded if length == len(ids)][:PROBE_ROWS]
    if not whole:
        records = [compact([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])]
        whole = [(records[0], answering.encode(records)[0][0])]
    logits = [own_logits(model, torch.tensor(ids, device=device)) for _, ids in whole]
    texts = [answering.together(record, ids) for record, ids in whole]
    ids = [own for _, own in whole]
    return {"task": "generation", "marks": answering.adds_marks, "texts": texts, "ids": ids, "logits": logits}

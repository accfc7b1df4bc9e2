"""A tag for each token: cross-entropy over the units of a text, and the scores of the entities that they spell.

A unit is a word as people write it, which the tag of its first piece decides (Devlin et al. 2019, arXiv 1810.04805,
section 5.3). Where some entity of the training part begins or ends within one, as in scripts without spaces, it is a
word as the tokenizer takes it apart; where some entity breaks such words too, each piece.
B windows, T tokens of the longest of them, U units of a text, C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from raysft.config.sections import TrainSection
from raysft.corpus.encode import IGNORED
from raysft.corpus.sampler import Micro
from raysft.corpus.tokens import TokenizedRows
from raysft.corpus.windows import UNITS
from raysft.metrics.judged import Judged, judge_counts
from raysft.metrics.scores import Array
from raysft.metrics.tags import best_tags, count, entities_of
from raysft.training import ranks
from raysft.training.forward import EVAL_BATCH, batches_of, shared_out
from raysft.training.losses import gamma_of, softmax_losses
from raysft.training.objective import Batch, Forward, padded
from raysft.training.weights import label_weights, require_weight


class Tagging:
    """The objective of `task: token-classification`. Targets are tags, int64 (B, T), IGNORED where nothing is learnt.

    A unit's loss counts as often as the weight of its tag says. Raises JobFileError (train.class_weights), DataError
    (all units weigh 0).
    """

    def __init__(
        self,
        train: TokenizedRows,
        validation: TokenizedRows,
        settings: TrainSection,
        pad_id: int,
        device: torch.device,
        tags: Sequence[str],
    ) -> None:
        self._train, self._validation, self._settings = train, validation, settings
        self._pad_id, self._device, self._tags = pad_id, device, len(tags)
        self.units = widest_units(train, len(tags))
        learnt = [self._learnt(train.targets(row)) for row in range(len(train))]
        learnt = [each[each != IGNORED] for each in learnt]
        counts = sum((np.bincount(each, minlength=len(tags)) for each in learnt), np.zeros(len(tags), np.int64))
        weights = label_weights(settings.class_weights, tags, counts)
        self._weight = np.array([weights[each].sum() for each in learnt])
        require_weight(float(self._weight.sum()))
        self._weights = torch.from_numpy(weights).to(device, torch.float32)

    def weight(self, rows: Micro, epoch: int) -> float:
        return float(self._weight[rows].sum())

    def batch(self, rows: Micro, epoch: int) -> Batch:
        return self._batch(self._train, rows)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        settings, targets = self._settings, batch.targets.flatten()
        learnt = targets != IGNORED
        tags = targets.clamp_min(0)
        losses = softmax_losses(logits.float().flatten(0, 1), tags, settings.label_smoothing, gamma_of(settings))
        return (losses * self._weights[tags] * learnt).sum()

    def judge(self, forward: Forward) -> Judged:
        part = self._validation
        if not len(part):
            return Judged()
        found = unit_scores(forward, lambda rows: self._batch(part, rows), part, self._device)
        numbers = [self._learnt(part.targets(row)) for row in range(len(part))]
        # A text's windows follow one another, and so do the units that belong to them.
        starts = np.flatnonzero(np.diff(part.row_id, prepend=-1))
        log_p = [np.concatenate(each) for each in _split(found, starts)]
        tags = [np.concatenate([one[one != IGNORED] for one in each]) for each in _split(numbers, starts)]
        losses = np.array([-each[np.arange(len(own)), own].sum() for each, own in zip(log_p, tags, strict=True)])
        true = [entities_of(_proper(each)) for each in tags]
        given = [entities_of(each) for each in best_tags(log_p)]
        units = np.array([len(each) for each in tags])
        return judge_counts(part.row_id[starts], count(true, given, (self._tags - 1) // 2, losses, units))

    def _batch(self, part: TokenizedRows, rows: Micro) -> Batch:
        ids, mask = padded(part, rows, self._pad_id)
        targets = np.full(ids.shape, IGNORED, np.int64)
        for place, row in enumerate(rows):
            targets[place, : part.lengths[row]] = self._learnt(part.targets(row))
        on = self._device
        return Batch({"input_ids": ids.to(on), "attention_mask": mask.to(on)}, torch.from_numpy(targets).to(on))

    def _learnt(self, numbers: Array) -> Array:
        """The tag of each token that is a unit, IGNORED elsewhere; from what a shard holds: see corpus/windows.py."""
        return units_of(numbers, self._tags, self.units)


def widest_units(part: TokenizedRows, tags: int) -> str:
    """The first of UNITS within which no entity begins or ends."""
    broken = [False] * len(UNITS)
    for row in range(len(part)):
        broken = [known or _broken(part.targets(row), tags, depth) for depth, known in enumerate(broken)]
    return UNITS[broken.index(False)]


def _broken(numbers: Array, tags: int, depth: int) -> bool:
    """Whether some entity begins or ends within a unit, all of them being of this depth or less."""
    goes_on = np.flatnonzero(numbers >= tags * (depth + 1))
    goes_on = goes_on[numbers[goes_on - 1] != IGNORED]  # of the others the unit's beginning belongs to another window
    own, before = numbers[goes_on] % tags, numbers[goes_on - 1] % tags
    # Outside after an entity, or the beginning of one: what goes on in a unit as it began is outside, or an I.
    return bool((((own == 0) & (before != 0)) | (own % 2 == 1)).any())


def units_of(numbers: Array, tags: int, units: str) -> Array:
    """The tag of each token that is a unit, IGNORED elsewhere, int64 (T,). numbers: targets of a shard."""
    there = (numbers != IGNORED) & (numbers < tags * (UNITS.index(units) + 1))
    return np.where(there, numbers % tags, IGNORED).astype(np.int64)


def unit_scores(
    forward: Forward, batch_of: Callable[[Micro], Batch], part: TokenizedRows, device: torch.device
) -> list[Array]:
    """Log-probabilities of each tag at the units of every window, float32 (U, C) each; the ranks share the work.

    Units are where the targets of a batch are not IGNORED.
    """
    found: list[tuple[int, Array]] = []
    for rows in shared_out(batches_of(part.lengths, EVAL_BATCH, device)):
        batch = batch_of(rows)
        log_p = forward(batch).float().log_softmax(dim=-1).cpu().numpy()
        here = (batch.targets != IGNORED).cpu().numpy()
        found += [(int(row), log_p[place][here[place]]) for place, row in enumerate(rows)]
    result: list[Array] = [np.zeros((0, 1))] * len(part)
    for row, scores in (each for rank in ranks.gather(found) for each in rank):
        result[row] = scores
    return result


def _split(windows: list[Array], starts: Array) -> list[list[Array]]:
    """The windows of each text."""
    ends = [*starts[1:].tolist(), len(windows)]
    return [windows[start:end] for start, end in zip(starts.tolist(), ends, strict=True)]


def _proper(tags: Array) -> Array:
    """Tags in which an I that follows neither a B nor an I of its type is a B: an entity that begins within a word."""
    before = np.concatenate([[0], tags[:-1]])
    alone = (tags > 0) & (tags % 2 == 0) & (before != tags) & (before != tags - 1)
    return np.where(alone, tags - 1, tags)

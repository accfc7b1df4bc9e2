"""When training ends, and which epoch is the best: by the measure `train.select`, on the validation part."""

from __future__ import annotations

from typing import Any

from raysft.config.sections import TrainSection
from raysft.errors import TrainingFailed
from raysft.metrics.measures import is_loss
from raysft.training.checkpoint import Progress

ALL_EPOCHS = "all epochs are done"


def judge(progress: Progress, scores: dict[str, float], settings: TrainSection, total_steps: int, epoch: int) -> None:
    """Take in the scores after an epoch: the best step so far, and whether training ends, and why.

    Equal scores: the lower loss is the better checkpoint, but no reason to go on. No scores, for want of a validation
    part: the last step is the best. epoch: how many are done.
    Raises TrainingFailed when `train.select` is not among the scores.
    """
    if scores:
        _compare(progress, scores, settings)
    else:
        progress.best_step = progress.step
    if progress.step == total_steps:
        progress.ended = ALL_EPOCHS
    elif settings.stop_at is not None and epoch >= settings.stop_at:
        progress.ended = f"epoch {epoch} is done (train.stop_at)"
    elif settings.stop_after and progress.no_better >= settings.stop_after:
        epochs = "1 epoch was" if progress.no_better == 1 else f"{progress.no_better} epochs in a row were"
        progress.ended = f"{epochs} no better by {settings.select} (train.stop_after)"


def _compare(progress: Progress, scores: dict[str, float], settings: TrainSection) -> None:
    name = settings.select
    if name not in scores:
        raise TrainingFailed(
            f"train.select: this run measures no {name}; it measures {', '.join(sorted(scores))}",
            f"Use --set train.select={sorted(scores)[0]}, or another of them.",
        )
    score = -scores[name] if is_loss(name) else scores[name]
    candidate: list[Any] = [score, -scores["loss"]]
    improved = not progress.best or score > progress.best[0]
    progress.no_better = 0 if improved else progress.no_better + 1
    if not progress.best or candidate > progress.best:
        progress.best, progress.best_step, progress.best_scores = candidate, progress.step, dict(scores)

"""One configuration on one fold: train on the others, judge on it after each epoch. Imports Ray nowhere.

What the evaluations found is written epoch by epoch, so that a run of several workers that is interrupted goes on; the
fold is done when fold.json is there. E epochs, n texts of the fold.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.errors import TrainingFailed, UnlikeNode, UsageError
from raysft.metrics.judged import Judged
from raysft.model.groups import tensors_of
from raysft.storage.commit import read_json, write_bytes, write_json
from raysft.storage.layout import FoldFolder
from raysft.storage.lease import lease
from raysft.training import ranks
from raysft.training.loop import Loop
from raysft.training.precision import Precision, choose
from raysft.tuning.objectives import TIME

Array = np.ndarray[Any, Any]


class TornFold(Exception):
    """What a fold left does not fit together: another process wrote there too, or removed something."""


@dataclass(frozen=True)
class FoldRecord:
    """What is known of a configuration on a fold. Lists have an entry an epoch."""

    scores: list[dict[str, float]]
    train_loss: list[float]  # mean of the steps of each epoch, with dropout, before the update
    seconds: float  # of training and evaluation, without what was waited for between epochs
    train_s: float
    eval_s: float
    examples: int
    tokens: int
    padded: int
    parameters: int
    trained: int  # of these
    precision: str
    ended: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class HeldOut:
    """What was decided about the texts of a fold after each epoch."""

    row_id: Array  # (n,), or a piece of a text each
    influence: dict[str, Array]  # (E, n), by measure: metrics/influence.py
    found: dict[str, Array]  # (E, n, ...): metrics/judged.py


def train_fold(loop: Loop, folder: FoldFolder, measures: Sequence[str]) -> Iterator[Judged]:
    """Train to the end, and leave the record of the fold; gives what each evaluation found.

    measures: whose influences are kept. Whoever leaves off, or is killed, leaves no record. With several ranks all call
    this together, and the first one writes. Raises TrainingFailed where a score is no finite number, TornFold where
    what is there at the end is not one run.
    """
    started, elsewhere = time.perf_counter(), 0.0
    with loop.precision.training():
        for found in loop.epochs():
            epoch = round(loop.sampler.epochs_done(loop.progress.step))
            judged = found
            _require_finite(judged.scores, epoch)
            ranks.on_first_rank(lambda: _write_epoch(folder.epoch(epoch), judged, measures))  # noqa: B023
            left = time.perf_counter()
            yield found
            elsewhere += time.perf_counter() - left
    loop.tracking.close()
    ranks.on_first_rank(lambda: _finish(loop, folder, time.perf_counter() - started - elsewhere))


def precision_on(file: Path, asked: str, device: torch.device) -> Precision:
    """The precision of a fold; all ranks ask together. file: where a sweep keeps that of its first one.

    With `auto` all folds are computed as the first one was, wherever they are trained: between configurations that were
    not, some of the difference would be that of their machines. Raises UsageError, or UnlikeNode where this machine
    cannot.
    """
    if asked != "auto":
        return choose(asked, device)
    own = choose(asked, device).name
    begun = ranks.on_first_rank(lambda: _of_first_fold(file, own))
    try:
        return choose(asked, device, begun)
    except UsageError as error:
        raise UnlikeNode(error.message, error.next_step) from None


def _of_first_fold(file: Path, own: str) -> str:
    """What the file says; where there is none yet this fold is the first one."""
    with lease(file.with_name(f".{file.name}.lock"), "the precision of the sweep", wait_s=60):
        if not file.exists():
            write_bytes(file, own.encode())
        return file.read_text(encoding="utf-8").strip()


def _require_finite(scores: dict[str, float], epoch: int) -> None:
    for name, value in scores.items():
        if not math.isfinite(value):
            raise TrainingFailed(
                f"the validation {name} after epoch {epoch} is {value}",
                "Use a lower train.learning_rate, or train.clip_norm.",
            )


def read_record(folder: FoldFolder) -> FoldRecord:
    """Of a fold that is done."""
    return FoldRecord(**read_json(folder.done))


def busy_s(folder: FoldFolder) -> float:
    """Seconds of training and evaluation; of a fold that was left off as far as its journal tells, 0 where none is."""
    if folder.done.exists():
        return read_record(folder).seconds
    lines = []
    for text in folder.metrics.read_text(encoding="utf-8").splitlines() if folder.metrics.exists() else []:
        with suppress(ValueError):  # the last line of a process that was killed
            lines.append(json.loads(text))
    trained = max((line.get("seconds", 0.0) for line in lines), default=0.0)
    return float(trained + sum(line.get("eval_s", 0.0) for line in lines))


def read_held_out(folder: FoldFolder, influence_only: bool = False) -> HeldOut:
    """Of a fold that is done. influence_only: without what was decided, which is larger by far."""
    with np.load(folder.held_out) as stored:
        arrays = {name: stored[name] for name in stored.files if not (influence_only and name.startswith("found:"))}
    row_id = arrays.pop("row_id")
    kinds: dict[str, dict[str, Array]] = {"influence": {}, "found": {}}
    for name, values in arrays.items():
        kind, _, own = name.partition(":")
        kinds[kind][own] = values
    return HeldOut(row_id, **kinds)


def _write_epoch(file: Path, judged: Judged, measures: Sequence[str]) -> None:
    arrays = {f"influence:{name}": judged.influence[name].astype(np.float32) for name in measures}
    arrays |= {f"found:{name}": values for name, values in judged.found.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays["row_id"] = judged.row_id
    with file.open("wb") as sink:
        np.savez(sink, **arrays)  # type: ignore[arg-type]


def _finish(loop: Loop, folder: FoldFolder, seconds: float) -> None:
    if folder.done.exists():
        return  # by workers of whom one died behind the end, so that all of them go on from there once more
    epochs = round(loop.sampler.epochs_done(loop.progress.step))
    files = [folder.epoch(number) for number in range(1, epochs + 1)]
    texts = _join(files, folder.held_out)
    lines = [json.loads(text) for text in folder.metrics.read_text(encoding="utf-8").splitlines()]
    scored = [line["epoch"] for line in lines if "validation_loss" in line]
    if scored != list(range(1, epochs + 1)):
        raise TornFold(f"{folder.metrics} has scores of epochs {scored}, after {epochs} epochs of training")
    progress, (parameters, trained) = loop.progress, _sizes(loop.model)
    eval_s = sum(line.get("eval_s", 0.0) for line in lines)
    scores = [_scores_of(line) for line in lines if "validation_loss" in line]
    prediction = {TIME: round(1000 * eval_s / max(1, texts * len(scores)), 4)}
    record = FoldRecord(
        scores=[{**each, **prediction} for each in scores],
        train_loss=_mean_losses(lines, loop.sampler.ends),
        seconds=round(seconds, 3),
        train_s=round(progress.seconds, 3),
        eval_s=round(eval_s, 3),
        examples=progress.examples,
        tokens=progress.tokens,
        padded=progress.padded,
        parameters=parameters,
        trained=trained,
        precision=loop.precision.name,
        ended=progress.ended,
    )
    write_json(folder.done, record.to_json())
    for file in files:
        file.unlink(missing_ok=True)


def _sizes(model: nn.Module) -> tuple[int, int]:
    """(parameters of the artifact, those that train). Adapters are merged in it, and 4 bits unpacked. Also of the
    tokens that were left out because no row has them: configurations are compared by them, and not of all is anything
    left out (tuning/work.py)."""
    tensors = tensors_of(model)
    beside = (".lora_", ".original_module.")  # what peft adds, and what a copy of it stands for
    found = [
        sum(math.prod(each.shape) for each in tensors if not any(mark in each.name for mark in beside)),
        sum(math.prod(each.shape) for each in tensors if each.trains),
    ]
    find: Any = getattr(model, "get_input_embeddings", None)
    embedding = None if find is None else find()
    if isinstance(embedding, nn.Embedding):
        config: Any = model.config
        tokens = max(0, getattr(config, "vocab_size", 0) - len(embedding.weight))
        left_out = tokens * embedding.embedding_dim
        found = [found[0] + left_out, found[1] + left_out * embedding.weight.requires_grad]
    return found[0], found[1]


def _join(files: Sequence[Path], target: Path) -> int:
    """The epochs of a fold as one file, an axis more in front of each array; gives the number of texts. Raises
    TornFold."""
    loaded = []
    for file in files:
        if not file.exists():
            raise TornFold(f"{file} is gone")
        with np.load(file) as stored:
            loaded.append(dict(stored))
        if not np.array_equal(loaded[-1]["row_id"], loaded[0]["row_id"]):
            raise TornFold(f"{file} is about other rows than {files[0].name}")
    arrays = {name: np.stack([each[name] for each in loaded]) for name in loaded[0] if name != "row_id"}
    content = io.BytesIO()
    arrays["row_id"] = loaded[0]["row_id"]
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_bytes(target, content.getvalue())
    return len(np.unique(loaded[0]["row_id"]))


def _scores_of(line: dict[str, Any]) -> dict[str, float]:
    mark = "validation_"
    return {name.removeprefix(mark): value for name, value in line.items() if name.startswith(mark)}


def _mean_losses(lines: Sequence[dict[str, Any]], ends: Sequence[int]) -> list[float]:
    """Mean training loss of each epoch that was begun, from the lines of the journal."""
    losses = [(line["step"], line["loss"]) for line in lines if line.get("loss") is not None]
    epoch = [(int(np.searchsorted(ends, step)), loss) for step, loss in losses]
    return [
        round(float(np.mean([loss for at, loss in epoch if at == number])), 6)
        for number in sorted({at for at, _ in epoch})
    ]

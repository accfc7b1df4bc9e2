"""Configurations with scores of one's choice, and simulated worlds whose configurations race."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from raysft.config import Job, JobConfig
from raysft.metrics.influence import of_f1_macro, of_mean
from raysft.metrics.scores import Array, confusion, f1_macro
from raysft.storage.commit import write_json
from raysft.storage.layout import FoldFolder, SweepFolder
from raysft.tuning.fold import FoldRecord
from raysft.tuning.race import Race
from raysft.tuning.record import Units
from raysft.tuning.results import FoldScores, Trial
from raysft.tuning.space import Settings, Space
from raysft.tuning.work import Work

ONE, TWO = {"f1_macro": "max"}, {"f1_macro": "max", "loss": "min"}
UNITS = 64
DIFFERS = (2 * UNITS / (UNITS - 1)) ** 0.5
Scores = float | Sequence[float]  # after one epoch, or after each


def fold(
    f1: Scores,
    loss: Scores | None = None,
    *,
    number: int = 0,
    error: float = 0.01,
    train_loss: Scores = 0.1,
    seconds: float = 1.0,
    parameters: int = 100,
    flops: float = 1e9,
    rows: int = UNITS,
) -> FoldScores:
    """A fold that is done. error: of either measure; each number errs on a unit of its own, so that the error of a
    difference of two is `error` times DIFFERS, and that of two epochs of one is 0. loss: 1 - f1 unless given."""
    scores = each_epoch(f1)
    losses = [1 - score for score in scores] if loss is None else each_epoch(loss)
    trained = each_epoch(train_loss)
    own = np.zeros((len(scores), rows))
    own[:, number % rows] = error
    return FoldScores(
        scores=[{"f1_macro": a, "loss": b} for a, b in zip(scores, losses, strict=True)],
        influence={"f1_macro": own, "loss": own},
        seconds=seconds,
        train_loss=trained if len(trained) > 1 else trained * len(scores),
        parameters=parameters,
        flops=flops,
    )


def each_epoch(scores: Scores) -> list[float]:
    return [float(scores)] if isinstance(scores, int | float) else [float(each) for each in scores]


def trial(
    number: int,
    folds: Mapping[int, Scores] | None = None,
    loss: Mapping[int, Scores] | None = None,
    *,
    objectives: dict[str, str] | None = None,
    error: float = 0.01,
    cost: tuple[int, float] = (100, 1e9),
    train_loss: Scores = 0.1,
) -> Trial:
    """A configuration by its macro-F1 on folds. See `fold`."""
    found = Trial(number, {"train.seed": number}, objectives or TWO)
    for place, f1 in (folds or {}).items():
        own = None if loss is None else loss[place]
        scores = fold(f1, own, number=number, error=error, train_loss=train_loss, parameters=cost[0], flops=cost[1])
        found.add(place, scores)
    return found


def race(trials: Iterable[Trial], folds: int = 5, epochs: int = 1, racing: bool = True, early: bool = True) -> Race:
    """Configurations of which some may have folds already."""
    listed = list(trials)
    objectives = listed[0].objectives if listed else TWO
    found = Race(range(folds), objectives, epochs, racing, early)
    for each in listed:
        found.add(each)
    return found


def grid_of(space: Space) -> list[Settings]:
    """Every combination of a small space."""
    found = space.grid_up_to(1000)
    assert found is not None
    return found


@dataclass(frozen=True)
class World:
    """Configurations of a true quality, the chance that a row is right, after the last epoch. A row that is hard for
    one is mostly hard for all; each fold of each is trained anew, with a little luck."""

    qualities: tuple[float, ...]
    seed: int
    folds: int = 5
    rows: int = 77  # of a fold
    classes: int = 77
    epochs: int = 1
    alike: float = 0.85  # share of rows that are as hard for one configuration as for all
    luck: float = 0.01  # standard deviation of the quality of a fold

    @staticmethod
    def of(low: float, high: float, seed: int, configurations: int = 12, rows: int = 77, classes: int = 77) -> World:
        """Qualities from `low` to `high`, evenly, in an order by chance."""
        qualities = np.random.default_rng(seed).permutation(np.linspace(low, high, configurations))
        return World(tuple(qualities.tolist()), seed, rows=rows, classes=classes)

    @cached_property
    def results(self) -> dict[tuple[int, int], FoldScores]:
        """Of each configuration, by number from 1, on each fold."""
        chance = np.random.default_rng([self.seed, 1])
        found = {}
        for place in range(self.folds):
            labels = chance.permutation(np.arange(self.rows) % self.classes)
            hard = chance.random(self.rows)
            for number, quality in enumerate(self.qualities, start=1):
                found[number, place] = self._fold(chance, labels, hard, quality)
        return found

    @cached_property
    def best(self) -> int:
        """Who wins where every fold of every configuration is trained."""
        means = [
            np.mean([self.results[number, place].scores[-1]["f1_macro"] for place in range(self.folds)])
            for number in range(1, len(self.qualities) + 1)
        ]
        return 1 + int(np.argmax(means))

    def trials(self) -> list[Trial]:
        return [trial(number) for number in range(1, len(self.qualities) + 1)]

    def _fold(self, chance: np.random.Generator, labels: Array, hard: Array, quality: float) -> FoldScores:
        own = np.where(chance.random(self.rows) < self.alike, hard, chance.random(self.rows))
        other = (labels + chance.integers(1, self.classes, self.rows)) % self.classes
        final = quality + self.luck * chance.standard_normal()
        scores, moved, losses = [], [], []
        for epoch in range(1, self.epochs + 1):
            level = final * (1 - 0.5 ** (1 + 4 * epoch / self.epochs)) / (1 - 0.5**5)
            predicted = np.where(own < level, labels, other)
            loss = np.log1p(np.exp(6 * (own - level)))
            scores.append(
                {"f1_macro": float(f1_macro(confusion(labels, predicted, self.classes))), "loss": float(loss.mean())}
            )
            moved.append(of_f1_macro(labels, predicted, self.classes))
            losses.append(of_mean(loss))
        return FoldScores(
            scores, {"f1_macro": np.stack(moved), "loss": np.stack(losses)}, 1.0, train_loss=[0.1] * self.epochs
        )


@dataclass
class Run:
    """What a race did to a world."""

    begun: list[tuple[int, int]] = field(default_factory=list)  # in order
    done: list[tuple[int, int]] = field(default_factory=list)
    epochs: int = 0  # that were trained


def drive(of: Race, world: World, slots: int = 1, order: random.Random | None = None) -> Run:
    """Train what the race asks for, so many folds at a time, until nothing is left; folds end in an order by chance,
    or in that in which they were begun."""
    run, busy = Run(), list[tuple[int, int]]()
    while True:
        while len(busy) < slots and (found := of.next()) is not None:
            of.start(*found)
            run.begun.append(found)
            busy.append(found)
        if not busy:
            return run
        number, place = busy.pop(order.randrange(len(busy)) if order else 0)
        run.epochs += train(of, number, place, world.results[number, place])
        if place in of.trials[number].folds:
            run.done.append((number, place))


def train(of: Race, number: int, place: int, scores: FoldScores) -> int:
    """Epoch by epoch, as far as the race lets it go; how many epochs that were."""
    for epoch in range(1, scores.epochs + 1):
        last = {name: np.repeat(values[epoch - 1 : epoch], epoch, axis=0) for name, values in scores.influence.items()}
        if of.hopeless(number, place, FoldScores(scores.scores[:epoch], last)):
            of.leave(number, place)
            return epoch
    of.finish(number, place, scores)
    return scores.epochs


def work_in(folder: Path, search: dict[str, Any], **tune: Any) -> Work:
    """Work whose folds nobody trains: see `write_fold`. search, tune: the section."""
    values = {"name": "tiny", "data": {"train": "rows.csv"}, "tune": {"search": search, **tune}}
    space = Space.of(Job(JobConfig.model_validate(values), Path("job.yaml"), values=values))
    return Work(space, SweepFolder(folder), {}, tuple(TWO), threads=1, gpu=False)


def units_of(rows: int) -> Units:
    """Every row by itself."""
    return Units(np.arange(rows), np.arange(rows))


def write_fold(folder: FoldFolder, scores: FoldScores) -> None:
    """Leave a fold as training does. Its influences are those of rows."""
    arrays = {f"influence:{name}": values.astype(np.float32) for name, values in scores.influence.items()}
    rows = next(iter(arrays.values())).shape[1]
    folder.path.mkdir(parents=True, exist_ok=True)
    np.savez(folder.held_out, row_id=np.arange(rows), **arrays)  # type: ignore[arg-type]
    record = FoldRecord(
        scores=scores.scores,
        train_loss=scores.train_loss,
        seconds=scores.seconds,
        train_s=scores.seconds,
        eval_s=0.0,
        examples=rows,
        tokens=rows,
        padded=rows,
        parameters=scores.parameters,
        trained=scores.parameters,
        precision="fp32",
        ended="all epochs are done",
    )
    write_json(folder.done, record.to_json())

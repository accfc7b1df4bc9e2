"""A simulated world under a director: who trains what it asks for, and dies on the way where a test wants that."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysft.tuning.director import Director, FoldJob
from raysft.tuning.parameter import Settings
from tests.support.sweeps import TWO, World, units_of, work_in, write_fold

SEEDS = list(range(1, 11))
SEARCH: dict[str, Any] = {"train.seed": SEEDS}  # each a configuration of the world
EPOCHS = 3
WORLD = World(
    (0.3, 0.5, 0.7, 0.45, 0.72, 0.2, 0.71, 0.6, 0.68, 0.4), seed=3, folds=3, rows=30, classes=3, epochs=EPOCHS
)
KILLS = ("within the fold", "before its record", "after its record")


class Killed(Exception):
    """The process is gone."""


@dataclass
class Engine:
    """Trains what a director asks for as the real one does, without a model; dies during some fold."""

    director: Director
    world: World = WORLD
    slots: int = 1
    dies_at: int | None = None  # the fold, counted from 0
    how: str = KILLS[0]
    trained: list[FoldJob] = field(default_factory=list)  # whose record is on storage
    begun: list[FoldJob] = field(default_factory=list)

    def run(self) -> Engine:
        """To the end, or until it dies."""
        busy: list[FoldJob] = []
        while not self.director.nothing_left():
            while self.director.running < self.slots and (job := self.director.next()) is not None:
                busy.append(job)
            if not busy:
                assert self.director.nothing_left()
                break
            try:
                self._train(busy.pop(0))
            except Killed:
                break
        return self

    def _train(self, job: FoldJob) -> None:
        number, place = job.settings["train.seed"], job.fold.fold
        scores = self.world.results[number, place]
        dies = len(self.begun) == self.dies_at
        self.begun.append(job)
        for epoch in range(1, scores.epochs + 1):
            influence = {name: values[epoch - 1] for name, values in scores.influence.items()}
            if dies and self.how == "within the fold" and epoch == 2:
                raise Killed
            if self.director.epoch(job, epoch, scores.scores[epoch - 1], units_of(self.world.rows).row_id, influence):
                return
        if dies and self.how == "before its record":
            raise Killed
        write_fold(self.director.work.fold_folder(job.trial, job.fold), scores)
        self.trained.append(job)
        if dies:
            raise Killed
        self.director.done(job)


def director(folder: Path, slots: int = 1, without: int | None = None, search: Any = None, **tune: Any) -> Director:
    work = work_in(folder, search or SEARCH, **tune)
    folds = [each for each in range(WORLD.folds) if each != without]
    return Director.of(work, folds, TWO, EPOCHS, units_of(WORLD.rows), slots, without)


def lines(of: Director) -> list[dict[str, Any]]:
    return [json.loads(text) for text in of.record.folder.trials.read_text().splitlines()]


def state(of: Director) -> list[tuple[Settings, bool, dict[int, list[dict[str, float]]]]]:
    """What is known of each configuration at the end."""
    return [
        (each.settings, each.out, {place: done.scores for place, done in sorted(each.folds.items())})
        for each in of.race.trials.values()
    ]


def told(of: Director) -> dict[tuple[int, str], float]:
    """What the lines say each configuration is worth, by its number and the measure."""
    values = {line["trial"]: line["values"] for line in lines(of) if "values" in line}
    return {(number, name): value for number, found in values.items() for name, value in found.items()}

"""How often a race stops the configuration that would have won, and what it saves: whole recorded sweeps, replayed.

    python benchmarks/racing.py SWEEP [SWEEP ...] [--orders 200] [--slots 2]

SWEEP: the folder of a sweep in which nothing was stopped (`raysft tune JOB --set tune.racing=false --set
tune.early=false`; results/sweeps/NAME). Its configurations are run through raysft/tuning/race.py once more, epoch by
epoch, in as many orders of configurations and folds as asked for, with as many folds at a time; scores and influences
are those that were recorded. Lost: the winner of the whole sweep was stopped. Behind: by how much the mean of what the
race chose is then lower, and how often by more than the standard error of the winner's own. Nothing is trained.
"""

from __future__ import annotations

import argparse
import heapq
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raysft.storage.layout import SweepFolder
from raysft.tuning import race as rules
from raysft.tuning.fold import read_held_out
from raysft.tuning.objectives import TIME
from raysft.tuning.race import Race
from raysft.tuning.record import Units, scores_of
from raysft.tuning.results import FoldScores, Trial, better
from raysft.tuning.work import FoldId

LIMITS = [(1.65, 2.0), (2.0, 2.5), (2.5, 3.0), (3.0, 3.5)]  # Z, FIRST_FOLD


@dataclass(frozen=True)
class Recorded:
    """A whole sweep: every configuration on every fold."""

    name: str
    objectives: dict[str, str]
    folds: list[int]
    epochs: int
    scores: dict[int, dict[int, FoldScores]]  # of a configuration on a fold

    @staticmethod
    def read(path: Path) -> Recorded:
        result = json.loads((path / "result.json").read_text(encoding="utf-8"))
        units = _rows(path, result)
        scores: dict[int, dict[int, FoldScores]] = {}
        for row in result["trials"]:
            for fold in result["folds"]:
                found = scores_of(SweepFolder(path), row["trial"], FoldId(fold), units)
                if found is None:
                    raise SystemExit(f"{path}: trial {row['trial']} has no fold {fold}: something was stopped")
                scores.setdefault(row["trial"], {})[fold] = found
        objectives = {name: way for name, way in result["objectives"].items() if name != TIME}
        return Recorded(path.parent.parent.parent.name, objectives, result["folds"], result["epochs"], scores)

    def winner(self) -> Trial:
        return better([self.whole(number) for number in self.scores])[0]

    def whole(self, number: int) -> Trial:
        trial = Trial(number, {}, self.objectives)
        for fold, scores in self.scores[number].items():
            trial.add(fold, scores)
        return trial


def _rows(path: Path, result: dict[str, Any]) -> Units:
    """Each row a unit of its own."""
    number = result["trials"][0]["trial"]
    found = [read_held_out(SweepFolder(path).fold(number, str(fold))).row_id for fold in result["folds"]]
    row_id = np.unique(np.concatenate(found))
    return Units(row_id, np.arange(len(row_id)))


@dataclass
class Replay:
    """One race over a recorded sweep. order: the configurations as they are proposed."""

    recorded: Recorded
    order: list[int]
    folds: list[int]
    slots: int
    early: bool
    ties: bool = False
    epochs_run: int = 0
    race: Race = field(init=False)

    def __post_init__(self) -> None:
        self.race = Race(self.folds, self.recorded.objectives, self.recorded.epochs, early=self.early, ties=self.ties)
        for place, number in enumerate(self.order):
            self.race.add(Trial(place, {"number": number}, self.recorded.objectives))

    def run(self) -> tuple[Trial | None, float]:
        """(what the race chose, as the whole sweep knows it; share of the epochs that were run)."""
        clock, waiting = 0, [(0, slot) for slot in range(self.slots)]
        running: dict[int, tuple[int, int, int]] = {}  # of a slot: configuration, fold, epochs done
        while waiting:
            clock, slot = heapq.heappop(waiting)
            if slot in running:
                running[slot] = self._epoch(*running[slot])
                if not running[slot][2]:
                    del running[slot]
            if slot not in running:
                found = self.race.next()
                if found is None:
                    if self.race.running:
                        heapq.heappush(waiting, (clock + 1, slot))
                    continue
                self.race.start(*found)
                running[slot] = (*found, 0)
            heapq.heappush(waiting, (clock + 1, slot))
        finished = better(self.race.finished)
        chosen = self.recorded.whole(finished[0].settings["number"]) if finished else None
        every = sum(each.epochs for folds in self.recorded.scores.values() for each in folds.values())
        return chosen, self.epochs_run / every

    def _epoch(self, number: int, fold: int, done: int) -> tuple[int, int, int]:
        """One epoch of a fold; 0 epochs done where the fold has ended."""
        scores = self.recorded.scores[self.race.trials[number].settings["number"]][fold]
        done += 1
        self.epochs_run += 1
        if done == scores.epochs:
            self.race.finish(number, fold, scores)
            return number, fold, 0
        so_far = FoldScores(scores.scores[:done], {name: each[:done] for name, each in scores.influence.items()})
        if self.race.hopeless(number, fold, so_far):
            self.race.leave(number, fold)
            return number, fold, 0
        return number, fold, done


def main() -> None:
    """Replay every sweep under every limit and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="+", type=Path)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--slots", type=int, default=2)
    arguments = parser.parse_args()
    print(
        "| sweep | Z, first fold | within folds | ties | lost | by more than a standard error | mean behind "
        "| most behind | epochs run |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for path in arguments.sweeps:
        recorded = Recorded.read(path)
        for limits in LIMITS:
            rules.Z, rules.FIRST_FOLD = limits
            for early, ties in ((False, False), (True, False), (True, True)):
                print(line(recorded, limits, early, ties, arguments.orders, arguments.slots), flush=True)


def line(recorded: Recorded, limits: tuple[float, float], early: bool, ties: bool, orders: int, slots: int) -> str:
    """One row of the table."""
    winner, random = recorded.winner(), np.random.default_rng(0)
    measure, way = winner.primary, winner.objectives[winner.primary]
    behind, run = [], []
    for _ in range(orders):
        order, folds = random.permutation(list(recorded.scores)).tolist(), random.permutation(recorded.folds).tolist()
        chosen, share = Replay(recorded, order, folds, slots, early, ties).run()
        assert chosen is not None
        gap = (winner.mean(measure) - chosen.mean(measure)) * (1 if way == "max" else -1)
        behind.append(gap)
        run.append(share)
    lost, far = (sum(gap > limit for gap in behind) for limit in (0.0, winner.error(measure)))
    cells = [
        recorded.name, f"{limits[0]:g}, {limits[1]:g}", "yes" if early else "no", "yes" if ties else "no",
        f"{lost / orders:.1%}", f"{far / orders:.1%}",
        f"{np.mean(behind):.4f}", f"{max(behind):.4f}", f"{np.mean(run):.0%}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

"""Configurations as lines of a table: on the terminal while a sweep runs, in result.json and the report afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysft.tuning.race import Race
from raysft.tuning.results import Trial, better


def trial_rows(race: Race) -> list[dict[str, Any]]:
    """Every configuration, those with all folds first, the best of these on top."""
    return [trial_row(trial, len(race.folds), race) for trial in ordered(race)]


def ordered(race: Race) -> list[Trial]:
    """Those with all folds, then those in the race, then the stopped ones, each from the best down; then the rest."""
    groups: dict[int, list[Trial]] = {}
    for trial in race.trials.values():
        groups.setdefault(_rank(trial, race), []).append(trial)
    return [trial for rank in sorted(groups) for trial in _within(groups[rank])]


def trial_row(trial: Trial, folds: int, race: Race) -> dict[str, Any]:
    """One configuration. Scores are means over its folds at its common epoch, `se` their standard errors."""
    row: dict[str, Any] = {
        "trial": trial.number,
        "settings": trial.settings,
        "status": status_of(trial, race),
        "folds_done": len(trial.folds),
        "folds": folds,
        "why": trial.stopped or trial.failed,
    }
    if not trial.folds:
        return row
    curves = {name: [round(value, 6) for value in trial.curve(name)] for name in {*trial.objectives, "loss"}}
    count = min(len(each.train_loss) for each in trial.folds.values())
    train = [sum(each.train_loss[at] for each in trial.folds.values()) / len(trial.folds) for at in range(count)]
    return row | {
        **{name: {"value": trial.mean(name), "se": trial.error(name)} for name in trial.objectives},
        "epoch": trial.epoch,
        "by_fold": {
            str(fold): {name: trial.value(name, fold) for name in trial.objectives} for fold in sorted(trial.folds)
        },
        "curves": {**curves, "train_loss": [round(value, 6) for value in train]},
        "seconds": round(trial.seconds, 2),
        "parameters": trial.cost[0],
    }


def status_of(trial: Trial, race: Race) -> str:
    """finished, running, waiting, stopped or failed."""
    if trial.failed:
        return "failed"
    if len(trial.folds) == len(race.folds):
        return "finished"
    if trial.stopped:
        return "stopped"
    return "running" if any(number == trial.number for number, _ in race.running) else "waiting"


def _rank(trial: Trial, race: Race) -> int:
    return ["finished", "running", "waiting", "stopped", "failed"].index(status_of(trial, race))


def _within(trials: Sequence[Trial]) -> list[Trial]:
    scored = better([trial for trial in trials if trial.folds])
    return [*scored, *sorted((trial for trial in trials if not trial.folds), key=lambda trial: trial.number)]

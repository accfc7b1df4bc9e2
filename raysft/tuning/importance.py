"""How much of what configurations differ by comes from each setting."""

from __future__ import annotations

import warnings

from raysft.tuning.race import Race
from raysft.tuning.results import Trial, better, worth
from raysft.tuning.space import Space

FEWEST = 4  # configurations with scores, from which it says anything


def importance_of(space: Space, race: Race) -> dict[str, float]:
    """Share of the variance of the first objective over the space that each key explains, the largest first (functional
    ANOVA over a random forest: Hutter, Hoos, Leyton-Brown, ICML 2014), by optuna; {} where too little is known.

    Keys with a condition are left out, since not every configuration has them.
    """
    scored = [trial for trial in race.trials.values() if trial.folds]
    values = _values(scored)
    keys = {parameter.key for parameter in space.parameters if not parameter.when}
    if len(scored) < FEWEST or len(keys) < 2 or len(set(values)) < 2:
        return dict.fromkeys(keys, 1.0) if len(keys) == 1 and len(scored) >= FEWEST else {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="maximize")
        for trial, value in zip(scored, values, strict=True):
            study.enqueue_trial(space.stored(trial.settings))
            asked = study.ask()
            space.suggest(asked)
            study.tell(asked, value)
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), params=sorted(keys)
        )
    return {key: round(float(value), 4) for key, value in found.items()}


def _values(scored: list[Trial]) -> list[float]:
    """By the first objective, as if all had the same folds: each beside the best of those with most folds."""
    most = max((len(trial.folds) for trial in scored), default=0)
    rival = next(iter(better([trial for trial in scored if len(trial.folds) == most])), None)
    return [worth(trial, rival, trial.primary) for trial in scored]

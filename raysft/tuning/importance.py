"""How much of what configurations differ by comes from each setting."""

from __future__ import annotations

import warnings

from raysft.tuning.race import Race
from raysft.tuning.space import Space

FEWEST = 4  # configurations with scores, from which it says anything


def importance_of(space: Space, race: Race) -> dict[str, float]:
    """Share of the variance of the first objective over the space that each key explains, the largest first (functional
    ANOVA over a random forest: Hutter, Hoos, Leyton-Brown, ICML 2014), by optuna; {} where too little is known.

    Keys with a condition are left out, since not every configuration has them.
    """
    scored = [trial for trial in race.trials.values() if trial.folds]
    keys = {parameter.key for parameter in space.parameters if not parameter.when}
    if len(scored) < FEWEST or len(keys) < 2 or len({trial.mean(trial.primary) for trial in scored}) < 2:
        return dict.fromkeys(keys, 1.0) if len(keys) == 1 and len(scored) >= FEWEST else {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="maximize")
        for trial in scored:
            study.enqueue_trial(space.stored(trial.settings))
            asked = study.ask()
            space.suggest(asked)
            study.tell(asked, trial.mean(trial.primary))
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), params=sorted(keys)
        )
    return {key: round(float(value), 4) for key, value in found.items()}

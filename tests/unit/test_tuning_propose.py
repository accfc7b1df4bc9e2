"""Configurations come from the space, never twice, as many as asked for, and the same again after an interruption."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.tuning.parameter import Settings, canonical
from raysft.tuning.propose import Proposals, algorithm_of, trials_of
from raysft.tuning.space import Space
from tests.support.sweeps import grid_of
from tests.unit.test_tuning_space import of, searches

RANGES: dict[str, Any] = {
    "train.learning_rate": {"log": [1e-5, 1e-2]},
    "train.epochs": {"int": [1, 9], "step": 2},
    "train.batch_size": {"int": [4, 64], "log": True},
    "model.lora": [None, {"r": 8}],
    "model.lora.dropout": {"uniform": [0, 0.2], "when": {"model.lora": {"r": 8}}},
}
ONE, TWO = {"loss": "min"}, {"f1_macro": "max", "loss": "min"}
ALGORITHMS = ["tpe", "nsga2", "random"]


def score(found: Settings) -> dict[str, float]:
    """Best at a rate of 1e-3 with adapters."""
    loss = abs(math.log10(found.get("train.learning_rate", 1.0)) + 3) + (found.get("model.lora") is None)
    return {"loss": loss, "f1_macro": 1 / (1 + loss)}


def proposals(space: Space, objectives: Mapping[str, str] = TWO, known: Any = ()) -> Proposals:
    return Proposals(space, space.tune, objectives, known)


def all_of(proposing: Proposals, at_a_time: int = 1, fails: int = 0) -> list[tuple[Settings, dict[str, float] | None]]:
    """Everything that is proposed, with what was told: of so many at a time, each `fails`-th without values."""
    done: list[tuple[Settings, dict[str, float] | None]] = []
    while True:
        asked = [found for _ in range(at_a_time) if (found := proposing.next()) is not None]
        if not asked:
            return done
        for found in asked:
            done.append((found, None if fails and len(done) % fails == 0 else score(found)))
            proposing.tell(*done[-1])


@pytest.mark.parametrize(
    ("search", "tune", "algorithm", "trials"),
    [
        ({}, {}, "grid", 1),
        ({"train.epochs": [1, 2], "train.seed": [1, 2, 3]}, {}, "grid", 6),
        ({"train.epochs": [1, 2]}, {"trials": 5}, "tpe", 2),
        ({"train.epochs": [1, 2]}, {"trials": 5, "algorithm": "grid"}, "grid", 2),
        ({"train.epochs": list(range(1, 66))}, {}, "tpe", 20),
        ({"train.epochs": list(range(1, 66))}, {"algorithm": "grid"}, "grid", 65),
        ({"train.epochs": {"int": [1, 2]}}, {}, "tpe", 2),
        (RANGES, {}, "tpe", 20),
        (RANGES, {"algorithm": "random", "trials": 3}, "random", 3),
    ],
)
def test_auto_is_a_small_grid_or_tpe(search: dict[str, Any], tune: dict[str, Any], algorithm: str, trials: int) -> None:
    space = of(search, **tune)
    assert (algorithm_of(space, space.tune), trials_of(space, space.tune)) == (algorithm, trials)
    assert len(all_of(proposals(space))) == trials


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("objectives", [ONE, TWO])
@pytest.mark.parametrize(("at_a_time", "fails"), [(1, 0), (4, 3)])
def test_what_is_proposed_lies_in_the_space_and_is_a_job(
    algorithm: str, objectives: dict[str, str], at_a_time: int, fails: int
) -> None:
    space = of(RANGES, algorithm=algorithm, trials=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = all_of(proposals(space, objectives), at_a_time, fails)
    assert len(done) == len({canonical(found) for found, _ in done}) == 30
    for found, _ in done:
        assert space.contains(found)
        assert ("model.lora.dropout" in found) == (found["model.lora"] is not None)
        space.applied(found)
    again = all_of(proposals(of(RANGES, algorithm=algorithm, trials=30), objectives), at_a_time, fails)
    assert again == done
    other = all_of(proposals(of(RANGES, algorithm=algorithm, trials=30, seed=8), objectives), at_a_time, fails)
    assert other != done


def test_optuna_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    all_of(proposals(of(RANGES, trials=12), ONE), fails=2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("objectives", [ONE, TWO])
def test_tpe_comes_nearer_to_what_was_good_than_chance(objectives: dict[str, str]) -> None:
    """The mean loss of the last 20 of 40 proposals, over five seeds."""

    def late(algorithm: str) -> float:
        losses = []
        for seed in range(5):
            done = all_of(proposals(of(RANGES, algorithm=algorithm, trials=40, seed=seed), objectives))
            losses += [values["loss"] for _, values in done[20:] if values is not None]
        return sum(losses) / len(losses)

    assert late("tpe") < 0.7 * late("random")


def test_tpe_keeps_away_from_what_failed() -> None:
    """All rates above 1e-4 fail, as when the loss is no number any more."""

    def failed(known_to_the_study: bool) -> int:
        proposing = proposals(of({"train.learning_rate": {"log": [1e-6, 1]}}, trials=40), ONE)
        count = 0
        while (found := proposing.next()) is not None:
            good = found["train.learning_rate"] < 1e-4
            count += not good
            proposing.tell(found, {"loss": 1.0} if good else {"loss": math.nan} if known_to_the_study else None)
        return count

    assert failed(True) == failed(False) <= 20  # chance: 27


def test_starting_points_come_first_and_what_they_leave_out_is_proposed() -> None:
    start: list[Settings] = [
        {"train.epochs": 3, "model.lora": None, "train.learning_rate": 1e-3, "train.batch_size": 16},
        {"model.lora": {"r": 8}, "model.lora.dropout": 0.1},
        {"train.epochs": 3},
    ]
    space = of(RANGES, start=tuple(start), trials=6)
    done = [found for found, _ in all_of(proposals(space))]
    assert done[0] == start[0]
    assert start[1].items() <= done[1].items() and space.contains(done[1])
    assert len(done) == 6  # the third agrees with the first: it was tried
    assert len(all_of(proposals(of(RANGES, start=tuple(start), trials=1)))) == 1


def test_a_grid_begins_with_the_starting_points() -> None:
    search = {"train.epochs": [1, 2, 3], "train.seed": [1, 2]}
    done = [found for found, _ in all_of(proposals(of(search, start=({"train.epochs": 1}, {"train.seed": 1}))))]
    assert done[0] == {"train.epochs": 1, "train.seed": 2}  # the job has 12 and 7
    assert done[1] == {"train.epochs": 3, "train.seed": 1}
    assert done[2] == {"train.epochs": 3, "train.seed": 2}
    assert {canonical(each) for each in done} == {canonical(each) for each in grid_of(of(search))}


OWN: Settings = {"train.epochs": 12, "train.batch_size": 16}


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "grid"])
def test_the_settings_of_the_job_come_first_after_what_was_to_start_with(algorithm: str) -> None:
    search = {"train.epochs": [4, 8, 12, 16], "train.batch_size": [8, 16, 32]}
    start: Settings = {"train.epochs": 4, "train.batch_size": 8}
    for starts, expected in (((), [OWN]), ((start,), [start, OWN]), ((OWN,), [OWN])):
        done = [found for found, _ in all_of(proposals(of(search, algorithm=algorithm, trials=5, start=starts)))]
        assert done[: len(expected)] == expected and done.count(OWN) == 1


def test_the_settings_of_the_job_are_proposed_only_where_the_space_holds_them() -> None:
    assert of({"train.epochs": [4, 8, 16], "train.batch_size": [8, 16]}).own() is None
    assert of({"train.epochs": {"int": [1, 20]}, "train.batch_size": [8, 16]}).own() == OWN
    adapters = {
        "model.lora": [None, {"r": 8}],
        "model.lora.dropout": {"uniform": [0, 0.2], "when": {"model.lora": {"r": 8}}},
    }
    assert of(adapters).own() == {"model.lora": None}  # without the key that does not matter


def test_the_settings_of_the_job_are_found_however_the_search_writes_them() -> None:
    """A tenth, which the job has by default, as a share; as it is written it is proposed, and is the nearest."""
    found = of({"train.warmup": [0, "10%", "20%"]})
    assert found.own() == {"train.warmup": "10%"}
    assert found.nearest_first(grid_of(found))[0] == {"train.warmup": "10%"}
    assert of({"train.warmup": [0, "11%"]}).own() is None
    assert of({"train.warmup": [0, 0.1]}).own() == {"train.warmup": 0.1}


def test_a_grid_goes_from_what_is_nearest_to_the_job_to_what_is_farthest() -> None:
    search = {"train.batch_size": [64, 4, 16, 8], "model.pooler": ["keep", "auto"]}
    found = of(search).nearest_first(grid_of(of(search)))
    assert [each["train.batch_size"] for each in found if each["model.pooler"] == "auto"] == [16, 64, 8, 4]
    assert found[0] == of(search).own() and [each["train.batch_size"] for each in found[-1:]] == [4]
    assert [each for each, _ in all_of(proposals(of(search)))] == found


def test_how_far_a_value_is_from_another() -> None:
    search = {
        "train.batch_size": [64, 4, 16, 8],
        "model.pooler": ["auto", "keep"],
        "train.learning_rate": {"log": [1e-5, 1]},
    }
    size, pooler, rate = of(search).parameters
    assert [size.far(value, 16) for value in (4, 8, 16, 64)] == [0.5, 0.25, 0.0, 0.25]
    assert [size.far(value, 1000) for value in (4, 64)] == [0.75, 0.0]  # from the nearest of its own
    assert (pooler.far("auto", "auto"), pooler.far("keep", "auto"), size.far(4, None)) == (0.0, 1.0, 1.0)
    assert (rate.far(0.1, 0.1), rate.far(0.1, 0.2)) == (0.0, 1.0)


def test_fewer_trials_than_a_grid_has_are_drawn_from_all_of_it() -> None:
    search = {"train.epochs": list(range(1, 51))}
    done = [found["train.epochs"] for found, _ in all_of(proposals(of(search, algorithm="grid", trials=10)))]
    assert len(set(done)) == 10 and max(done) > 25
    assert done == [e["train.epochs"] for e, _ in all_of(proposals(of(search, algorithm="grid", trials=10)))]


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "grid"])
def test_a_space_is_proposed_to_its_end(algorithm: str) -> None:
    search = {"train.epochs": [1, 2, 3], "train.seed": {"int": [0, 3]}}
    done = all_of(proposals(of(search, algorithm=algorithm, trials=100)))
    assert len({canonical(found) for found, _ in done}) == len(done) == 12


def test_a_value_is_told_once_and_only_of_what_was_proposed() -> None:
    proposing = proposals(of(RANGES))
    found = proposing.next()
    assert found is not None
    proposing.tell(found, score(found))
    proposing.tell(found, None)
    with pytest.raises(KeyError, match="never proposed"):
        proposing.tell({"train.epochs": 3}, None)


# --- going on


@pytest.mark.parametrize("algorithm", ["tpe", "random", "grid"])
@pytest.mark.parametrize("interrupted_after", [0, 1, 5, 12, 20])
def test_a_search_goes_on_as_if_never_interrupted(algorithm: str, interrupted_after: int) -> None:
    search = {k: v for k, v in RANGES.items() if algorithm != "grid" or "int" in v or isinstance(v, list)}
    tune = {"algorithm": algorithm, "trials": 20, "start": ({"train.epochs": 3}, {"model.lora": None})}
    whole = all_of(proposals(of(search, **tune)), fails=4)
    known = whole[:interrupted_after]
    proposing = proposals(of(search, **tune), known=known)
    for found, values in known:
        if values is None:
            proposing.tell(found, None)
    assert len(whole) == 20
    for expected in whole[interrupted_after:]:
        assert proposing.next() == expected[0]
        proposing.tell(*expected)
    assert proposing.next() is None


@pytest.mark.parametrize("as_start", [True, False])
def test_nsga2_crosses_what_was_known_and_what_was_to_start_with(as_start: bool) -> None:
    """All have 3 epochs; by chance a fifth of the others would."""
    begun: list[Settings] = [
        {"train.epochs": 3, "model.lora": None, "train.learning_rate": 1e-3 / number, "train.batch_size": 16}
        for number in range(1, 9)
    ]
    space = of(RANGES, algorithm="nsga2", trials=32, start=tuple(begun) if as_start else ())
    known = [] if as_start else [(found, score(found)) for found in begun]
    done = [found for found, _ in all_of(proposals(space, known=known))]
    assert sum(found["train.epochs"] == 3 for found in done[-24:]) >= 15


def test_what_was_running_is_not_proposed_again_and_may_be_told() -> None:
    space = of(RANGES, trials=10)
    begun = proposals(space)
    running = [found for _ in range(4) if (found := begun.next()) is not None]
    proposing = proposals(space, known=[(found, None) for found in running])
    proposing.tell(running[0], score(running[0]))
    rest = [found for found, _ in all_of(proposing)]
    assert len(rest) == 6 and not {canonical(each) for each in rest} & {canonical(each) for each in running}


def test_what_the_space_no_longer_has_counts_and_is_not_learnt_from() -> None:
    old: Settings = {"train.epochs": 77}
    assert len(all_of(proposals(of(RANGES, trials=10), known=[(old, {"loss": 1.0, "f1_macro": 1.0})]))) == 9


@settings(deadline=None, max_examples=40)
@given(searches(), st.sampled_from([*ALGORITHMS, "grid"]), st.integers(1, 12), st.integers(0, 12), st.integers(1, 3))
def test_known_and_rest_are_as_many_as_asked_for_and_all_different(
    search: dict[str, Any], algorithm: str, trials: int, before: int, at_a_time: int
) -> None:
    space = of(search, algorithm=algorithm, trials=trials)
    known = all_of(proposals(space), at_a_time)[:before]
    rest = all_of(proposals(space, known=known), at_a_time)
    names = {canonical(found) for found, _ in known + rest}
    assert len(known) + len(rest) == len(names) == min(trials, len(grid_of(space)))
    assert all(space.contains(found) for found, _ in known + rest)
    for found, _ in rest:
        space.applied(found)

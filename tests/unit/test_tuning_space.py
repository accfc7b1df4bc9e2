"""The search section: what may be searched, all combinations, and the job that each of them is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.claim import NEUTRAL
from raysft.config import Job, JobConfig, load_job
from raysft.errors import JobFileError, Problem
from raysft.tuning.objectives import objectives_of
from raysft.tuning.parameter import canonical
from raysft.tuning.search import SAME_RESULT
from raysft.tuning.space import Space
from tests.support.sweeps import grid_of

GOOD = "name: tiny\ndata: {train: rows.csv}\n"


def load(folder: Path, text: str) -> Job:
    path = folder / "job.yaml"
    path.write_text(GOOD + text, encoding="utf-8")
    return load_job(path)


def space(folder: Path, search: str, more: str = "") -> Space:
    """search: YAML of the section in braces."""
    return Space.of(load(folder, f"{more}tune:\n  search: {search}\n"))


def problems(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(JobFileError) as caught:
        Space.of(load(folder, text))
    return caught.value.problems


# --- what is wrong with an entry: (what, entry of search, key that is named, words)
WRONG = [
    ("no such key", "train.learnin_rate: [1]", "train.learnin_rate", ["no such key", "`train.learning_rate`"]),
    ("key without its section", "learning_rate: [1]", "learning_rate", ["did you mean `train.learning_rate`?"]),
    ("key like no other", "zzz: [1]", "zzz", ["no such key; allowed: model, train"]),
    ("key within a list", "train.rates.pattern: [a]", "train.rates.pattern", ["no such key"]),
    ("key of the folds", "folds.k: [3, 5]", "folds.k", ["cannot be searched", "on the same rows"]),
    ("key of the data", "data.text: [a]", "data.text", ["cannot be searched"]),
    ("the task", "task: [classification]", "task", ["cannot be searched"]),
    ("a whole section", "train: [{epochs: 1}]", "train", ["a whole section", "train.epochs"]),
    ("workers", "train.workers: [1, 2]", "train.workers", ["changes no result"]),
    ("epochs of one run", "train.stop_after: [1, 2]", "train.stop_after", ["one epoch counts for all folds"]),
    ("the best epoch", "train.select: [loss, f1_macro]", "train.select", ["one epoch counts for all folds"]),
    ("range of workers", "train.workers.max: [1, 2]", "train.workers.max", ["changes no result"]),
    ("scalar", "train.epochs: 3", "train.epochs", ["{choices: [VALUE, VALUE]}", "found 3"]),
    ("other mapping", "train.epochs: {low: 1}", "train.epochs", ["{log: [LOW, HIGH]}", 'found {"low": 1}']),
    ("two forms", "train.epochs: {uniform: [1, 2], log: [1, 2]}", "train.epochs", ["stands with when only", "log too"]),
    ("step of a list", "train.epochs: {choices: [1], step: 2}", "train.epochs", ["choices stands with when only"]),
    ("empty list", "train.epochs: []", "train.epochs", ["at least one value"]),
    ("empty choices", "train.epochs: {choices: []}", "train.epochs", ["at least one value"]),
    ("choices that are no list", "train.epochs: {choices: 3}", "train.epochs", ["must be a list of values, found 3"]),
    ("one end", "train.dropout: [1]\n    model.dropout: {uniform: [1]}", "model.dropout", ["must be [LOW, HIGH]"]),
    ("ends that are no list", "model.dropout: {uniform: 3}", "model.dropout", ["must be [LOW, HIGH], found 3"]),
    ("range upside down", "model.dropout: {uniform: [0.3, 0.1]}", "model.dropout", ["first must be below the second"]),
    ("range of nothing", "model.dropout: {uniform: [0.3, 0.3]}", "model.dropout", ["first must be below the second"]),
    ("word in a range", "model.dropout: {uniform: [a, 1]}", "model.dropout", ['must be a number, found "a"']),
    ("yes in a range", "model.dropout: {uniform: [true, 2]}", "model.dropout", ["must be a number, found true"]),
    ("infinite range", "model.dropout: {uniform: [0, .inf]}", "model.dropout", ["must be a number, found Infinity"]),
    ("logarithm of 0", "train.learning_rate: {log: [0, 1]}", "train.learning_rate", ["lies above 0"]),
    ("fractions", "train.epochs: {int: [1, 2.5]}", "train.epochs", ["must be whole numbers, found [1, 2.5]"]),
    ("long step", "train.epochs: {int: [1, 3], step: 3}", "train.epochs", ["from 1 to 2, found 3"]),
    ("step of 0", "train.epochs: {int: [1, 3], step: 0}", "train.epochs", ["from 1 to 2, found 0"]),
    ("log of a word", "train.epochs: {int: [1, 3], log: yes}", "train.epochs", ["true or false", '"yes"']),
    ("log from 0", "model.freeze.layers: {int: [0, 3], log: true}", "model.freeze.layers", ["begins at 1"]),
    ("log in steps", "train.epochs: {int: [1, 9], step: 2, log: true}", "train.epochs", ["has no step"]),
    ("same value twice", "train.epochs: [1, 2, 1]", "train.epochs", ["1 stands there twice"]),
    ("same number twice", "train.learning_rate: [1, 1.0]", "train.learning_rate", ["1.0 stands there twice"]),
    ("same share twice", "train.warmup: [10%, 0.1]", "train.warmup", ['0.1 is the same as "10%"']),
    ("word for a number", "train.epochs: [1, many]", "train.epochs", ['must be a valid integer, found "many"']),
    ("too large", "train.learning_rate: {log: [1e-5, 2]}", "train.learning_rate", ["less than or equal to 1, found 2"]),
    ("fraction for a count", "train.epochs: {uniform: [0.5, 3]}", "train.epochs", ["integer", "found 3.0"]),
    ("no such choice", "train.schedule: [linear, sine]", "train.schedule", ["'linear', 'cosine'", '"sine"']),
    ("key in a value", "model.lora: [null, {alfa: 1}]", "model.lora", ["model.lora.alfa: no such key", "`alpha`"]),
    ("null for a number", "train.epochs: [null, 1]", "train.epochs", ["integer, found null"]),
    ("base beside init", "model.init: [null, {layers: 1}]", "model.init", ["remove one of the two"]),
    ("range of prepared data", "model.max_length: {int: [32, 64]}", "model.max_length", ["prepared", "write a list"]),
    ("how to answer", "generation.temperature: [0.1, 0.7]", "generation.temperature", ["only keys of model, train"]),
    ("when is no mapping", "train.epochs: {choices: [1], when: x}", "train.epochs", ["must be {KEY: VALUE}"]),
    ("when elsewhere", "train.epochs: {choices: [1], when: {train.seed: 1}}", "train.epochs", ["names train.seed"]),
    ("when itself", "train.epochs: {choices: [1], when: {train.epochs: 1}}", "train.epochs", ["no other key"]),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "key", "words"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_a_wrong_entry_is_named_with_its_line(tmp_path: Path, entry: str, key: str, words: list[str]) -> None:
    found = problems(tmp_path, f"model: {{base: b}}\ntune:\n  search:\n    {entry}\n")
    problem = found[-1]
    assert len({each.key for each in found}) == 1 + entry.count("\n")
    assert (problem.where, problem.key) == (f"{tmp_path / 'job.yaml'}:{6 + entry.count(chr(10))}", f"tune.search.{key}")
    for word in words:
        assert word in problem.text
    assert "\n" not in problem.text


PAIRS = [
    (
        "a value that is never had",
        "train.schedule: [linear, wsd]\n    train.decay: {uniform: [10%, 30%], when: {train.schedule: cosine}}",
        7,
        ['train.schedule is never "cosine"', '["linear", "wsd"]'],
    ),
    (
        "no value",
        "train.schedule: [linear, wsd]\n    train.decay: {uniform: [10%, 30%], when: {train.schedule: []}}",
        7,
        ["names no value of train.schedule"],
    ),
    (
        "a range in a condition",
        "train.epochs: {int: [1, 3]}\n    train.seed: {choices: [1], when: {train.epochs: 2}}",
        7,
        ["train.epochs, which is a range"],
    ),
    ("overlap", "model.lora.r: [4]\n    model.lora: [null, {r: 8}]", 6, ["lies within model.lora", "`when:"]),
    (
        "overlap with null",
        "model.lora: [null, {}]\n    model.lora.r: {choices: [4], when: {model.lora: [null, {}]}}",
        7,
        ["model.lora has no keys when it is null"],
    ),
    (
        "circle",
        "train.seed: {choices: [1], when: {train.epochs: 1}}\n    train.epochs: {choices: [1], when: {train.seed: 1}}",
        6,
        ["train.seed, train.epochs", "remove one `when`"],
    ),
    (
        "never",
        "train.loss: [focal, cross_entropy]\n    train.average: {choices: [0.9], when: {train.loss: focal}}\n"
        "    train.seed: {choices: [1], when: {train.loss: cross_entropy, train.average: 0.9}}",
        8,
        ["condition never holds"],
    ),
    (
        "not together",
        "model.init.hidden: [64, 96]\n    model.init.heads: [4, 32]",
        5,
        ["model.init.heads: must divide hidden (96)", "(where model.init.hidden: 96, model.init.heads: 32)", "`when`"],
    ),
    (
        "too many to prepare",
        f"model.max_length: {list(range(8, 8 + 17))}\n    model.init.layers: {list(range(1, 17))}",
        5,
        ["more than 256 combinations", "model.max_length, model.init.layers"],
    ),
]


@pytest.mark.parametrize(("search", "line", "words"), [each[1:] for each in PAIRS], ids=[each[0] for each in PAIRS])
def test_keys_that_do_not_go_together_are_named(tmp_path: Path, search: str, line: int, words: list[str]) -> None:
    (problem,) = problems(tmp_path, f"train: {{epochs: 2}}\ntune:\n  search:\n    {search}\n")
    assert problem.where == f"{tmp_path / 'job.yaml'}:{line}"
    for word in words:
        assert word in problem.text


def test_all_problems_are_reported_at_once_each_at_its_value(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
tune:
  objectives: {loss: max}
  start:
  - {train.seed: 1}
  search:
    train.epochs:
    - 1
    - many
    train.learning_rate:
      log: [1e-5,
        3]
    train.lerning_rate: [1]
""",
    )
    assert {(each.key, int(each.where.rpartition(":")[2])) for each in found} == {
        ("tune.objectives.loss", 5),
        ("tune.start.0.train.seed", 7),
        ("tune.search.train.epochs", 11),
        ("tune.search.train.learning_rate", 14),
        ("tune.search.train.lerning_rate", 15),
    }


def test_a_search_on_the_command_line_is_its_own_place(tmp_path: Path) -> None:
    override = "tune.search.train.epochs=[1, many]"
    (tmp_path / "job.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(JobFileError) as caught:
        Space.of(load_job(tmp_path / "job.yaml", [override]))
    (problem,) = caught.value.problems
    assert (problem.where, problem.key) == (f"--set {override}", "tune.search.train.epochs")


def test_settings_that_a_run_may_go_on_under_are_not_searched() -> None:
    neutral = NEUTRAL["train"]
    assert isinstance(neutral, set) and neutral <= set(SAME_RESULT)


# --- starting points, grids, objectives

SEARCH = (
    "  search:\n    train.learning_rate: {log: [1e-5, 1e-2]}\n    train.epochs: {int: [1, 9], step: 2}\n"
    "    train.warmup: {uniform: [0%, 20%]}\n    model.lora: [null, {r: 8}]\n"
    "    model.lora.dropout: {uniform: [0, 0.2], when: {model.lora: {r: 8}}}\n"
)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("{train.seed: 1}", "no key of tune.search; allowed: train.learning_rate, train.epochs"),
        ("{train.learning_rate: 0.1}", "must be from 1e-05 to 0.01, found 0.1"),
        ("{train.learning_rate: x}", 'must be from 1e-05 to 0.01, found "x"'),
        ("{train.epochs: 2}", "must be from 1 to 9 in steps of 2, found 2"),
        ("{train.epochs: 1.0}", "in steps of 2, found 1.0"),
        ("{model.lora: {r: 4}}", 'must be one of [null, {"r": 8}], found {"r": 4}'),
        ("{model.lora.dropout: 0.1}", 'only matters under model.lora: [{"r": 8}]; give that too'),
        ("{model.lora.dropout: 0.1, model.lora: null}", "only matters under"),
    ],
)
def test_a_starting_point_outside_is_refused(tmp_path: Path, start: str, words: str) -> None:
    (problem,) = problems(tmp_path, f"tune:\n{SEARCH}  start:\n  - {{train.epochs: 3}}\n  - {start}\n")
    assert problem.where == f"{tmp_path / 'job.yaml'}:12"
    assert problem.key.startswith("tune.start.1.") and words in problem.text


def test_starting_points_may_leave_keys_out_and_write_shares(tmp_path: Path) -> None:
    job = load(tmp_path, f"tune:\n{SEARCH}  start:\n  - {{train.warmup: 10%}}\n  - {{model.lora: {{r: 8.0}}}}\n")
    assert Space.of(job).starts() == [{"train.warmup": 0.1}, {"model.lora": {"r": 8.0}}]


def test_a_grid_has_no_ranges_but_of_whole_numbers(tmp_path: Path) -> None:
    found = problems(tmp_path, f"tune:\n{SEARCH}  algorithm: grid\n")
    assert [each.key.rpartition(".")[2] for each in found] == ["learning_rate", "warmup", "dropout"]
    assert all("a grid needs a list" in each.text for each in found)
    (problem,) = problems(tmp_path, "tune: {algorithm: grid, search: {train.seed: {int: [0, 100000]}}}\n")
    assert problem.key == "tune.algorithm" and "more than 10000 combinations" in problem.text
    grid = load(tmp_path, "tune: {algorithm: grid, search: {train.seed: {int: [0, 5], step: 2}}}\n")
    assert grid_of(Space.of(grid)) == [{"train.seed": 0}, {"train.seed": 2}, {"train.seed": 4}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"f1_macro": "max", "loss": "min"}),
        ("task: token-classification\n", {"f1_macro": "max", "loss": "min"}),
        ("task: generation\n", {"loss": "min"}),
        ("task: causal-lm\n", {"loss": "min"}),
        ("tune: {objectives: {accuracy: max}}\n", {"accuracy": "max"}),
        ("tune: {}\n", {"f1_macro": "max", "loss": "min"}),
        ("tune: {objectives: {loss: min, prediction_ms: min}}\n", {"loss": "min", "prediction_ms": "min"}),
    ],
)
def test_objectives_are_those_of_the_task_unless_written(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    assert objectives_of(load(tmp_path, text).config) == expected


@pytest.mark.parametrize(
    ("more", "objectives", "words"),
    [
        ("", "{f1_macro: min}", "better the higher: write max, found min"),
        ("", "{loss: max}", "better the lower: write min, found max"),
        ("", "{ece: min}", "so it is no aim; this job may have accuracy, f1_macro, loss"),
        (
            "",
            "{f1_micro: max}",
            "this job measures accuracy, f1_macro, loss, and prediction_ms beside them; found f1_micro",
        ),
        (
            "task: generation\n",
            "{f1_macro: max}",
            "this job measures loss, and prediction_ms beside them; found f1_macro",
        ),
        ("", "{f1_weighted: max}", "is no aim here; use f1_macro; this job may have accuracy, f1_macro, loss"),
        ("", "{prediction_ms: min, loss: min}", "cannot be the first, by which rows are compared"),
        ("", "{loss: min, prediction_ms: max}", "better the lower: write min, found max"),
    ],
)
def test_objectives_that_are_none_are_refused(tmp_path: Path, more: str, objectives: str, words: str) -> None:
    (problem,) = problems(tmp_path, f"{more}tune: {{objectives: {objectives}}}\n")
    assert problem.key.startswith("tune.objectives.") and words in problem.text


# --- what a space gives


def test_without_a_search_there_is_one_configuration(tmp_path: Path) -> None:
    for text in ("", "tune: {}\n"):
        job = load(tmp_path, text)
        found = Space.of(job)
        assert (grid_of(found), found.preparations(), found.names()) == ([{}], [{}], {})
        assert found.contains({}) and found.applied({}).config == job.config.model_copy(update={"tune": None})


def test_settings_are_put_among_the_values_as_written(tmp_path: Path) -> None:
    search = "tune:\n  search:\n    train.learning_rate:\n    - 1e-4\n    - 0.5\n"
    job = load(tmp_path, f"model: {{labels: words}}\ntrain: {{epochs: 3}}\n{search}")
    applied = Space.of(job).applied({"train.learning_rate": 0.5})
    assert applied.config.tune is None and "tune" not in applied.values
    assert applied.config.train.head_learning_rate == 0.5  # where labels are words, unless written
    assert applied.config.train.epochs == 3
    assert applied.where("train", "learning_rate") == f"{job.path}:9"
    assert applied.where("train", "epochs") == f"{job.path}:4"
    assert "learning_rate" not in job.values["train"] and job.config.tune is not None


def test_a_key_of_a_section_that_is_not_there_begins_it(tmp_path: Path) -> None:
    applied = space(tmp_path, "{model.lora.r: [4, 8]}", "model: {lora: null}\n").applied({"model.lora.r": 4})
    assert applied.config.model.lora is not None and applied.config.model.lora.r == 4


def test_a_key_within_another_one_is_put_into_it_and_changes_no_choice(tmp_path: Path) -> None:
    found = space(
        tmp_path, "{model.lora.r: {choices: [4, 8], when: {model.lora: {alpha: 1}}}, model.lora: [null, {alpha: 1}]}"
    )
    lora = [found.applied(each).config.model.lora for each in grid_of(found)]
    assert [each and (each.r, each.alpha) for each in lora] == [None, (4, 1), (8, 1)]
    assert found.parameters[0].choices == (None, {"alpha": 1})


def test_settings_that_cannot_be_are_refused_at_their_entry(tmp_path: Path) -> None:
    found = space(tmp_path, "{train.epochs: [1]}")
    with pytest.raises(JobFileError) as caught:
        found.applied({"train.epochs": "x"})
    assert (caught.value.problems[0].where, caught.value.problems[0].key) == (f"{found.job.path}:4", "train.epochs")


def test_data_is_prepared_for_each_combination_of_the_keys_that_change_it(tmp_path: Path) -> None:
    found = space(
        tmp_path,
        "{train.packing: [false, true], train.epochs: {int: [1, 9]}, model.revision: [a, b],"
        " model.max_length: {choices: [64, 128], when: {train.packing: true}}}",
    )
    assert found.preparations() == [
        {"model.revision": "a"},
        {"model.revision": "b"},
        {"model.revision": "a", "model.max_length": 64},
        {"model.revision": "a", "model.max_length": 128},
        {"model.revision": "b", "model.max_length": 64},
        {"model.revision": "b", "model.max_length": 128},
    ]


def test_names_are_the_shortest_endings_that_differ(tmp_path: Path) -> None:
    found = space(tmp_path, "{train.epochs: [1], model.dropout: [0.1], model.lora.dropout: [0.1], model.freeze: [{}]}")
    assert found.names() == {
        "train.epochs": "epochs",
        "model.dropout": "model.dropout",
        "model.lora.dropout": "lora.dropout",
        "model.freeze": "freeze",
    }


def test_one_value_of_a_condition_need_not_be_allowed_with_the_first_of_others(tmp_path: Path) -> None:
    """Heads must divide the width: each list is tried with values that its condition asks for."""
    found = space(
        tmp_path,
        "{model.init.hidden: [64, 96], model.init.heads: {choices: [3, 6], when: {model.init.hidden: 96}}}",
        "model: {init: {architecture: gpt2}}\n",
    )
    assert len(grid_of(found)) == 3


# --- properties

KEYS: dict[str, list[Any]] = {
    "train.epochs": [1, 2, 3],
    "train.schedule": ["linear", "cosine", "constant"],
    "model.lora": [None, {"r": 8}, {"r": 16, "variant": "dora"}],
    "train.clip_norm": [None, 0.5, 1],
    "train.class_weights": [None, "balanced", {"a": 2.0}],
    "model.max_length": [32, 64, 128],
}


CHANCE: st.SearchStrategy[Any] = st.booleans()


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    """Lists of some keys, of which each may depend on one before it."""
    found: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(list(KEYS)), unique=True, max_size=4)):
        choices = draw(st.lists(st.sampled_from(KEYS[key]), min_size=1, unique_by=canonical))
        entry: dict[str, Any] = {"choices": choices}
        if found and draw(CHANCE):
            other = draw(st.sampled_from(list(found)))
            values = st.lists(st.sampled_from(found[other]["choices"]), min_size=1, unique_by=canonical)
            entry["when"] = {other: draw(values)}
        found[key] = entry
    return dict(draw(st.permutations(list(found.items()))))


def of(search: dict[str, Any], **tune: Any) -> Space:
    """The space of a search, without a file."""
    values = {"name": "tiny", "data": {"train": "rows.csv"}, "tune": {"search": search, **tune}}
    return Space.of(Job(JobConfig.model_validate(values), Path("job.yaml"), values=values))


def brute_force(search: dict[str, Any]) -> set[str]:
    """Every combination of all keys, without those whose condition does not hold, however deep."""
    found = set()
    for combination in itertools.product(*(entry["choices"] for entry in search.values())):
        settings = dict(zip(search, combination, strict=True))
        while True:
            out = [
                key
                for key in settings
                for other, values in search[key].get("when", {}).items()
                if other not in settings or settings[other] not in values
            ]
            if not out:
                break
            settings = {key: value for key, value in settings.items() if key not in out}
        found.add(json.dumps(settings, sort_keys=True))
    return found


@given(searches())
def test_the_grid_is_every_combination_once_and_each_is_a_job(search: dict[str, Any]) -> None:
    found = of(search)
    grid = grid_of(found)
    names = [json.dumps(each, sort_keys=True) for each in grid]
    assert len(set(names)) == len(names)
    assert set(names) == brute_force(search)
    for each in grid:
        assert found.contains(each)
        found.applied(each)
    assert found.grid_up_to(len(grid)) == grid and found.grid_up_to(len(grid) - 1) is None
    prepared = {canonical({key: value for key, value in each.items() if key == "model.max_length"}) for each in grid}
    assert {canonical(each) for each in found.preparations()} == prepared

"""A job file loads as written, or every problem in it is named with its line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from raysft.config import JobConfig, load_job
from raysft.config.values import Share, parse_share
from raysft.errors import JobFileError, NotAllowed, NotFound, Problem

GOOD = "name: tiny\ndata:\n  train: rows.csv\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder: Path, text: str | bytes, *overrides: str) -> JobConfig:
    return load_job(write(folder, text), overrides).config


def problems(folder: Path, text: str | bytes, *overrides: str) -> list[Problem]:
    with pytest.raises(JobFileError) as caught:
        load(folder, text, *overrides)
    return caught.value.problems


# (what is wrong, file, line, key, words of the message)
WRONG: list[tuple[str, str | bytes, int, str, list[str]]] = [
    ("unknown key", GOOD + "  lable: x\n", 4, "data.lable", ["no such key", "did you mean `label`?"]),
    ("unknown section", GOOD + "trian: {}\n", 4, "trian", ["did you mean `train`?"]),
    ("unknown key like no other", GOOD + "zzz: 1\n", 4, "zzz", ["allowed: name, task, model, data"]),
    ("unknown key three deep", GOOD + "  audit:\n    leak: drop\n", 5, "data.audit.leak", ["did you mean `leakage`?"]),
    ("unknown key below an unknown one", GOOD + "x:\n  y: 1\n", 4, "x", ["no such key"]),
    ("key that is no text", GOOD + "? [a, b]\n: 3\n", 4, "('a', 'b')", ["no such key"]),
    ("word for a number", GOOD + "train:\n  epochs: many\n", 5, "train.epochs", ["integer", '"many"']),
    ("yes for a number", GOOD + "train:\n  epochs: true\n", 5, "train.epochs", ["integer", "true"]),
    ("quoted number", GOOD + "train:\n  epochs: '3'\n", 5, "train.epochs", ["integer", '"3"']),
    ("fraction for a count", GOOD + "train:\n  epochs: 2.5\n", 5, "train.epochs", ["integer", "2.5"]),
    ("number for a word", GOOD + "  label: 7\n", 4, "data.label", ["string", "7"]),
    ("too small", GOOD + "train: {epochs: 0}\n", 4, "train.epochs", ["greater than or equal to 1", "0"]),
    ("too large", GOOD + "train: {learning_rate: 2}\n", 4, "train.learning_rate", ["less than or equal to 1", "2"]),
    ("not a number", GOOD + "train: {learning_rate: .nan}\n", 4, "train.learning_rate", ["NaN"]),
    ("no such choice", GOOD + "train: {schedule: sine}\n", 4, "train.schedule", ["'linear', 'cosine'", '"sine"']),
    ("no number of workers", GOOD + "train: {workers: 0}\n", 4, "train.workers", ["greater than or equal to 1", "0"]),
    ("neither number nor range", GOOD + "train: {workers: x}\n", 4, "train.workers", ["whole number or `key: value`"]),
    ("range upside down", GOOD + "train: {workers: {min: 4, max: 2}}\n", 4, "train.workers.max", ["at least min (4)"]),
    ("range without its end", GOOD + "train: {workers: {min: 1}}\n", 4, "train.workers.max", ["must be given"]),
    (
        "key beside a range",
        GOOD + "train: {workers: {max: 2, mix: 1}}\n",
        4,
        "train.workers.mix",
        ["did you mean `min`?"],
    ),
    ("no weights", GOOD + "train:\n  class_weights: foo\n", 5, "train.class_weights", ["'balanced' or `key: value`"]),
    (
        "a weight in words",
        GOOD + "train:\n  class_weights:\n    a: 1\n    b: x\n",
        7,
        "train.class_weights.b",
        ["number"],
    ),
    ("no list of targets", GOOD + "model: {lora: {targets: 5}}\n", 4, "model.lora.targets", ["'auto' or a list", "5"]),
    ("a number among targets", GOOD + "model: {lora: {targets: [a, 1]}}\n", 4, "model.lora.targets.1", ["string", "1"]),
    (
        "key of an optional section",
        GOOD + "model: {lora: {alfa: 1}}\n",
        4,
        "model.lora.alfa",
        ["did you mean `alpha`?"],
    ),
    ("no list of rates", GOOD + "train: {rates: 3}\n", 4, "train.rates", ["must be a list", "3"]),
    (
        "pattern of the second rate",
        GOOD + "train:\n  rates:\n  - pattern: a\n  - pattern: (\n",
        7,
        "train.rates.1.pattern",
        ["a regular expression", "'('"],
    ),
    ("key of a rate", GOOD + "train:\n  rates:\n  - {pattern: a, rate: 1}\n", 6, "train.rates.0.rate", ["no such key"]),
    ("no such tool", GOOD + "train: {track: [tensorbord]}\n", 4, "train.track.0", ["'tensorboard' or 'mlflow'"]),
    ("share above the whole", GOOD + "folds: {test: 150%}\n", 4, "folds.test", ["0% to below 100%", "1.5"]),
    ("share of everything", GOOD + "folds: {test: 100%}\n", 4, "folds.test", ["0% to below 100%"]),
    ("share below nothing", GOOD + "folds: {test: -0.1}\n", 4, "folds.test", ["0% to below 100%"]),
    ("share in words", GOOD + "folds: {test: half}\n", 4, "folds.test", ["15% or 0.15", "'half'"]),
    ("share with words", GOOD + "folds: {test: x%}\n", 4, "folds.test", ["15% or 0.15", "'x%'"]),
    ("share yes", GOOD + "folds: {test: true}\n", 4, "folds.test", ["15% or 0.15", "True"]),
    ("share nan", GOOD + "folds: {test: .nan}\n", 4, "folds.test", ["0% to below 100%"]),
    ("one fold", GOOD + "folds:\n  seed: 1\n  k: 1\n", 6, "folds.k", ["use 0", "2 and more"]),
    ("no such fold", GOOD + "folds:\n  validation: 4\n  k: 4\n", 5, "folds.validation", ["0 to 3", "4"]),
    ("no such default fold", GOOD + "folds:\n  validation: 5\n", 5, "folds.validation", ["0 to 4", "5"]),
    ("name with a space", GOOD.replace("tiny", "a b"), 1, "name", ["letters, digits", '"a b"']),
    ("name with a path", GOOD.replace("tiny", "../up"), 1, "name", ["letters, digits"]),
    ("name too long", GOOD.replace("tiny", "x" * 101), 1, "name", ["at most 100"]),
    ("empty name", GOOD.replace("tiny", ""), 1, "name", ["string", "null"]),
    ("name that is a fraction", GOOD.replace("tiny", "1.10"), 1, "name", ["string", "1.1"]),
    ("name that is a list", GOOD.replace("tiny", "[a]"), 1, "name", ["string", '["a"]']),
    ("no name", "data: {train: a.csv}\n", 1, "name", ["must be given"]),
    ("no data", "name: tiny\n", 1, "data", ["must be given"]),
    ("no data.train", "name: tiny\ndata:\n  text: t\n", 2, "data.train", ["must be given"]),
    ("empty data", "name: tiny\ndata:\n", 2, "data", ["`key: value` lines", "null"]),
    ("word for a section", GOOD + "train: fast\n", 4, "train", ["`key: value` lines", '"fast"']),
    ("list for a section", GOOD + "train: [1]\n", 4, "train", ["`key: value` lines", "[1]"]),
    ("no path", "name: tiny\ndata: {train: []}\n", 2, "data.train", ["a list of them", "[]"]),
    ("number among paths", "name: tiny\ndata: {train: [a.csv, 3]}\n", 2, "data.train", ["a list of them", "3"]),
    ("empty path", "name: tiny\ndata: {train: ''}\n", 2, "data.train", ["a list of them"]),
    ("empty column", GOOD + "  text: ''\n", 4, "data.text", ["at least 1 character"]),
    ("empty group", GOOD + "  group: ''\n", 4, "data.group", ["at least 1 character"]),
    ("tagged value", "name: tiny\ndata: {train: !!python/object:os.system x}\n", 2, "data.train", ["a list of them"]),
    ("merged key", GOOD + "folds: &f {k: 3}\ntrain:\n  <<: *f\n", 5, "train.k", ["no such key"]),
    ("same key twice", GOOD + "  train: b.csv\n", 4, "", ["not valid YAML", 'duplicate key "train"']),
    ("not YAML", GOOD + "train: {epochs: 3\n", 5, "", ["not valid YAML", "','"]),
    ("two colons", GOOD + "model: base: x\n", 4, "", ["not valid YAML"]),
    ("tab", "name: tiny\ndata:\n\ttrain: a.csv\n", 3, "", ["not valid YAML", "\\t"]),
    ("two documents", GOOD + "---\nname: b\n", 4, "", ["not valid YAML", "another document"]),
    ("NUL", GOOD + "# \x00\n", 4, "", ["not valid YAML", "#x0000"]),
    ("not UTF-8", GOOD.encode() + b"# caf\xe9\n", 4, "", ["not UTF-8", "save the file as UTF-8"]),
    ("UTF-16", GOOD.encode("utf-16"), 1, "", ["not UTF-8"]),
    ("empty file", "", 1, "", ["`key: value` lines", "raysft init"]),
    ("only a comment", "# nothing\n", 1, "", ["`key: value` lines"]),
    ("list at the top", "- name: tiny\n", 1, "", ["`key: value` lines"]),
    ("word at the top", "tiny\n", 1, "", ["`key: value` lines"]),
    ("nested without end", "name: tiny\ndata: " + "[" * 500 + "]" * 500, 1, "", ["nested too deeply"]),
    ("holds itself", "&a\nname: tiny\ndata: *a\n", 1, "", ["nested too deeply"]),
]


@pytest.mark.parametrize(("text", "line", "key", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_problem_names_line_and_key(tmp_path: Path, text: str | bytes, line: int, key: str, words: list[str]) -> None:
    (problem,) = problems(tmp_path, text)
    assert (problem.where, problem.key) == (f"{tmp_path / 'job.yaml'}:{line}", key)
    for word in words:
        assert word in problem.text
    assert "\n" not in problem.text


def test_all_problems_are_reported_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = "name: a b\ndata:\n  lable: x\ntrain:\n  epochs: none\n  schedule: sine\nfolds: {k: 1, test: 2}\n"
    found = {problem.key: problem.where.rpartition(":")[2] for problem in problems(tmp_path, text)}
    assert found == {
        "name": "1",
        "data.train": "2",
        "data.lable": "3",
        "train.epochs": "5",
        "train.schedule": "6",
        "folds.k": "7",
        "folds.test": "7",
    }


def test_a_long_value_is_shown_short(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD + f"train: {{epochs: {'x' * 5000}}}\n")
    assert len(problem.text) < 200


def test_numbers_and_words_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD + "  label: no\n  text: on\ntrain: {learning_rate: 3e-4, head_learning_rate: 1}\n")
    assert (config.data.label, config.data.text) == ("no", "on")
    assert config.train.learning_rate == 3e-4
    assert isinstance(config.train.head_learning_rate, float)


def test_a_name_that_yaml_takes_for_a_number_or_a_date_stays_as_written(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("tiny", "7")).name == "7"
    assert load(tmp_path, GOOD.replace("tiny", "2026-01-31")).name == "2026-01-31"


def test_one_path_and_a_list_of_one_path_are_equal(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == load(tmp_path, GOOD.replace("rows.csv", "[rows.csv]"))


def test_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()) == load(tmp_path, GOOD)


def test_a_loaded_job_does_not_change(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]


# --- shares


@given(st.integers(0, 99), st.sampled_from(["{}%", " {}% ", "{}.0%"]))
def test_percent_and_fraction_are_the_same_share(percent: int, written: str) -> None:
    assert parse_share(written.format(percent)) == parse_share(percent / 100)


@given(st.floats(0, 1, exclude_max=True))
def test_a_share_is_printed_so_that_it_reads_back_equal(share: float) -> None:
    assert parse_share(Share(share).written()) == share
    assert str(Share(share)) == str(Share(share).written())


def test_shares_that_people_write_are_printed_as_they_write_them() -> None:
    assert [str(Share(value)) for value in (0.15, 0.07, 0.125, 0.0, 0.29)] == ["15%", "7%", "12.5%", "0%", "29%"]


# --- --set


def test_overrides_reach_nested_keys_with_the_types_of_yaml(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        GOOD,
        "train.epochs=3",
        "train.learning_rate=3e-5",
        "train.clip_norm=null",
        "data.audit.max_rejected=50%",
        "data.label=a=b",
        "data.train=[a.csv, b.csv]",
    )
    assert (config.train.epochs, config.train.learning_rate, config.train.clip_norm) == (3, 3e-5, None)
    assert config.data.audit.max_rejected == 0.5
    assert (config.data.label, config.data.train) == ("a=b", ("a.csv", "b.csv"))


def test_the_last_override_of_a_key_counts(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "train.epochs=3", "train.epochs=4").train.epochs == 4


def test_an_override_mends_what_is_wrong_in_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD + "train: {epochs: many}\n", "train.epochs=3").train.epochs == 3


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.epochs=many", "train.epochs"),
        ("train.epochz=3", "train.epochz"),
        ("train=fast", "train"),
        ("train={epochs: 0}", "train.epochs"),
        ("data.audit.leakage=perhaps", "data.audit.leakage"),
        ("folds.k=[", "folds.k"),
        ("name=", "name"),
        ("train.epochs.more=3", "train.epochs"),
    ],
)
def test_a_wrong_override_is_its_own_place(tmp_path: Path, override: str, key: str) -> None:
    (problem,) = problems(tmp_path, GOOD + "train:\n  epochs: 3\n", override)
    assert (problem.where, problem.key) == (f"--set {override}", key)


@pytest.mark.parametrize("override", ["epochs", "=3", "train.=3", ".epochs=3", "train..epochs=3", ""])
def test_an_override_without_key_or_value_is_explained(tmp_path: Path, override: str) -> None:
    (problem,) = problems(tmp_path, GOOD, override)
    assert problem.where == f"--set {override}"
    assert "section.key=value" in problem.text


def test_values_beside_an_override_keep_their_lines(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD + "train:\n  epochs: 0\n  workers: 0\n", "train.epochs=-1")
    assert {problem.key: problem.where for problem in found} == {
        "train.epochs": "--set train.epochs=-1",
        "train.workers": f"{tmp_path / 'job.yaml'}:6",
    }


# --- what a job knows of its file


def test_a_job_points_at_a_key_or_the_nearest_section_that_was_written(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    job = load_job(path)
    assert job.folder == tmp_path
    assert job.where("data", "train") == f"{path}:3"
    assert job.where("data", "text") == f"{path}:2"
    assert job.where("train", "epochs") == str(path)
    (problem,) = job.problem("data.text", "no column 'x'").problems
    assert problem == Problem(f"{path}:2", "data.text", "no column 'x'")


def test_a_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(NotFound, match=r"jub\.yaml") as caught:
        load_job(tmp_path / "jub.yaml")
    assert str(tmp_path / "job.yaml") in caught.value.next_step


def test_a_missing_file_in_an_empty_folder_points_at_init(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        load_job(tmp_path / "job.yaml")
    assert "raysft init" in caught.value.next_step


def test_a_folder_is_no_job_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is a folder"):
        load_job(tmp_path)


def test_a_file_without_permission_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(NotAllowed, match="no permission"):
        load_job(path)


# --- round trip

COLUMNS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
SHARES = st.floats(0, 0.99).map(Share)
RATES = st.floats(1e-9, 1)
CONFIGS = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "data": st.fixed_dictionaries(
            {"train": st.lists(COLUMNS, min_size=1, max_size=3).map(tuple), "text": COLUMNS, "label": COLUMNS},
            optional={"group": COLUMNS, "test": st.lists(COLUMNS, min_size=1, max_size=2).map(tuple)},
        ),
    },
    optional={
        "folds": st.fixed_dictionaries(
            {"test": SHARES, "k": st.integers(2, 100), "validation": st.sampled_from([0, 1])}
        ),
        "train": st.fixed_dictionaries(
            {"learning_rate": RATES, "layer_decay": RATES, "warmup": SHARES, "epochs": st.integers(1, 1000)},
            optional={"clip_norm": st.none() | st.floats(1e-9, 1e9), "micro_batch": st.none() | st.integers(1, 99)},
        ),
    },
)


@given(CONFIGS)
def test_the_effective_config_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    config = JobConfig.model_validate(values)
    path = tmp_path_factory.getbasetemp() / "effective.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(config.model_dump(mode="json"), file)
    assert load_job(path).config == config

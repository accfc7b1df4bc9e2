"""The published schema and the reference page say what the loader does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from ruamel.yaml import YAML

from raysft.config import ClusterConfig, JobConfig, load_cluster, load_job
from raysft.config.reference import json_schema, markdown

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
CLUSTERS = sorted((ROOT / "cluster").glob("*/cluster.yaml"))
SCHEMA, OF_CLUSTERS = (Draft202012Validator(json_schema(config)) for config in (JobConfig, ClusterConfig))
SMALL: dict[str, Any] = {"name": "tiny", "data": {"train": "rows.csv"}}


def test_there_are_jobs_and_clusters_to_look_at() -> None:
    assert JOBS and len(CLUSTERS) >= 6


@pytest.mark.parametrize(("config", "title"), [(JobConfig, "raysft job file"), (ClusterConfig, "raysft cluster file")])
def test_the_schema_is_a_schema(config: type[BaseModel], title: str) -> None:
    found = json_schema(config)
    Draft202012Validator.check_schema(found)
    assert (found["$schema"], found["title"]) == ("https://json-schema.org/draft/2020-12/schema", title)


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.parent.name)
def test_every_shipped_cluster_loads_and_satisfies_the_schema(path: Path) -> None:
    OF_CLUSTERS.validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    OF_CLUSTERS.validate(load_cluster(path).config.model_dump(mode="json"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_shipped_job_loads_and_satisfies_the_schema(path: Path) -> None:
    SCHEMA.validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    config = load_job(path).config
    SCHEMA.validate(config.model_dump(mode="json"))


@pytest.mark.parametrize("section", [(), ("data",), ("data", "audit"), ("model",), ("folds",), ("train",)])
def test_the_schema_and_the_loader_refuse_an_unknown_key(section: tuple[str, ...]) -> None:
    job = copy.deepcopy(SMALL)
    place = job
    for key in section:
        place = place.setdefault(key, {})
    assert SCHEMA.is_valid(job)
    place["nonsense"] = 1
    assert not SCHEMA.is_valid(job)
    with pytest.raises(ValueError, match="nonsense"):
        JobConfig.model_validate(job)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 10_000)
    | st.floats(-1, 3, allow_nan=False)
    | st.sampled_from(["", "x", "15%", "100%", "0%", "1.5%", "15 %", "auto", "linear", "drop", "a b"])
    | st.lists(st.sampled_from(["", "a.csv"]), max_size=2)
)
KEYS = st.sampled_from(
    [
        ("name",),
        ("data", "train"),
        ("data", "text"),
        ("data", "group"),
        ("data", "audit", "leakage"),
        ("data", "audit", "max_rejected"),
        ("folds", "test"),
        ("folds", "k"),
        ("train", "epochs"),
        ("train", "learning_rate"),
        ("train", "clip_norm"),
        ("train", "micro_batch"),
        ("train", "schedule"),
        ("train", "warmup"),
        ("model", "dropout"),
        ("output",),
    ]
)


@given(KEYS, VALUES)
def test_what_the_schema_accepts_the_loader_accepts(key: tuple[str, ...], value: Any) -> None:
    """An editor that shows no mistake must not mislead; what needs two keys to judge is left to the loader."""
    job = copy.deepcopy(SMALL)
    place = job
    for part in key[:-1]:
        place = place.setdefault(part, {})
    place[key[-1]] = value
    whole_float = isinstance(value, float) and value.is_integer()  # 3.0: an integer to JSON, not to the loader
    if SCHEMA.is_valid(job) and not whole_float and (key, value) != (("folds", "k"), 1):
        JobConfig.model_validate(job)


def test_the_reference_page_has_a_row_with_a_meaning_for_every_key() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    keys = [row.split("`")[1] for row in rows]
    assert keys == [*_leaves(JobConfig), *_leaves(ClusterConfig)]
    for row in rows:
        assert row.count(" | ") >= 3 and len(row.rsplit(" | ", 1)[1]) > 10, row
    assert "| `folds.test` | `15%` |" in markdown()
    assert "| `name` | required |" in markdown()
    assert {"model.lora", "model.lora.r", "train.rates[].pattern", "train.workers", "train.workers.max"} <= set(keys)
    assert "| `train.rates` | `[]` | list of {pattern, learning_rate, weight_decay} |" in markdown()
    assert "| `train.workers` | `1` | at least 1, at most 4096, {min, max} |" in markdown()
    assert "| `train.class_weights` | `null` | balanced, key: value |" in markdown()


def _leaves(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key; a section that need not be there, or stands in a list, counts itself as well."""
    found: list[str] = []
    for name, info in section.model_fields.items():
        inside = [info.annotation, *get_args(info.annotation)]
        sections = [each for each in inside if isinstance(each, type) and issubclass(each, BaseModel)]
        found += [] if sections[:1] == inside[:1] else [f"{prefix}{name}"]
        mark = "[]." if get_origin(info.annotation) is tuple else "."
        found += _leaves(sections[0], f"{prefix}{name}{mark}") if sections else []
    return found

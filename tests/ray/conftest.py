"""One Ray for all tests of this folder, with logical CPUs, and one finished run that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raysft import pipeline
from raysft.session import ENVIRONMENT, own_python
from tests.support.jobs import corpus_rows, write_base, write_job


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """An in-process Ray of two logical CPUs on one node."""
    import os

    os.environ.update(ENVIRONMENT)
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200_000_000,
        **own_python(),
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@dataclass(frozen=True)
class Finished:
    """A finished run and where it came from."""

    job: Path
    result: Any
    rows: list[dict[str, str]]


@pytest.fixture(scope="package")
def finished(cluster: None, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The whole journey on a corpus with bad rows, in a folder with spaces, quotes and accents in its name."""
    rows = corpus_rows(240)
    bad = [
        {**rows[0]},  # exact duplicate
        {**rows[1], "label": "refund" if rows[1]["label"] != "refund" else "account"},  # contradiction
        {"text": "  ", "label": "refund", "customer": "c900"},
        {"text": "no label here", "label": "", "customer": "c901"},
    ]
    folder = tmp_path_factory.mktemp("a folder with 'quotes' and é")
    job = write_job(folder, base, rows + bad)
    return Finished(job, pipeline.train(job), rows + bad)

"""Tests of this folder need an NVIDIA GPU, and skip without one: `make test-gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raysft.storage.pretrained import Base, resolve_base
from tests.support.jobs import write_base


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))

"""What several modules of unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.jobs import write_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a word tokenizer, as `model.base` names it."""
    return write_base(tmp_path_factory.mktemp("base"))

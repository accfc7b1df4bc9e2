"""Labels of nodes are written in one place, so that whoever asks for a pool and whoever makes it mean the same."""

from __future__ import annotations

from pathlib import Path

import raysft
from raysft.config.labels import MARKET, POOL

PACKAGE = Path(raysft.__file__).parent


def test_each_label_is_written_once() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    for label in (POOL, MARKET):
        found = [str(file.relative_to(PACKAGE)) for file in files if f'"{label}' in file.read_text(encoding="utf-8")]
        assert found == ["config/labels.py"]

"""The scripts of benchmarks/, run as a person runs them or in this process, and the tables that they print."""

from __future__ import annotations

import importlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


def run(script: str, *arguments: object) -> str:
    """What it prints, in a process of its own."""
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(script: str, *arguments: object) -> str:
    """What it prints, in this process, where torch is loaded already; the engines that it measures run here too."""
    printed = io.StringIO()
    with as_scripts() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        patch.setattr(importlib.import_module("process"), "measure", _measure_here)
        try:
            runpy.run_path(str(FOLDER / script), run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code
    return printed.getvalue()


def _measure_here(script: str, *arguments: object, pss: bool = False) -> dict[str, Any]:
    """As benchmarks/process.py, without time and memory, which are those of a process."""
    return {**json.loads(run_here(Path(script).name, *arguments).splitlines()[-1]), "all": 0.0, "rss": 0, "pss": 0}


@contextmanager
def as_scripts() -> Iterator[pytest.MonkeyPatch]:
    """Inside, modules of benchmarks/ are imported as the scripts do; environment and paths are put back."""
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        patch.syspath_prepend(str(FOLDER))
        yield patch


def table(printed: str) -> list[dict[str, str]]:
    """The lines of all tables, by the names of their columns."""
    found: list[dict[str, str]] = []
    names: list[str] = []
    for text in printed.splitlines():
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if not text.startswith("|"):
            names = []
        elif not names:
            names = cells
        elif not text.startswith("|--"):
            found.append(dict(zip(names, cells, strict=True)))
    return found

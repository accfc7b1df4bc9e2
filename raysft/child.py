"""How a module of ours is run in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def child_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """(command, environment).

    -P: else a queue.py or json.py where the command is typed is imported in place of Python's own. What was found there
    before, raysft itself in a checkout that is not installed, is found by PYTHONPATH.
    """
    home = str(Path(__file__).resolve().parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

"""Scripts that need a cluster of their own, run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT_S = 300  # some 60 s on two idle cores


def run_on_nodes(module: str, *arguments: Path) -> str:
    """What a module of the tests prints; it ends the nodes that it started, also when it is terminated."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            printed, said = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            printed, said = process.communicate(timeout=60)
        except BaseException:  # such as Ctrl-C, which would leave it behind
            process.terminate()
            process.wait(timeout=60)
            raise
    assert process.returncode == 0, said[-3000:]
    return printed

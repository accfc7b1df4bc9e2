"""How a module of ours is run in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

# Of what lies where raysft does nothing else is found before Python's own, and of what lies where the command is typed
# (-P) nothing at all: a queue.py or uuid.py there would be imported in place of the real one. Ctrl-C reaches all
# processes of a terminal; the parent says so and ends the others.
START = """
import importlib.util, runpy, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
found = importlib.util.spec_from_file_location("raysft", sys.argv[1])
raysft = sys.modules["raysft"] = importlib.util.module_from_spec(found)
found.loader.exec_module(raysft)
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def child_command(module: str, *arguments: str) -> list[str]:
    """The command; the child has the raysft of this process, whether that is installed or lies in a checkout."""
    return [sys.executable, "-P", "-c", START, str(Path(__file__).with_name("__init__.py")), module, *arguments]

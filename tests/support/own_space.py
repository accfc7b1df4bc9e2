"""A space of their own for processes of a test: they see no other process, reach no other port, and end together."""

from __future__ import annotations

import shutil
import subprocess

SPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--"]
NO_SPACE = "this machine gives no process a space of its own (unshare and ip, as root)"


def has_space() -> bool:
    """Whether this machine can."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    tried = subprocess.run([*SPACE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return tried.returncode == 0

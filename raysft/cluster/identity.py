"""Which process a number means. The system gives numbers again, so the moment when a process began goes with it.

That moment is counted from the start of the machine, where the system tells it so: a wall clock that is set, or that
stood still while a virtual machine slept, changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PROC = Path("/proc")
# In what follows the name in /proc/PID/stat (proc(5)), the state first: Z is one whose parent has yet to see its end.
BEGAN, ENDED = 19, {"Z", "X"}
CLOCK_S = 0.01  # by which two readings of the wall clock may differ


def identity(pid: int) -> dict[str, Any]:
    """What `is_running` knows the process by: pid, began (seconds since 1970), and, where the system has /proc, ticks
    since the start of the machine and which start that was. Raises psutil.NoSuchProcess."""
    import psutil

    known = {"pid": pid, "began": psutil.Process(pid).create_time()}
    ticks, boot = _ticks(pid), _boot()
    return known if ticks is None or boot is None else {**known, "ticks": ticks, "boot": boot}


def is_running(known: Any) -> bool:
    """Whether the process of an earlier `identity` still runs; False for whatever else is given."""
    import psutil

    try:
        pid, began, ticks, boot = known["pid"], known["began"], known.get("ticks"), known.get("boot")
        if ticks is not None:
            return bool(boot == _boot() and ticks == _ticks(pid))
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - began) <= CLOCK_S)
    except (KeyError, TypeError, ValueError, AttributeError, psutil.NoSuchProcess):
        return False


def _ticks(pid: int) -> int | None:
    """None where there is no such process, it has ended, or the system has no /proc."""
    try:
        # The name stands in brackets and may hold brackets itself.
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ENDED else int(fields[BEGAN])


def _boot() -> str | None:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None

"""One engine in a process of its own: what it printed, how long it took from start to end, its peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

import psutil
from data import family


def measure(script: str, *arguments: object) -> dict[str, Any]:
    """Run a script, whose last line of output is a JSON object; to it come `all` (seconds) and `rss` (bytes).

    RSS is summed over the process and its descendants, sampled ten times a second; shared pages count once a process.
    PSS would count them once, but reading it takes time from the engine.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    peak, over = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, over))
    watcher.start()
    printed, _ = process.communicate()
    spent = time.perf_counter() - started
    over.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed")
    return {**json.loads(printed.splitlines()[-1]), "all": spent, "rss": peak[0]}


def _watch(pid: int, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.1):
        total = 0
        for each in family(pid):
            try:
                total += each.memory_info().rss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)

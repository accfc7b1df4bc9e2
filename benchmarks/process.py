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


def measure(script: str, *arguments: object, pss: bool = False) -> dict[str, Any]:
    """Run a script, whose last line of output is a JSON object; to it come `all` (seconds), `rss` and `pss` (bytes).

    Memory is summed over the process and its descendants, sampled ten times a second. In RSS shared pages count once a
    process; in PSS they count once, but reading it takes time from the engine, so it is read where it is asked for.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )
    peak, over = {"rss": 0, "pss": 0}, threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, pss, over))
    watcher.start()
    printed, _ = process.communicate()
    spent = time.perf_counter() - started
    over.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed")
    return {**json.loads(printed.splitlines()[-1]), "all": spent, **peak}


def _watch(pid: int, peak: dict[str, int], pss: bool, over: threading.Event) -> None:
    """Keep the largest sums of memory over a process and its descendants."""
    while not over.wait(0.1):
        found = [_memory(each, pss) for each in _family(pid)]
        for place, name in enumerate(peak):
            peak[name] = max(peak[name], sum(each[place] for each in found))


def _memory(process: psutil.Process, pss: bool) -> tuple[int, int]:
    try:
        memory = process.memory_full_info() if pss else process.memory_info()
    except psutil.Error:
        return 0, 0
    return memory.rss, memory.pss if pss else 0


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []

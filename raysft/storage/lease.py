"""One writer at a time: an advisory lock that the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysft.errors import NotAllowed

ANOTHER = "Wait for it to end, stop it, or choose another name with --set name=NAME."


@contextmanager
def lease(lock: Path, what: str, wait_s: float = 0.0, next_step: str = ANOTHER) -> Iterator[None]:
    """Hold `lock` while the body runs; wait up to `wait_s` seconds for a holder that is about to end.

    Raises NotAllowed when somebody else still holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with lock.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise NotAllowed(f"{what} is in use by another process", next_step) from None
                time.sleep(0.2)
        yield

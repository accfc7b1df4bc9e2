"""Work by child processes, on one machine and without Ray: each takes item after item and leaves its files.

They are started as `python -m raysft.preparation.processes`, not forked: threads of Arrow and tokenizers do not survive
a fork, and multiprocessing's other ways run the caller's script again. A child ends when its parent does.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, Any

Work = Callable[[Any], dict[str, Any]]


def each_in_processes(work: Work, items: Sequence[Any], count: int) -> Iterator[dict[str, Any]]:
    """What `work` makes of every item, in the order of the items; `count` processes share them.

    work, items: must travel by pickle. An error in a child is raised here, and ends all of them.
    """
    children = [_Child(work) for _ in range(count)]
    free: SimpleQueue[_Child] = SimpleQueue()
    for child in children:
        free.put(child)

    def one(item: Any) -> dict[str, Any]:
        child = free.get()
        try:
            return child.call(item)
        finally:
            free.put(child)

    threads = ThreadPoolExecutor(count)
    try:
        yield from threads.map(one, items)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.end()


class _Child:
    """One process and its pipes."""

    def __init__(self, work: Work) -> None:
        command = [sys.executable, "-m", "raysft.preparation.processes"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        self._send(work)

    def call(self, item: Any) -> dict[str, Any]:
        self._send(item)
        try:
            found = pickle.load(self._process.stdout)  # type: ignore[arg-type]  # noqa: S301  # our own child wrote it
        except EOFError:
            raise ChildProcessError(f"a process that prepares data ended with {self._process.wait()}") from None
        if isinstance(found, Exception):
            raise found
        return dict(found)

    def _send(self, value: Any) -> None:
        pipe: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        pickle.dump(value, pipe)
        pipe.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def main() -> None:
    """The child: read the work, then items until the parent closes the pipe."""
    from raysft.corpus.encode import one_thread_each

    one_thread_each()
    taken = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as given:
        os.dup2(2, 1)  # what a library prints must not get between the answers
        work = pickle.load(taken)  # noqa: S301  # from our own parent
        while True:
            try:
                item = pickle.load(taken)  # noqa: S301
            except EOFError:
                return
            pickle.dump(_answer(work, item), given)
            given.flush()


def _answer(work: Work, item: Any) -> Any:
    try:
        return work(item)
    except Exception as error:  # noqa: BLE001  # raised again in the parent
        return error


if __name__ == "__main__":
    main()

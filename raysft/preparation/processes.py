"""Work by child processes, on one machine and without Ray: each takes item after item and leaves its files.

They run this module (raysft/child.py) and are not forked: threads of Arrow and tokenizers do not survive
a fork, and multiprocessing's other ways run the caller's script again. A child ends when its parent does.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any

from raysft.child import child_command
from raysft.errors import NoCapacity, RaysftError

Work = Callable[[Any], dict[str, Any]]
# How a process ends that asked for memory there is not: the kernel kills it, or a library gives up by itself.
OUT_OF_MEMORY = (signal.SIGKILL, signal.SIGABRT)
GO_ON = "What is done is kept: the same command goes on from there."
LESS_MEMORY = f"{GO_ON} Close other programs before, or let a single process do the work: taskset -c 0 raysft data JOB"


def each_in_processes(work: Work, items: Sequence[Any], count: int) -> Iterator[dict[str, Any]]:
    """What `work` makes of every item, in the order of the items; `count` processes share them.

    work, items: must travel by pickle. An error in a child is raised here, and ends all of them.
    Raises NoCapacity where a child was killed as for want of memory, RaysftError where it ended in another way.
    """
    children: list[_Child] = []
    free: SimpleQueue[_Child] = SimpleQueue()

    def one(item: Any) -> dict[str, Any]:
        child = free.get()
        try:
            return child.call(item)
        finally:
            free.put(child)

    threads = ThreadPoolExecutor(count)
    try:
        for _ in range(count):
            children.append(_Child())  # among those that are ended, before anything can go wrong with it
            children[-1].send(work)
            free.put(children[-1])
        yield from threads.map(one, items)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.end()


class _Child:
    """One process and its pipes."""

    def __init__(self) -> None:
        command = child_command("raysft.preparation.processes")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603

    def send(self, value: Any) -> None:
        """Hand over a value. Whether the child is still there to take it, its answer tells."""
        pipe: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        with suppress(BrokenPipeError):
            pickle.dump(value, pipe)
            pipe.flush()

    def call(self, item: Any) -> dict[str, Any]:
        """The answer to an item. Raises what the child raised; NoCapacity, RaysftError where it has ended."""
        self.send(item)
        try:
            found = pickle.load(self._process.stdout)  # type: ignore[arg-type]  # noqa: S301  # our own child wrote it
        except (EOFError, pickle.UnpicklingError):  # no answer, or half of one
            raise _ended(self._process.wait()) from None
        if isinstance(found, MemoryError):
            raise NoCapacity("the memory ran out in a process that prepares data", LESS_MEMORY) from found
        if isinstance(found, Exception):
            raise found
        return dict(found)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # closing tries once more to send what a dead child did not take
                pipe.close()  # type: ignore[union-attr]


def _ended(status: int) -> RaysftError:
    """What to tell people of a child that is gone. status: as Popen gives it, minus the signal where one ended it."""
    if status >= 0:
        text = f"a process that prepares data ended with exit code {status}"
        return RaysftError(text, f"What it wrote before that stands above. {GO_ON}")
    text = f"a process that prepares data was ended by signal {-status} ({_name(-status)})"
    if -status not in OUT_OF_MEMORY:
        return RaysftError(text, GO_ON)
    return NoCapacity(f"{text}; most likely the memory ran out", LESS_MEMORY)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # those for real-time programs have none
        return "without a name"


def main() -> None:
    """The child: read the work, then items until the parent closes the pipe."""
    taken = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as given:
        os.dup2(2, 1)  # what a library prints must not get between the answers
        from raysft.corpus.encode import one_thread_each

        one_thread_each()
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

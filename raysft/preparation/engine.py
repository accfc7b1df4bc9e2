"""Doing the same work on many items: in this process, or by a pool of Ray Data actors. The results are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from raysft.capacity import find_capacity

Work = Callable[[Any], dict[str, Any]]  # one item -> facts that JSON can hold


def each(work: Work, items: Sequence[Any], actors: int) -> Iterator[dict[str, Any]]:
    """What `work` makes of every item, in the order of the items. actors: of Ray Data; 0: in this process.

    Items and facts are small; what is large goes straight from the worker to storage.
    """
    if not actors or not items:
        yield from map(work, items)
        return
    import ray.data

    # A block holds one item, so that whichever actor is free takes the next.
    dataset = ray.data.from_items([{"item": number} for number in range(len(items))], override_num_blocks=len(items))
    pool = ray.data.ActorPoolStrategy(size=min(actors, len(items)))
    done = dataset.map_batches(
        _Worker, fn_constructor_args=(work, list(items)), batch_size=1, compute=pool, num_cpus=1, zero_copy_batch=True
    )
    for row in done.iter_rows():
        yield json.loads(row["facts"])


class _Worker:
    """One actor: an interpreter that has loaded what the work needs, and takes item after item."""

    def __init__(self, work: Work, items: list[Any]) -> None:
        from raysft.corpus.encode import one_thread_each

        one_thread_each()
        self._work = work
        self._items = items

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"facts": [json.dumps(self._work(self._items[number])) for number in batch["item"]]}


def actors() -> int:
    """As many as the cluster has CPUs; where it has none yet, as the smallest node that may come has, one without GPUs
    if there is one: text needs none. Needs a running Ray.

    0, where the head alone is there and runs no work: an actor would wait for a CPU for ever.
    """
    found = find_capacity()
    smallest = min(((node.gpus, node.cpus) for node in found.coming), default=(0.0, 0.0))
    return int(sum(node.cpus for node in found.there) or smallest[1])

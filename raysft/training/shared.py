"""Whether the workers write where the driver reads: asked on their nodes before they train, on clusters of several."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysft.errors import OutputError
from raysft.session import Resources
from raysft.storage.commit import writing

PATIENCE_S = 60.0  # for a node to start a process; one that is slower is no proof of anything
NEXT = (
    "Workers and driver need storage that all nodes share (NFS, EFS, Filestore, a mounted bucket), at the same path "
    "everywhere: --set output=FOLDER in it."
)


def require_shared(folder: Path, resources: Resources) -> None:
    """Raises OutputError where a node that workers may run on cannot write to `folder`, or has another one there.

    Takes as long as those nodes need to start a process, all at once; nothing where Ray has one node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in ray.nodes() if node["Alive"]]
    if len(alive) < 2:
        return
    able = [node for node in alive if _holds(node["Resources"], resources.bundle())]
    with _marked(folder) as marker:
        task = ray.remote(num_cpus=0, max_retries=0)(look)
        asked = {}
        for node in able:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[task.options(scheduling_strategy=there).remote(str(folder), marker)] = node
        done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE_S) if asked else ([], [])
        for answer in done:
            if said := _answer(ray, answer):
                where = asked[answer].get("NodeManagerHostname") or asked[answer].get("NodeManagerAddress")
                raise OutputError(f"output: node {where} {said}", NEXT)


def look(folder: str, marker: str) -> str:
    """What is wrong with a folder as this node sees it; "" where nothing is. marker: a file that the driver wrote."""
    path = Path(folder)
    if not (path / marker).exists():
        return f"sees another folder at {folder} than the driver, or none: a file of the driver's is missing there"
    mine = path / f"{marker}-{uuid.uuid4().hex[:8]}"
    try:
        mine.write_text(marker)
        found = mine.read_text()
        mine.unlink()
    except OSError as error:
        return f"cannot write to {folder}: {error.strerror}"
    return "" if found == marker else f"reads back other content than it wrote to {folder}"


@contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """A file of the driver's in the folder, by its name."""
    name = f".shared-{uuid.uuid4().hex[:8]}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("driver")
    try:
        yield name
    finally:
        for left in folder.glob(f"{name}*"):
            left.unlink(missing_ok=True)


def _holds(resources: dict[str, float], bundle: dict[str, float]) -> bool:
    return all(resources.get(name, 0.0) >= amount for name, amount in bundle.items())


def _answer(ray: Any, answer: Any) -> str:
    """What a node said; one that went away meanwhile said nothing."""
    try:
        return str(ray.get(answer))
    except ray.exceptions.RayError:
        return ""

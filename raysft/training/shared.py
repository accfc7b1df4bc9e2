"""Whether the workers write where the driver reads: asked on their nodes before they train, on clusters of several."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from raysft.errors import OutputError
from raysft.session import Resources
from raysft.storage.commit import writing
from raysft.storage.lease import lease

PATIENCE_S = 60.0  # for a node to start a process; one that is slower is no proof of anything
NEXT = (
    "Workers and driver need storage that all nodes share (NFS, EFS, Filestore; a mounted bucket is none), at the same "
    "path everywhere: --set output=FOLDER in it."
)


def require_shared(folder: Path, resources: Resources) -> None:
    """Raises OutputError where a node that workers may run on cannot write to `folder`, or has another one there.

    Takes as long as those nodes need to start a process, all at once; nothing where Ray has one node.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    if len(alive) < 2:
        return
    able = [node for node in alive if _holds(node["Resources"], resources.bundle())]
    for where, said in look_on(folder, able):
        if said:
            raise OutputError(f"output: node {where} {said}", NEXT)


def look_on(
    folder: Path, nodes: Sequence[dict[str, Any]], patience_s: float = PATIENCE_S
) -> list[tuple[str, str | None]]:
    """(name of a node, what is wrong with the folder there): "" where nothing is, None where it did not answer in time.

    nodes: as ray.nodes() has them. The folder is made where it is missing. Raises OutputError where the driver itself
    cannot write there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    with _marked(folder) as marker:
        task = ray.remote(num_cpus=0, max_retries=0)(look)
        asked = []
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append(task.options(scheduling_strategy=there).remote(str(folder), marker))
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=patience_s) if asked else ([], [])
        answers = {answer: _answer(ray, answer) for answer in done}
    return [(name_of(node), answers.get(answer)) for node, answer in zip(nodes, asked, strict=True)]


def name_of(node: dict[str, Any]) -> str:
    """Of a node as ray.nodes() has it."""
    return str(node.get("NodeManagerHostname") or node.get("NodeManagerAddress"))


def look(folder: str, marker: str) -> str:
    """What is wrong with a folder as this node sees it; "" where nothing is.

    marker: a file that the driver wrote, and holds locked.
    """
    path = Path(folder)
    if not (path / marker).exists():
        return f"sees another folder at {folder} than the driver, or none: a file of the driver's is missing there"
    mine = path / f"{marker}-{uuid.uuid4().hex[:8]}"
    for what, attempt in ATTEMPTS:
        try:
            whole = attempt(mine)
        except OSError as error:
            return f"cannot {what} {folder}: {error.strerror}"
        finally:
            with suppress(OSError):
                _clear(mine)
        if not whole:
            return f"reads back other content than it wrote to {folder}"
    return _lock(path / marker, folder)


def _write(mine: Path) -> bool:
    mine.write_text("one")
    return mine.read_text() == "one"


def _append(mine: Path) -> bool:
    """As logs of events are written."""
    mine.write_text("one")
    with mine.open("a") as file:
        file.write("two")
    return mine.read_text() == "onetwo"


def _rename(mine: Path) -> bool:
    """As a checkpoint is committed: a folder with all of its files comes to its name at once."""
    other = mine.with_name(f"{mine.name}-renamed")
    try:
        mine.mkdir()
        (mine / "inside").write_text("one")
        mine.rename(other)
        return (other / "inside").read_text() == "one" and not mine.exists()
    finally:
        _clear(other)


def _delete(mine: Path) -> bool:
    """As old checkpoints are."""
    mine.write_text("one")
    mine.unlink()
    return not mine.exists()


ATTEMPTS: tuple[tuple[str, Callable[[Path], bool]], ...] = (
    ("write to", _write),
    ("append to a file in", _append),
    ("delete a file in", _delete),
    ("rename a folder in", _rename),
)


def _lock(locked: Path, folder: str) -> str:
    """What is wrong with a lock of the driver's: it keeps two runs on two machines from writing one result."""
    try:
        with locked.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ""
    except OSError as error:
        return f"cannot lock a file in {folder}: {error.strerror}"
    return f"does not see the driver's lock in {folder}: two runs could write it at once (mount it without `nolock`)"


def _clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """A file of the driver's in the folder, by its name; locked as a run's lease is."""
    name = f".shared-{uuid.uuid4().hex[:8]}"
    with ExitStack() as held:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held.callback(_clear_all, folder, name)
            (folder / name).write_text("driver")
            held.enter_context(lease(folder / name, f"{folder}/{name}"))
        yield name


def _clear_all(folder: Path, name: str) -> None:
    """What a node that died left, too."""
    for left in folder.glob(f"{name}*"):
        _clear(left)


def _holds(resources: dict[str, float], bundle: dict[str, float]) -> bool:
    return all(resources.get(name, 0.0) >= amount for name, amount in bundle.items())


def _answer(ray: Any, answer: Any) -> str | None:
    """What a node said; None where it went away meanwhile."""
    try:
        return str(ray.get(answer))
    except ray.exceptions.RayError:
        return None

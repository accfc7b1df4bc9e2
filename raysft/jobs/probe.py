"""What the nodes of a cluster find of its storage and its room: `raysft cluster doctor` runs this there, as a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysft.capacity import Node, declared_pools, find_capacity, shortages
from raysft.config.labels import POOL
from raysft.errors import OutputError
from raysft.jobs.told import PROBE, Teller
from raysft.session import ray_session
from raysft.training.shared import look_on, name_of


def probe(storage: str | None, node_s: float) -> None:
    """Tell the findings as one event. node_s: seconds that each node has to try the storage, all at once."""
    with ray_session():
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]
        facts = {
            "nodes": [_there(node) for node in alive],
            "may_come": [_shape(node) for node in find_capacity().coming],
            "pools": declared_pools(),
            "shortages": shortages(),
            "storage": None if storage is None else _tried(Path(storage), alive, node_s),
        }
    Teller().tell(PROBE, **facts)


def _tried(storage: Path, alive: Sequence[dict[str, Any]], node_s: float) -> dict[str, Any]:
    """driver: why the driver cannot write there; "". nodes: what each said of it; "" is well, None is no answer."""
    try:
        answers = look_on(storage, alive, node_s)
    except OutputError as error:
        return {"driver": error.message, "nodes": []}
    except OSError as error:
        return {"driver": f"cannot write {storage}: {error.strerror}", "nodes": []}
    return {"driver": "", "nodes": [{"name": name, "said": said} for name, said in answers]}


def _there(node: dict[str, Any]) -> dict[str, Any]:
    found = node["Resources"]
    shape = _shape(Node(found.get("CPU", 0.0), found.get("GPU", 0.0)))
    return {"name": name_of(node), "pool": (node.get("Labels") or {}).get(POOL, ""), **shape}


def _shape(node: Node) -> dict[str, Any]:
    return {"cpus": node.cpus, "gpus": node.gpus}

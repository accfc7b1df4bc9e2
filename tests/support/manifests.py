"""Manifests of Kubernetes as tests look at them: all that is rendered of cluster/kubernetes, and parts of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from raysft.cluster.files.kubernetes import render
from raysft.cluster.files.manifest import read_manifests
from raysft.cluster.files.rayjob import rayjob
from raysft.config import load_cluster

FILE = Path(__file__).parents[2] / "cluster/kubernetes/cluster.yaml"
COMMAND = ["raysft", "train", "/mnt/raysft/jobs/two words.yaml", "--json"]
Manifest = dict[str, Any]


def documents() -> dict[str, Manifest]:
    """All that is rendered, by kind and name; a job with a queue and one without."""
    queued, free = load_cluster(FILE), load_cluster(FILE, ["kubernetes.queue=null"])
    files = {
        **render(queued),
        "queued": rayjob(queued, "queued", COMMAND, workers=4, gpus=1),
        "free": rayjob(free, "free", COMMAND, workers=2, gpus=0),
    }
    found = [document for text in files.values() for document in read_manifests(text)]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


@cache
def rendered(*overrides: str) -> dict[str, str]:
    return render(load_cluster(FILE, overrides))


@cache
def ray_cluster(*overrides: str) -> Manifest:
    found: Manifest = read_manifests(rendered(*overrides)["raycluster.yaml"])[0]["spec"]
    return found


def job_spec(workers: int, gpus: int, *overrides: str) -> Manifest:
    cluster = load_cluster(FILE, overrides)
    found: Manifest = read_manifests(rayjob(cluster, "j", COMMAND, workers, gpus))[0]["spec"]
    return found


def put(document: Any, path: str, value: object) -> None:
    """Set what stands at a dotted path; ... takes it away."""
    *steps, last = path.split(".")
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document.setdefault(step, {})
    if isinstance(document, list):
        document[int(last)] = value
    elif value is ...:
        document.pop(last, None)
    else:
        document[last] = value

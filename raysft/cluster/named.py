"""Which cluster a name means: a file, one that was brought up on this machine, or one of the folder cluster/."""

from __future__ import annotations

import os
from pathlib import Path

from raysft.config import Cluster, ClusterConfig, load_cluster
from raysft.config.cluster import LocalSection
from raysft.errors import NotFound, UsageError

LOCAL = "local"  # a cluster that needs no file
FILE = "cluster.yaml"
ENDINGS = {".yaml", ".yml"}


def home() -> Path:
    """What raysft remembers of clusters on this machine; RAYSFT_HOME names another folder than ~/.raysft."""
    return Path(os.environ.get("RAYSFT_HOME") or Path.home() / ".raysft").expanduser().absolute()


def state_folder(name: str) -> Path:
    """Of one cluster: its file as it was brought up, its token, its processes."""
    return home() / "clusters" / name


def find_cluster(name: str) -> Cluster:
    """A path of a cluster file; else the name of one that is up, or of one in cluster/ here; `local` needs no file.

    Raises NotFound, JobFileError.
    """
    if Path(name).suffix in ENDINGS or os.sep in name:
        return load_cluster(name)
    for path in (state_folder(name) / FILE, Path("cluster") / name / FILE, Path("cluster") / f"{name}.yaml"):
        if path.is_file():
            return load_cluster(path)
    if name == LOCAL:
        return Cluster(ClusterConfig(name=LOCAL, local=LocalSection()), Path(LOCAL))
    known = ", ".join(sorted(known_clusters()))
    raise NotFound(f"no cluster named {name}", f"Known here: {known}. Or name its file: --cluster path/to/{FILE}")


def known_clusters() -> set[str]:
    """Names that find_cluster knows here."""
    up = {path.parent.name for path in home().glob(f"clusters/*/{FILE}")}
    here = {path.parent.name for path in Path("cluster").glob(f"*/{FILE}")}
    files = {path.stem for path in Path("cluster").glob("*.yaml")}
    return {LOCAL} | up | here | files


def only_cluster() -> str:
    """The cluster that is meant when none is named: RAYSFT_CLUSTER, else the only one that is up.

    Raises UsageError.
    """
    if name := os.environ.get("RAYSFT_CLUSTER"):
        return name
    up = sorted(path.parent.name for path in home().glob(f"clusters/*/{FILE}"))
    if len(up) == 1:
        return up[0]
    found = f"several are up: {', '.join(up)}" if up else "none is up (`raysft cluster up local` starts one here)"
    raise UsageError(f"no cluster was named, and {found}", "Name one with --cluster NAME or --address URL.")

"""A cluster file turned into the files that make the cluster; each kind has a module of its own."""

from __future__ import annotations

import importlib

from raysft.config import Cluster
from raysft.errors import JobFileError, Problem

NOTHING = ("local",)  # kinds that need no file: `raysft cluster up` starts them itself


def render(cluster: Cluster) -> dict[str, str]:
    """Name of each file -> its text; the same for the same cluster file, whatever the machine and the day.

    Raises JobFileError where the catalogue and the file do not say enough of a pool, or its name has a line break.
    """
    kind = cluster.config.kind
    if kind in NOTHING:
        return {}
    if not cluster.path.name.isprintable():  # it stands in the first line of the files
        raise JobFileError([Problem(repr(str(cluster.path)), "", "the name of a cluster file is one line; rename it")])
    files = importlib.import_module(f"raysft.cluster.files.{kind}").render(cluster)
    assert all(isinstance(text, str) for text in files.values()), kind
    return dict(sorted(files.items()))

"""Who brings which kind of cluster up and down."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from shlex import join
from typing import Any, Protocol

from raysft.config import Cluster
from raysft.config.cluster import CLOUDS
from raysft.errors import UsageError
from raysft.events import Listener

BY_HAND = {
    "slurm": "sbatch the rendered script on the cluster's login node",
    "static": "`bash FOLDER/install.sh`, which installs it on its hosts by ssh",
}


class Power(Protocol):
    """What a kind of cluster can be asked for."""

    def up(self, cluster: Cluster, files: dict[str, str], listener: Listener) -> None:
        """Brings it up from its rendered files."""

    def down(self, cluster: Cluster, listener: Listener) -> None:
        """Takes it down."""

    def status(self, cluster: Cluster) -> str:
        """How it is, for people."""


def power_of(cluster: Cluster) -> Power:
    """By kind."""
    kind = cluster.config.kind
    if kind in BY_HAND:
        return ByHand()
    if kind == "local":
        return Local()
    module = "clouds" if kind in CLOUDS else "kubectl"
    found: Power = importlib.import_module(f"raysft.cluster.{module}")
    return found


def bring_up(cluster: Cluster, files: dict[str, str], listener: Listener, restart: bool = False) -> None:
    """By kind. restart: of a cluster in a cloud, also where jobs run on it, which end then.

    Raises UsageError where there is nothing to start anew.
    """
    if not restart:
        power_of(cluster).up(cluster, files, listener)
    elif cluster.config.kind in CLOUDS:
        importlib.import_module("raysft.cluster.clouds").up(cluster, files, listener, restart=True)
    else:
        raise UsageError(f"--restart: {cluster.config.name} is no cluster in a cloud", "Leave it out.")


class Local:
    """This machine; nothing is rendered."""

    def up(self, cluster: Cluster, files: dict[str, str], listener: Listener) -> None:
        running = _local().up(cluster, listener)
        listener.note(f"{running.name} is up: {running.address}")
        listener.note(f"then: raysft submit train JOB --cluster {running.name}")

    def down(self, cluster: Cluster, listener: Listener) -> None:
        was_up = _local().down(cluster)
        listener.note(f"{cluster.config.name} {'is down' if was_up else 'was not up'}")

    def status(self, cluster: Cluster) -> str:
        facts = importlib.import_module("raysft.cluster.facts")  # which knows of kinds by this file
        return str(facts.words(facts.status_facts(cluster)))


def _local() -> Any:
    return importlib.import_module("raysft.cluster.local")


@dataclass(frozen=True)
class ByHand:
    """Clusters that people start themselves, with files that are rendered for them."""

    def up(self, cluster: Cluster, files: dict[str, str], listener: Listener) -> None:
        raise self._how(cluster)

    def down(self, cluster: Cluster, listener: Listener) -> None:
        raise self._how(cluster)

    def status(self, cluster: Cluster) -> str:
        raise self._how(cluster)

    def _how(self, cluster: Cluster) -> UsageError:
        kind, render = cluster.config.kind, join(["raysft", "cluster", "render", str(cluster.path)])
        return UsageError(
            f"{cluster.config.name}: {kind} clusters are started where they are, not from here",
            f"`{render} --to FOLDER`, then {BY_HAND[kind]}; see docs/operations.md.",
        )

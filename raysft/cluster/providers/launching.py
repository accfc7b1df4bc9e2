"""Asks pool after pool for nodes until there are as many as wanted. Knows nothing of Ray but the names of its tags."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raysft.cluster.providers.failover import Failover
from raysft.cluster.providers.node_types import pool_type
from raysft.cluster.providers.record import append, read
from raysft.duration import span
from raysft.shortage import Asked

TYPE_TAG = "ray-user-node-type"  # Ray's names of tags, as they stand on the machines of a cloud
HASH_TAG = "ray-launch-config"
QUIET_MINUTES = 10.0
YOUNG_S = 120.0  # clouds list a machine some seconds after they gave it; until then it is counted from memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What a cloud is asked for, and what Ray is told of a node of it."""

    node_config: Mapping[str, Any]
    resources: Mapping[str, float]
    labels: Mapping[str, str]


class Cloud(Protocol):
    """What is needed of one of Ray's providers."""

    def listed(self) -> list[str]:
        """All nodes that the cloud knows of."""

    def tags(self, node: str) -> Mapping[str, str]:
        """Raises KeyError for a node that is gone."""

    def make(self, setting: Setting, tags: dict[str, str], count: int) -> Mapping[str, Any] | None:
        """Nodes by name, or None where the provider does not say. Raises anything where there are none to be had."""

    def fingerprint(self, node_config: Mapping[str, Any]) -> str:
        """By which stopped machines of the same settings are found again."""


@dataclass(frozen=True)
class Made:
    """What came of wanting nodes."""

    nodes: dict[str, Any]  # by name, with what the provider says of them
    of: Counter[str]  # how many of each pool
    words: str  # why not all are of the wanted pool; "" where they are


class Launcher:
    """Makes nodes of the wanted pool, else of those that stand in for it."""

    def __init__(
        self,
        cloud: Cloud,
        provider: Mapping[str, Any],
        cluster: str,
        publish: Callable[[list[Asked]], object],
    ) -> None:
        """provider: section `provider` of the autoscaler's file. publish: is called with the record when it grows."""
        self.pools: dict[str, dict[str, Any]] = {pool["name"]: pool for pool in provider.get("pools", ())}
        self._cloud = cloud
        self._publish = publish
        self._file = Path(provider.get("record") or f"~/.raysft/capacity-{cluster}.jsonl").expanduser()
        self._record = read(self._file) if self.pools else []
        quiet_s = 60 * float(provider.get("no_capacity_minutes", QUIET_MINUTES))
        self._failover = Failover([pool_type(pool) for pool in self.pools.values()], quiet_s, self._record)
        self._asking = threading.Lock()  # one at a time, so that two calls do not both take a pool's last place
        self._young: dict[str, tuple[str, float]] = {}  # by node: its pool, and when it was made

    def launch(self, own: Setting, tags: dict[str, str], count: int) -> Made:
        """Nodes of the pool that the tags name, as far as they are to be had, and others.

        own: of the wanted pool, as the autoscaler has it now.
        """
        wanted = tags[TYPE_TAG]
        with self._asking:
            nodes, of = self._from_pools(wanted, own, tags, count)
            return Made(nodes, of, "" if of[wanted] >= count else self._words(wanted, count, of))

    def forget(self, node: str) -> None:
        """The node is being ended, and counts no more."""
        self._young.pop(node, None)

    def _from_pools(
        self, wanted: str, own: Setting, tags: dict[str, str], count: int
    ) -> tuple[dict[str, Any], Counter[str]]:
        nodes: dict[str, Any] = {}
        of: Counter[str] = Counter()
        while len(nodes) < count:
            there = Counter(self._pool_of_nodes().values())
            pool = self._failover.next_pool(wanted, there, time.time())
            if pool is None:
                break
            ask = min(count - len(nodes), pool.most - there[pool.name])
            now = time.time()
            got, why = self._ask(pool.name, own if pool.name == wanted else self._setting(pool.name), tags, ask)
            again = now + self._failover.quiet_s if why else 0.0
            self._note(Asked(now, pool.name, wanted, ask, len(got), why, again))
            nodes |= got
            of[pool.name] += len(got)
        return nodes, of

    def _ask(self, pool: str, setting: Setting, tags: dict[str, str], count: int) -> tuple[dict[str, Any], str]:
        """The nodes that one pool gave, and in the cloud's words why they are not as many as asked."""
        if tags[TYPE_TAG] != pool:
            tags = {**tags, TYPE_TAG: pool, HASH_TAG: self._cloud.fingerprint(setting.node_config)}
        got: dict[str, Any] = {}
        why = ""
        while len(got) < count and not why:
            before = self._of(pool)
            try:
                made = self._cloud.make(setting, dict(tags), count - len(got))
            except Exception as error:  # noqa: BLE001  # no machine, or any other reason to try another pool
                made, why = None, words_of(error)
                logger.info("pool %s: %s", pool, why)
            # Some providers do not say which nodes they made, and some made a few before they failed.
            found = dict.fromkeys(self._of(pool) - before) | dict(made or {})
            self._young |= {node: (pool, time.time()) for node in found}
            got |= found
            if not found and not why:
                why = "gave no node and no reason"
        return got, why if len(got) < count else ""

    def _note(self, line: Asked) -> None:
        self._failover.note(line)
        self._record.append(line)
        try:
            append(self._file, line)
        except OSError as error:
            logger.warning("the record of capacity could not be written to %s: %s", self._file, error)
        self._publish(self._record)

    def _words(self, wanted: str, count: int, of: Counter[str]) -> str:
        """Why not all nodes are of the wanted pool, and what happens next."""
        gave = ", ".join(f"{name} gave {nodes}" for name, nodes in of.items() if nodes and name != wanted)
        text = f"{wanted} gave {of[wanted]} of {count} nodes" + (f"; {gave} instead" if gave else "")
        if of.total() >= count:
            return text
        now = time.time()
        following = self._failover.next_try(wanted, Counter(self._pool_of_nodes().values()), now)
        if following is None:
            return f"{text}; no pool may have more nodes"
        return f"{text}; {following[0].name} next in {span(following[1] - now)}"

    def _setting(self, pool: str) -> Setting:
        kept = self.pools[pool]
        return Setting(kept["node_config"], kept["resources"], kept["labels"])

    def _of(self, pool: str) -> set[str]:
        return {node for node, name in self._pool_of_nodes().items() if name == pool}

    def _pool_of_nodes(self) -> dict[str, str]:
        """By node: those that the cloud lists, and those that it gave a moment ago and does not list yet."""
        now, listed = time.time(), self._cloud.listed()
        young = {node: each for node, each in self._young.items() if 0 <= now - each[1] < YOUNG_S}
        self._young = {node: each for node, each in young.items() if node not in listed}
        return {node: name for node, (name, _) in self._young.items()} | {node: self._type_of(node) for node in listed}

    def _type_of(self, node: str) -> str:
        try:
            return self._cloud.tags(node).get(TYPE_TAG, "")
        except KeyError:  # it went between the listing and this question
            return ""


def words_of(error: Exception) -> str:
    """The cloud's words on one line: "InsufficientInstanceCapacity: We currently do not have ..."."""
    category = getattr(error, "category", None)
    text = f"{category}: {getattr(error, 'description', '')}" if category else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]

"""What is wrong with rendered files that their schemas cannot say. Each rule is a function that yields findings."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from raysft.cluster.render import render
from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.rendered import Rendered, walk
from raysft.cluster.secrets import secrets_in
from raysft.config import Cluster
from raysft.config.cluster import ANYWHERE

Rule = Callable[[Rendered], Iterator[Finding]]
# Kinds whose files have rules beside those for all files, and the module that has them as RULES.
MODULES = {
    "aws": ("ray_up", "aws", "policies"),
    "gcp": ("ray_up", "gcp", "policies"),
    "azure": ("ray_up", "azure", "policies"),
}
TOKEN = re.compile(r"\bRAY_AUTH_TOKEN=\S")  # what follows is the very one


def lint(cluster: Cluster, files: dict[str, str] | None = None) -> list[Finding]:
    """All findings, in the order of the files. files: as rendered, by default rendered here.

    Raises JobFileError where the cluster file cannot be rendered.
    """
    rendered = Rendered(cluster, render(cluster) if files is None else files)
    rules = [*RULES, *(rule for module in MODULES.get(cluster.config.kind, ()) for rule in _rules(module))]
    found = [finding for rule in rules for finding in rule(rendered)]
    if cluster.config.kind == "kubernetes":
        from raysft.cluster.rules.kubernetes import findings

        found += findings(rendered.texts)
    order = list(rendered.texts)
    return sorted(dict.fromkeys(found), key=lambda finding: order.index(finding.file))


def not_checked(cluster: Cluster) -> list[str]:
    """What `lint` leaves out here for want of a package."""
    if cluster.config.kind == "aws" and find_spec("botocore") is None:
        return ["node_config against EC2's own model (pip install 'raysft[aws]')"]
    return []


def _rules(module: str) -> tuple[Rule, ...]:
    found: tuple[Rule, ...] = importlib.import_module(f"raysft.cluster.rules.{module}").RULES
    return found


def open_to_the_world(rendered: Rendered) -> Iterator[Finding]:
    """No address range of everyone, in whatever place."""
    for file, document in rendered.documents():
        for key, value in walk(document):
            if isinstance(value, str) and any(word in value for word in ANYWHERE):
                yield Finding(file, key, f"{value} is everyone", "Name the range or the group that has to get in.")


def secrets(rendered: Rendered) -> Iterator[Finding]:
    """Nothing that looks like a secret; what was found is not repeated."""
    fix = "Take it out, make it invalid where it is from, and give nodes a role or a token file instead."
    for file, text in rendered.texts.items():
        found = list(secrets_in(text, {}))
        found += [(line, "the cluster's token") for line, each in enumerate(text.split("\n"), 1) if TOKEN.search(each)]
        yield from (Finding(file, f"line {line}", f"looks like {what}", fix) for line, what in found)


RULES: tuple[Rule, ...] = (open_to_the_world, secrets)

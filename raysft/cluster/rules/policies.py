"""Rules for roles and policies, in all clouds: nobody may do everything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.rendered import Rendered, walk

WIDE = re.compile(r"FullAccess$|AdministratorAccess$|PowerUserAccess$|^roles/(owner|editor|[a-z]+\.admin)$")
WIDE_ROLES_OF_AZURE = {"Owner", "Contributor", "User Access Administrator"}
ACTIONS = {"Action", "Actions", "permissions", "includedPermissions", "NotAction"}
LESS = "Name the actions that are needed, one by one."


def no_wide_role(rendered: Rendered) -> Iterator[Finding]:
    """Roles that clouds ship for everything."""
    for file, document in rendered.documents():
        for key, value in walk(document):
            last = key.rpartition(".")[2]
            if isinstance(value, str) and (
                WIDE.search(value) or ("role" in last.lower() and value in WIDE_ROLES_OF_AZURE)
            ):
                yield Finding(file, key, f"{value} may do nearly everything", LESS)


def no_action_with_a_star(rendered: Rendered) -> Iterator[Finding]:
    """Not "*", "ec2:*" or "Microsoft.Compute/*"."""
    for file, document in rendered.documents():
        for key, value in walk(document):
            if key.rpartition(".")[2] not in ACTIONS:
                continue
            yield from (
                Finding(file, key, f"{action} allows more than is needed", LESS)
                for action in _listed(value)
                if isinstance(action, str) and "*" in action
            )


def nothing_by_exception(rendered: Rendered) -> Iterator[Finding]:
    """`NotAction` with Allow is everything but."""
    for file, document in rendered.documents():
        for key, value in walk(document):
            if isinstance(value, dict) and value.get("Effect") == "Allow" and {"NotAction", "NotResource"} & set(value):
                yield Finding(file, key, "allows all but what it names", LESS)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


RULES: tuple[Callable[[Rendered], Iterator[Finding]], ...] = (
    no_wide_role,
    no_action_with_a_star,
    nothing_by_exception,
)

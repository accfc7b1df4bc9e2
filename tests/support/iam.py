"""What a policy of IAM allows: enough of its language for the policies that we write, and no more."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

Policy = Mapping[str, Any]


def allowed(policy: Policy, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether one request for one resource is allowed. context: keys of the request, such as aws:RequestTag/x."""
    matching = [each for each in policy["Statement"] if _matches(each, action, resource, context or {})]
    if any(each["Effect"] == "Deny" for each in matching):
        return False
    return any(each["Effect"] == "Allow" for each in matching)


def _matches(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    return (
        any(fnmatch.fnmatchcase(action, each) for each in _listed(statement["Action"]))
        and any(fnmatch.fnmatchcase(resource, each) for each in _listed(statement["Resource"]))
        and all(_holds(operator, tests, context) for operator, tests in statement.get("Condition", {}).items())
    )


def _holds(operator: str, tests: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    """A key that the request does not have fails the test."""
    assert operator in {"StringEquals", "Bool", "StringLike"}, f"not known here: {operator}"
    like = operator == "StringLike"
    return all(
        any(
            fnmatch.fnmatchcase(context[key], str(each)) if like else context[key] == str(each)
            for each in _listed(right)
        )
        if key in context
        else False
        for key, right in tests.items()
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]

"""Arguments that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def job_argument(function: F) -> F:
    """JOB, a job file."""
    return click.argument("job", type=click.Path(path_type=Path))(function)


def set_option(function: F) -> F:
    """--set section.key=value, as often as needed."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a key of the job file, e.g. --set train.epochs=3. Repeatable.",
    )(function)


def json_option(function: F) -> F:
    """--json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One JSON document on stdout; everything else goes to stderr."
    )(function)

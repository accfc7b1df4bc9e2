"""A job's log on this terminal, until it is over or the person has seen enough."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from raysft.errors import Interrupted

if TYPE_CHECKING:
    from raysft.jobs.client import Client, Job


def follow(client: Client, id: str, where: str, patience_s: float | None = None, to: TextIO | None = None) -> Job:
    """Show its log and, on a terminal, how far it is; the job when it is over.

    where: flags that name the cluster. to: where the log goes, else stdout. Raises Interrupted at Ctrl-C, which leaves
    the job alone, and NotFound where the cluster is gone.
    """
    from raysft.cli.console import Watch
    from raysft.jobs.follow import PATIENCE_S, Follower
    from raysft.jobs.told import event_of, is_event

    with Watch(tells=False) as watch:
        bar, out = sys.stderr.isatty(), to or sys.stdout

        def show(line: str) -> None:
            if not is_event(line):
                out.write(f"{line}\n")
                out.flush()
            elif bar and (event := event_of(line)) is not None and event["kind"] == "progress":
                watch.progress(event["done"], event["total"], event.get("text", ""))

        try:
            return Follower(client, id, PATIENCE_S if patience_s is None else patience_s).follow(show, watch.warn)
        except KeyboardInterrupt:
            raise Interrupted(
                f"no longer following; job {id} goes on",
                f"Come back: raysft jobs logs {id} -f{where}; stop it: raysft jobs stop {id}{where}",
            ) from None

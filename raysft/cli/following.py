"""A job's log on this terminal, until it is over or the person has seen enough."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from raysft.cli.console import Watch
    from raysft.jobs.client import Client, Job
    from raysft.jobs.state import Event
    from raysft.jobs.submit import Sent


class Printer:
    """Writes lines of a log: what is for people, or an object a line for programs."""

    def __init__(self, out: TextIO, as_json: bool = False, watch: Watch | None = None) -> None:
        """watch: shows progress as a bar."""
        self._out, self._as_json, self._watch = out, as_json, watch
        self._time: float | None = None  # of the newest event

    def lines(self, lines: Iterable[str]) -> None:
        """All of these, and to the terminal at once."""
        from raysft.jobs.told import parted

        for line in lines:
            text, event = parted(line)
            if text is not None:
                self._write({"time_s": self._time, "stream": "log", "line": text} if self._as_json else text)
            if event is not None:
                self._event(event)
        self._out.flush()

    def _event(self, event: Event) -> None:
        from raysft.jobs.state import KIND

        if event["kind"] == KIND:  # for readers that come later
            return
        self._time = event["t"]
        if self._as_json:
            self._write({"time_s": self._time, "stream": "events", "event": event})
        elif self._watch is not None and event["kind"] == "progress":
            self._watch.progress(event["done"], event["total"], event.get("text", ""))

    def _write(self, found: str | dict[str, Any]) -> None:
        from raysft.cli.console import as_json

        text = found if isinstance(found, str) else as_json(found, self._out)
        self._out.write(f"{text}\n")


def follow(
    client: Client,
    id: str,
    *,
    patience_s: float | None = None,
    to: TextIO | None = None,
    as_json: bool = False,
    last: int | None = None,
) -> Job:
    """Show its log and, on a terminal, how far it is; the job when it is over.

    to: where the log goes, else stdout. as_json: an object a line. last: lines to
    begin with. Raises Interrupted at Ctrl-C, which leaves the job alone, and NotFound where the cluster is gone.
    """
    from raysft.cli.console import Watch
    from raysft.errors import Interrupted
    from raysft.jobs.follow import PATIENCE_S, Follower

    with Watch(tells=False) as watch:
        printer = Printer(to or sys.stdout, as_json, watch if sys.stderr.isatty() else None)
        follower = Follower(client, id, PATIENCE_S if patience_s is None else patience_s, last=last)
        try:
            return follower.follow(printer.lines, watch.warn)
        except KeyboardInterrupt:
            raise Interrupted(
                f"no longer following; job {id} goes on",
                f"Come back: raysft jobs logs {id} -f{client.flags}; stop it: raysft jobs stop {id}{client.flags}",
            ) from None


def answer(client: Client, sent: Sent, detach: bool, as_json: bool) -> None:
    """What a command that has sent a job prints: what came of it, or how to come back to it.

    Ends the command with the code of a job that did not succeed.
    """
    from raysft.cli.console import print_json, stderr
    from raysft.jobs.follow import exit_code
    from raysft.jobs.look import state_of
    from raysft.jobs.view import reason_of

    say = stderr()
    say.print(f"job {sent.id} on {client.address}", markup=False, highlight=False, soft_wrap=True)
    facts = {"schema": "raysft.submit/1", "id": sent.id, "attempt": sent.attempt, "address": client.address}
    if detach:
        if as_json:
            print_json({**facts, "status": "PENDING", "exit_code": None, "reason": ""})
        else:
            flags = client.flags
            click.echo(f"follow  raysft jobs logs {sent.id} -f{flags}\nstatus  raysft jobs status {sent.id}{flags}")
        return
    ended = follow(client, sent.id, to=sys.stderr if as_json else None)
    code = exit_code(ended)
    reason = reason_of(ended, state_of(client, ended)) if code else ""
    if as_json:
        print_json({**facts, "status": ended.status, "exit_code": code, "reason": reason})
    else:
        why = f": {reason}" if reason else ""
        say.print(f"job {sent.id}: {ended.status.lower()}{why}", markup=False, highlight=False, soft_wrap=True)
    if code:
        raise click.exceptions.Exit(code)

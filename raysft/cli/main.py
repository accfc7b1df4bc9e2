"""The `raysft` command: finds the verb, and turns every ending into one message and the right exit code.

Verbs are imported only when they are used, so that `raysft --help` answers at once.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from raysft.errors import Interrupted, Kept, NoCapacity, OutputError, RaysftError

VERBS = {
    "init": "Look at a data file and write a job file that runs.",
    "check": "Validate a job file and predict the run, in seconds.",
    "data": "Read, audit, split and tokenize the data of a job.",
    "train": "Run the whole job: data, training, evaluation, report.",
    "tune": "Search settings by cross-validation, and train the best.",
    "cv": "Cross-validate the settings of a job.",
    "evaluate": "Score a finished run again, or on other labelled files.",
    "predict": "Label texts or files with a finished run.",
    "submit": "Run a job on a cluster, and follow it.",
    "jobs": "Jobs on a cluster: list, status, logs, stop, retry.",
    "cluster": "Clusters: files that make them, up, down, and how they are.",
    "schema": "Print the JSON schema of the job file.",
}
RESUMING = {"data", "train", "tune", "cv"}
GOES_ON = "Nothing is lost: the same command goes on from the newest checkpoint."
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class Verbs(click.Group):
    """The verbs in the order of a journey, each loaded from its own file when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"raysft.cli.{cmd_name}_command").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="raysft")
def cli() -> None:
    """Fine-tune a language model on labelled text, and know how good it is.

    \b
    raysft init tickets.csv       write tickets.yaml
    raysft check tickets.yaml     what will it take?
    raysft train tickets.yaml     train, evaluate, report; the same command resumes
    """


def main() -> NoReturn:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, _interrupt)
    _open_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        with _reporting():
            # What a command ends with by click's Exit is returned here, where click does not end the process itself.
            code = cli.main(args=arguments, prog_name="raysft", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        return _say(Interrupted("interrupted", GOES_ON if RESUMING.intersection(arguments[:1]) else ""))
    except RaysftError as error:
        return _say(error)
    except MemoryError as error:
        text = f"the memory ran out ({error})" if str(error) else "the memory ran out"
        return _say(NoCapacity(text, "Close other programs, or use a machine with more; the same command goes on."))
    except (BrokenPipeError, SystemExit):
        # click exits at any broken pipe. Only that to our reader, who may leave early as `| head` does, is no fault.
        if not _reader_has_left():
            return _say(RaysftError("unexpected: a pipe broke", "Another process has ended; its log may say why."))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        if error.errno not in NO_SPACE:
            return _unexpected(error)
        return _say(OutputError(f"cannot write: {error.strerror}", "Free some space; the same command goes on."))
    except Exception as error:  # noqa: BLE001  # it is said, whatever it is
        return _unexpected(error)
    return code if isinstance(code, int) else 0


def _open_streams() -> None:
    """What whoever calls has closed takes nothing; what stdout has no letters for does not end the command."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _unexpected(error: Exception) -> int:
    if os.environ.get("RAYSFT_DEBUG"):
        raise error
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
    return _say(RaysftError(f"unexpected: {text}", "This is a fault of raysft; RAYSFT_DEBUG=1 shows where."))


def _reporting() -> AbstractContextManager[None]:
    """A job that was submitted tells how it is: jobs/driver.py."""
    if not os.environ.get("RAYSFT_EVENTS"):
        return nullcontext()
    from raysft.jobs.driver import reporting

    return reporting()


def _reader_has_left() -> bool:
    output = select.poll()
    output.register(1, 0)
    return any(event & select.POLLERR for _, event in output.poll(0))


def _say(error: RaysftError) -> int:
    from raysft.cli.console import stderr
    from raysft.jobs.told import Teller

    kept = isinstance(error, Kept)
    Teller().tell("error", text=error.message, next=error.next_step, exit_code=error.exit_code, kept=kept)

    console = stderr()
    console.print("[bold red]error:[/]", end=" ")
    console.print(error.message, markup=False, highlight=False, soft_wrap=True)
    if error.next_step:
        console.print(f"  → {error.next_step}", markup=False, highlight=False, soft_wrap=True)
    return error.exit_code


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt

"""Ends of a process that Ray Tune would take for the end of the whole search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raysft.errors import TrainingFailed
from raysft.tuning.relay import words

DETAIL, GUESSES = "Worker exit detail: ", " Some common causes include"  # of Ray's long message
LOW = (
    "its process was ended because memory ran low on its machine; fewer folds at a time (tune.concurrent) or a smaller "
    "train.micro_batch need less"
)


@contextmanager
def every_death_counted() -> Iterator[None]:
    """Inside, a process that Ray ended for want of memory, or that is gone with its node, has died, and Tune tries its
    fold again.

    Ray 2.60 knows a death by RayActorError alone, and raises a RuntimeError at its other errors, OutOfMemoryError among
    them (ray/air/execution/_internal/actor_manager.py).
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import RayActorError, RayError, RayTaskError

    usual = RayActorManager._actor_task_failed

    def failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        unknown = isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError)
        usual(manager, tracked_actor_task, as_death(exception) if unknown else exception)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = usual


def as_death(error: Exception) -> Exception:
    """An error of Ray's as that of a process that died; its cause is for people (relay.words)."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    death: Exception = RayActorError(error_msg=str(error))
    death.cause = TrainingFailed(LOW) if isinstance(error, OutOfMemoryError) else error  # type: ignore[attr-defined]
    return death


def cause_of(error: Exception) -> str:
    """Why the process of a fold died, in one line, for people; without Ray's guesses."""
    from ray.exceptions import RayActorError

    if not isinstance(error, RayActorError) or hasattr(error, "cause"):
        return words(error)
    text = str(error).partition(GUESSES)[0].rpartition(DETAIL)[2]
    return f"its process died: {' '.join(text.splitlines()[-1:])}"

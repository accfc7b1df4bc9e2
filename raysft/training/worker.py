"""What one Ray Train worker does: build the model, run the loop, have the artifact written. Imports Ray nowhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config import JobConfig
from raysft.errors import NotFound, RaysftError, UnlikeNode, UsageError
from raysft.model.language import compile_loss, sums_its_loss
from raysft.model.padding import pad_id
from raysft.plan.plan import choose_micro_tokens
from raysft.preparation.prepared import Prepared
from raysft.storage.commit import write_json, writing
from raysft.storage.layout import RunFolder
from raysft.storage.lease import lease
from raysft.storage.pretrained import LOCAL, Base, resolve_base
from raysft.training import ranks
from raysft.training.artifact import write_artifact
from raysft.training.checkpoint import precision_of
from raysft.training.lessons import lesson_of
from raysft.training.loop import Loop
from raysft.training.notice import Source
from raysft.training.precision import Precision, choose
from raysft.training.tasks import build_model, build_objective, decision_facts, packing_of, scorer_of
from raysft.training.tracking import open_tracking


@dataclass(frozen=True)
class Task:
    """All that a worker needs; travels to it by pickle."""

    config: JobConfig
    job_folder: Path
    base: Base
    data: Prepared
    run: RunFolder
    micro_batch: int | None  # most rows of a forward pass
    threads: int
    gpu: bool
    strategy: str = "ddp"  # ddp | fsdp
    source: Source | None = None  # tells the ranks to stop or to move


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    best_step: int
    last_step: int
    resumed_from: int | None
    precision: str
    device: str
    examples: int
    tokens: int
    padded: int
    seconds: float
    skipped: int  # updates left out, because they were not finite
    micro_batch_parts: int  # in which each was computed at the end; 1 unless memory ran out
    weights_sha256: str
    groups: list[dict[str, Any]]
    ended: str  # why training ended
    units: str = ""  # where tokens are tagged: what has a tag, one of UNITS


def run_worker(task: Task) -> Outcome | RaysftError | None:
    """Train in this process, one of the ranks; the first one's outcome is that of the run, the others have none.

    Errors meant for people are returned, so that nothing retries them.
    """
    try:
        with writing(task.run.path), ExitStack() as held:
            begun = ranks.on_first_rank(lambda: precision_of(task.run.checkpoints))
            precision = choose(task.config.train.precision, device_of(task), begun)
            make_loop, base = ranks.all_or_none(lambda: prepare_loop(task, held, precision))
            return _train(task, make_loop(), base)
    except RaysftError as error:
        return error


def prepare_loop(task: Task, held: ExitStack, precision: Precision) -> tuple[Callable[[], Loop], Base]:
    """Everything that can fail on one rank alone; rank 0 becomes the run's only writer. The loop itself is made by all
    ranks together."""
    if ranks.rank() == 0:
        held.enter_context(lease(task.run.checkpoints / ".writer", f"run {task.config.name}", wait_s=60))
    use_threads(task.threads)
    base = find_base(task)
    model = build_model(task.config, base, task.data.labels)
    return loop_maker(task, base, model, precision, task.run.checkpoints), base


def use_threads(threads: int) -> None:
    """Compute with so many threads. Ray's CPUs are logical and may be more than there are; more threads than cores
    fight each other."""
    torch.set_num_threads(max(1, min(threads, len(os.sched_getaffinity(0)))))


def find_base(task: Task) -> Base:
    """The base as this node holds it. Raises UnlikeNode where that is another than the driver's."""
    # A folder as the driver found it: here a job file's own output would be looked for somewhere else.
    name = str(task.base.folder) if task.base.revision == LOCAL else task.config.model.base
    try:
        base = resolve_base(name, task.config.model.revision, task.job_folder)
    except (NotFound, UsageError) as error:  # the driver found it
        raise UnlikeNode(f"on {socket.gethostname()}: {error.message}", error.next_step) from None
    if base.weights_sha256 != task.base.weights_sha256:
        raise UnlikeNode(
            f"model.base: {socket.gethostname()} holds other weights ({base.weights_sha256[:12]}) than the driver "
            f"({task.base.weights_sha256[:12]})",
            "Pin model.revision, or put the same folder on every node.",
        )
    return base


def loop_maker(
    task: Task,
    base: Base,
    model: nn.Module,
    precision: Precision,
    checkpoints: Path | None,
    numbers: np.ndarray[Any, Any] | None = None,
) -> Callable[[], Loop]:
    """What makes the loop that trains `model` on the task's rows. checkpoints: None where none are kept. numbers: of
    the tokens, where the model gives them others than the rows do."""
    config, settings, labels = task.config, task.config.train, task.data.labels
    lesson = lesson_of(config.language_task, base.folder, model) if config.language_task else None
    train, validation = (replace(task.data.tokens(part), numbers=numbers) for part in ("train", "validation"))
    packed = packing_of(config, model, train.lengths)
    sums = lesson is not None and sums_its_loss(model)
    if sums and settings.compile:
        compile_loss(model)
    scorer = scorer_of(config, base, labels, model, precision.device)
    return partial(
        Loop,
        model=model,
        objective=build_objective(
            config, labels, train, validation, pad_id(model), precision.device, lesson, packed, sums, scorer
        ),
        settings=settings,
        micro_batch=task.micro_batch,
        train=train,
        precision=precision,
        checkpoints=checkpoints,
        metrics=task.run.metrics,
        model_settings=config.model,
        places=lambda row_ids: places_of(task.data, row_ids),
        micro_tokens=choose_micro_tokens(settings, task.gpu),
        tracking=open_tracking(settings.track if ranks.rank() == 0 else (), task.run, config.name),
        strategy=task.strategy,
        packed=packed,
        source=task.source,
    )


def _train(task: Task, loop: Loop, base: Base) -> Outcome | None:
    """Run the loop; then the first rank writes the artifact and says how it ended.

    The others are done by then: what a large model takes to be written is longer than ranks wait for each other.
    """
    ranks.on_first_rank(lambda: write_json(task.run.groups, loop.approach.recipe.rows()))
    try:
        with loop.precision.training():
            progress = loop.run()
    finally:
        loop.tracking.close()
    if ranks.rank() != 0:
        return None
    digest = write_artifact(task, base, loop)
    outcome = Outcome(
        best_step=progress.best_step,
        last_step=progress.step,
        resumed_from=loop.resumed_from,
        precision=loop.precision.name,
        device=str(loop.precision.device),
        examples=progress.examples,
        tokens=progress.tokens,
        padded=progress.padded,
        seconds=round(progress.seconds, 3),
        skipped=progress.skipped,
        micro_batch_parts=progress.micro_batch_parts,
        weights_sha256=digest,
        groups=loop.approach.recipe.rows(),
        ended=progress.ended,
        units=str(decision_facts(task.config, progress.best_scores, loop.objective).get("units", "")),
    )
    write_json(task.run.outcome, asdict(outcome))
    return outcome


def device_of(task: Task) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if task.gpu else torch.device("cpu")


def places_of(data: Prepared, row_ids: list[int]) -> list[str]:
    """file:line of training rows, in the order of `row_ids`."""
    found = {row["row_id"]: f"{row['source']}:{row['line']}" for row in data.part("train").to_pylist()}
    return [found.get(row_id, f"row_id {row_id}") for row_id in row_ids]

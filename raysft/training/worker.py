"""What one Ray Train worker does: build the model, run the loop, write the artifact. Imports Ray nowhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config import JobConfig
from raysft.config.sections import LANGUAGE_TASKS
from raysft.corpus.tokens import TokenizedRows
from raysft.errors import RaysftError, TrainingFailed
from raysft.model.attention import FLASH
from raysft.model.classifier import quiet_transformers
from raysft.model.language import head_facts, keep_pooling
from raysft.model.lora import merge_adapters
from raysft.model.quantize import dequantized, is_quantized, without_quantizing
from raysft.plan.plan import choose_micro_tokens
from raysft.preparation.prepared import Prepared
from raysft.storage.commit import committed_folder, write_json, writing
from raysft.storage.layout import RunFolder
from raysft.storage.lease import lease
from raysft.storage.pretrained import LOCAL, Base, resolve_base
from raysft.training import checkpoint, ranks
from raysft.training.language import language_probe
from raysft.training.lessons import lesson_of
from raysft.training.loop import Loop
from raysft.training.objective import padded
from raysft.training.parallel import is_sharded
from raysft.training.precision import Precision, choose
from raysft.training.tasks import build_model, build_objective, decision_facts
from raysft.training.tracking import open_tracking

PROBE_ROWS = 32


@dataclass(frozen=True)
class Task:
    """All that a worker needs; travels to it by pickle."""

    config: JobConfig
    job_folder: Path
    base: Base
    data: Prepared
    run: RunFolder
    micro_batch: int
    threads: int
    gpu: bool
    strategy: str = "ddp"  # ddp | fsdp


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


def run_worker(task: Task) -> Outcome | RaysftError:
    """Train in this process, one of the ranks. Errors meant for people are returned, so that nothing retries them."""
    try:
        with writing(task.run.path), ExitStack() as held:
            precision = choose(task.config.train.precision, _device(task))
            make_loop, base = ranks.all_or_none(lambda: _prepare_loop(task, held, precision))
            return _train(task, make_loop(), base)
    except RaysftError as error:
        return error


def _prepare_loop(task: Task, held: ExitStack, precision: Precision) -> tuple[Callable[[], Loop], Base]:
    """Everything that can fail on one rank alone; rank 0 becomes the run's only writer. The loop itself is made by all
    ranks together."""
    config, settings = task.config, task.config.train
    if ranks.rank() == 0:
        held.enter_context(lease(task.run.checkpoints / ".writer", f"run {config.name}", wait_s=60))
    # Ray's CPUs are logical and may be more than there are; more threads than cores fight each other.
    torch.set_num_threads(max(1, min(task.threads, len(os.sched_getaffinity(0)))))
    # A folder as the driver found it: here a job file's own output would be looked for somewhere else.
    name = str(task.base.folder) if task.base.revision == LOCAL else config.model.base
    base = resolve_base(name, config.model.revision, task.job_folder)
    if base.weights_sha256 != task.base.weights_sha256:
        raise TrainingFailed(
            f"model.base: this node holds other weights ({base.weights_sha256[:12]}) than the driver "
            f"({task.base.weights_sha256[:12]})",
            "Pin model.revision, or put the same folder on every node.",
        )
    model = build_model(config, base, task.data.labels)
    lesson = lesson_of(config.task, base.folder, model) if config.task in LANGUAGE_TASKS else None
    train, validation = task.data.tokens("train"), task.data.tokens("validation")
    make_loop = partial(
        Loop,
        model=model,
        objective=build_objective(config, task.data.labels, train, validation, pad_id(model), precision.device, lesson),
        settings=settings,
        micro_batch=task.micro_batch,
        train=train,
        precision=precision,
        checkpoints=task.run.checkpoints,
        metrics=task.run.metrics,
        model_settings=config.model,
        places=lambda row_ids: places_of(task.data, row_ids),
        micro_tokens=choose_micro_tokens(config, task.gpu),
        tracking=open_tracking(settings.track if ranks.rank() == 0 else (), task.run, config.name),
        strategy=task.strategy,
    )
    return make_loop, base


def _train(task: Task, loop: Loop, base: Base) -> Outcome:
    """Run the loop, write the artifact, say how it ended."""
    ranks.on_first_rank(lambda: write_json(task.run.groups, loop.approach.recipe.rows()))
    with loop.precision.training():
        progress = loop.run()
    loop.tracking.close()
    digest = ranks.on_first_rank(lambda: _write_artifact(task, base, loop))
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
    )
    ranks.on_first_rank(lambda: write_json(task.run.outcome, asdict(outcome)))
    return outcome


def pad_id(model: nn.Module) -> int:
    """The padding token; masked positions may hold any id, so 0 serves where none is named."""
    found = getattr(model.config, "pad_token_id", None)
    return int(found) if found is not None else 0


def _device(task: Task) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if task.gpu else torch.device("cpu")


def places_of(data: Prepared, row_ids: list[int]) -> list[str]:
    """file:line of training rows, in the order of `row_ids`."""
    found = {row["row_id"]: f"{row['source']}:{row['line']}" for row in data.part("train").to_pylist()}
    return [found.get(row_id, f"row_id {row_id}") for row_id in row_ids]


def _write_artifact(task: Task, base: Base, loop: Loop) -> str:
    """The best checkpoint as a plain Hugging Face folder, and a probe that its reload must reproduce."""
    from transformers import AutoTokenizer

    quiet_transformers()
    path = checkpoint.at_step(task.run.checkpoints, loop.progress.best_step)
    if is_sharded(loop.model) or task.config.model.attention == FLASH:
        # This rank alone, with the memory of the CPU: no device need hold the whole model. The artifact's users compute
        # in float32, which flash attention does not.
        settings = task.config.model.model_copy(update={"attention": "auto"})
        config = task.config.model_copy(update={"model": settings})
        loop.model, loop.device = build_model(config, base, task.data.labels), torch.device("cpu")
    checkpoint.load_best(path, loop.model)
    if is_quantized(loop.model):
        config = task.config.model_copy(update={"model": without_quantizing(task.config.model)})
        whole = build_model(config, base, task.data.labels)
        loop.model, loop.device = dequantized(loop.model, whole), torch.device("cpu")
    merge_adapters(loop.model)
    model = loop.model.eval()
    with writing(task.run.model), committed_folder(task.run.model) as folder:
        model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
        tokenizer = AutoTokenizer.from_pretrained(base.folder)
        tokenizer.model_max_length = task.config.model.max_length
        tokenizer.save_pretrained(folder)
        _normal_truncation(folder / "tokenizer.json", task.config.model.max_length)
        keep_pooling(task.config.task, base, folder)
        write_json(folder / "raysft.json", _provenance(task, loop))
    write_json(task.run.probe, _probe(task, loop))
    return ranks.weights_digest(model)


def _normal_truncation(path: Path, max_length: int) -> None:
    """The base's own padding and truncation would follow the tokenizer silently; state ours."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    tokenizer.save(str(path))


def _provenance(task: Task, loop: Loop) -> dict[str, Any]:
    return {
        "name": task.config.name,
        "task": task.config.task,
        "base": task.base.name,
        "base_revision": task.base.revision,
        "base_sha256": task.base.weights_sha256,
        "data": task.data.digest,
        "step": loop.progress.best_step,
        "max_length": task.config.model.max_length,
        **decision_facts(task.config, task.run.metrics, loop.progress.best_step),
        **head_facts(task.config.task, task.base, loop.model),
        "job": json.loads(task.config.model_dump_json()),
    }


def _probe(task: Task, loop: Loop) -> dict[str, Any]:
    """Open rows only: the probe must not touch the sealed test part."""
    if task.config.task in LANGUAGE_TASKS:
        return language_probe(task.config.task, loop.model, loop.train, task.data.part("train"), loop.device)
    rows: TokenizedRows = loop.train.select(np.arange(min(PROBE_ROWS, len(loop.train))))
    logits = predict_logits_alone(loop.model, rows, loop.device)
    wanted = set(rows.row_id.tolist())
    texts = {row["row_id"]: row["text"] for row in task.data.part("train").to_pylist() if row["row_id"] in wanted}
    return {"texts": [texts[row] for row in rows.row_id.tolist()], "logits": logits.tolist()}


def predict_logits_alone(model: nn.Module, rows: TokenizedRows, device: torch.device) -> np.ndarray[Any, Any]:
    """Float32 logits computed by this rank only, in one batch as the reload check computes them."""
    ids, mask = padded(rows, np.arange(len(rows)), pad_id(model))
    with torch.inference_mode():
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    return np.asarray(logits.float().cpu().numpy())

"""What one Ray Train worker does: build the model, run the loop, write the artifact. Imports Ray nowhere."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config import JobConfig
from raysft.corpus.tokens import TokenizedRows
from raysft.errors import RaysftError, TrainingFailed
from raysft.model.classifier import build_classifier, quiet_transformers
from raysft.preparation.prepared import Prepared
from raysft.storage.commit import committed_folder, write_json, writing
from raysft.storage.layout import RunFolder
from raysft.storage.lease import lease
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import checkpoint, ranks
from raysft.training.classification import Classification
from raysft.training.loop import Loop
from raysft.training.objective import padded
from raysft.training.precision import Precision, supports_bf16

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
    weights_sha256: str
    groups: list[dict[str, Any]]


def run_worker(task: Task) -> Outcome | RaysftError:
    """Train in this process, one of the ranks. Errors meant for people are returned, so that nothing retries them."""
    try:
        with writing(task.run.path), ExitStack() as held:
            loop, base = ranks.all_or_none(lambda: _make_loop(task, held))
            return _train(task, loop, base)
    except RaysftError as error:
        return error


def _make_loop(task: Task, held: ExitStack) -> tuple[Loop, Base]:
    """Everything that can fail on one rank alone; rank 0 becomes the run's only writer."""
    config, settings = task.config, task.config.train
    if ranks.rank() == 0:
        held.enter_context(lease(task.run.checkpoints / ".writer", f"run {config.name}", wait_s=60))
    # Ray's CPUs are logical and may be more than there are; more threads than cores fight each other.
    torch.set_num_threads(max(1, min(task.threads, len(os.sched_getaffinity(0)))))
    device = torch.device("cuda", torch.cuda.current_device()) if task.gpu else torch.device("cpu")
    base = resolve_base(config.model.base, config.model.revision, task.job_folder)
    if base.weights_sha256 != task.base.weights_sha256:
        raise TrainingFailed(
            f"model.base: this node holds other weights ({base.weights_sha256[:12]}) than the driver "
            f"({task.base.weights_sha256[:12]})",
            "Pin model.revision, or put the same folder on every node.",
        )
    model = build_classifier(base, config.model, task.data.labels, settings.seed)
    train, validation = task.data.tokens("train"), task.data.tokens("validation")
    loop = Loop(
        model=model,
        objective=Classification(train, validation, settings, pad_id(model), device),
        settings=settings,
        micro_batch=task.micro_batch,
        train=train,
        precision=Precision.plain(device),
        checkpoints=task.run.checkpoints,
        metrics=task.run.metrics,
    )
    return loop, base


def _train(task: Task, loop: Loop, base: Base) -> Outcome:
    """Run the loop, write the artifact, say how it ended."""
    loop.precision = Precision(_precision(task.config.train.precision, loop.device), loop.device)
    progress = loop.run()
    digest = ranks.on_first_rank(lambda: _write_artifact(task, base, loop))
    outcome = Outcome(
        best_step=progress.best_step,
        last_step=progress.step,
        resumed_from=loop.resumed_from,
        precision=loop.precision.name,
        device=str(loop.device),
        examples=progress.examples,
        tokens=progress.tokens,
        padded=progress.padded,
        seconds=round(progress.seconds, 3),
        weights_sha256=digest,
        groups=[
            {
                "group": g.name,
                "parameters": g.size,
                "learning_rate": g.learning_rate,
                "weight_decay": g.weight_decay,
            }
            for g in loop.groups
        ],
    )
    ranks.on_first_rank(lambda: write_json(task.run.outcome, asdict(outcome)))
    return outcome


def pad_id(model: nn.Module) -> int:
    """The padding token; masked positions may hold any id, so 0 serves where none is named."""
    found = getattr(model.config, "pad_token_id", None)
    return int(found) if found is not None else 0


def _precision(asked: str, device: torch.device) -> str:
    """bf16 only when every rank's hardware has it, so that all ranks compute alike."""
    if asked != "auto":
        return asked
    return "bf16" if all(ranks.gather(supports_bf16(device))) else "fp32"


def _write_artifact(task: Task, base: Base, loop: Loop) -> str:
    """The best checkpoint as a plain Hugging Face folder, and a probe that its reload must reproduce."""
    from transformers import AutoTokenizer

    quiet_transformers()
    path = checkpoint.at_step(task.run.checkpoints, loop.progress.best_step)
    checkpoint.load_weights(path, loop.model)
    model = loop.model.eval()
    with writing(task.run.model), committed_folder(task.run.model) as folder:
        model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
        tokenizer = AutoTokenizer.from_pretrained(base.folder)
        tokenizer.model_max_length = task.config.model.max_length
        tokenizer.save_pretrained(folder)
        _normal_truncation(folder / "tokenizer.json", task.config.model.max_length)
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
        "job": json.loads(task.config.model_dump_json()),
    }


def _probe(task: Task, loop: Loop) -> dict[str, Any]:
    """Open rows only: the probe must not touch the sealed test part."""
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

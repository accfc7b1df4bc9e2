"""All that is refused before anything starts: one list for `raysft check` and `raysft train`, so that they agree."""

from __future__ import annotations

import os
from collections.abc import Mapping

from raysft.config import Job
from raysft.corpus.template import template_of
from raysft.errors import NoCapacity
from raysft.plan.approach import planned_groups, refuse_quantized
from raysft.plan.language import refuse_for_entities, refuse_labels_only, refuse_packing
from raysft.plan.machine import Machine
from raysft.plan.plan import Plan, too_many_workers
from raysft.plan.precision import refuse_precision
from raysft.plan.settings import refuse_dropout, refuse_optimizer, refuse_settings
from raysft.plan.sharing import refuse_sharing
from raysft.plan.words import refuse_words
from raysft.storage.pretrained import Base


def refuse_early(job: Job, base: Base) -> None:
    """Raise JobFileError for what the job file and the base alone make impossible."""
    refuse_labels_only(job)
    refuse_for_entities(job)
    refuse_packing(job)
    refuse_words(job, base)
    _refuse_means(job)
    _refuse_too_long(job, base)
    _refuse_endless(job, base)
    refuse_settings(job)
    planned_groups(job, base, 2)  # for what it refuses, which no number of labels changes


def refuse_on(job: Job, gpu: bool) -> None:
    """Raise JobFileError for what the devices make impossible. gpu: whether GPUs are, or may be, used."""
    if reason := too_many_workers(job.config, gpu):
        raise job.problem("train.workers", reason)
    refuse_precision(job, gpu)
    refuse_sharing(job, gpu)
    refuse_optimizer(job, gpu)
    refuse_quantized(job, gpu)
    refuse_dropout(job, gpu)


def refuse_on_parts(job: Job, rows: Mapping[str, int]) -> None:
    """Raise JobFileError for what the parts make impossible. rows: of each part, once they are known."""
    if job.config.train.stop_after is not None and not rows["validation"]:
        raise job.problem(
            "train.stop_after",
            "needs validation rows to tell whether an epoch was better, and there are none; leave it out, set folds.k "
            "or data.validation, or mark some rows in the column data.split",
        )


def refuse_too_large(plan: Plan, machine: Machine, gpu: bool) -> None:
    """Raise NoCapacity where a worker needs more memory than this machine has.

    Of GPUs and of other machines nothing is known here, and an estimate that is too high refuses nothing.
    """
    if gpu or elsewhere() or plan.memory_at_most or plan.memory_bytes <= machine.memory_bytes:
        return
    raise NoCapacity(
        f"a worker needs about {plan.memory_bytes / 2**30:.1f} GiB ({plan.why['memory_bytes']}); "
        f"this machine has {machine.memory_bytes / 2**30:.1f} GiB",
        "Use a smaller train.micro_batch or train.activation_checkpointing: true; or model.lora, a smaller model.base "
        "or model.max_length, which make another run (--set name=NAME where this one was begun).",
    )


def elsewhere() -> bool:
    """Whether workers may stand on other machines than this one."""
    return "RAY_ADDRESS" in os.environ


def _refuse_means(job: Job) -> None:
    """Means are of labels of which each text has one."""
    config = job.config
    if config.model.head_start != "means":
        return
    if config.task != "classification" or config.labels_are_words or config.data.multi_label:
        raise job.problem("model.head_start", "means needs one label of a head for each text; use random")
    if config.train.strategy == "fsdp":
        raise job.problem("model.head_start", "means needs a whole head, which train.strategy fsdp shares out; use ddp")


def _refuse_endless(job: Job, base: Base) -> None:
    """An answer needs a mark at which it ends."""
    if job.config.language_task == "generation" and not template_of(base.folder).closing.strip():
        raise job.problem(
            "model.base",
            f"nothing says where an answer of {base.name} ends: it has no chat template that writes a mark there, and "
            "its tokenizer names no eos_token; name one in tokenizer_config.json, or use another base",
        )


def _refuse_too_long(job: Job, base: Base) -> None:
    """A text, and a prompt with its answer, must fit into the positions the base was built with."""
    positions = base.config.get("max_position_embeddings", base.config.get("n_positions"))  # as GPT-2 calls it
    longest = job.config.model.max_length
    if isinstance(positions, int) and 0 < positions < longest:
        raise job.problem("model.max_length", f"at most {positions} for {base.name}, found {longest}")
    written = job.config.generation.max_new_tokens
    if job.config.task == "generation" and isinstance(positions, int) and 0 < positions <= written:
        raise job.problem(
            "generation.max_new_tokens",
            f"at most {positions - 1} for {base.name}, whose positions hold a prompt and its answer; found {written}",
        )

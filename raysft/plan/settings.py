"""Settings of `train` that cannot take effect, said before anything is read."""

from __future__ import annotations

from importlib.util import find_spec

from raysft.config import Job
from raysft.config.sections import TrainSection
from raysft.metrics.measures import measures_of

# train.track and train.optimizer: the package that each needs, and the extra that brings it.
TRACKERS = {"tensorboard": ("tensorboard", "tensorboard"), "mlflow": ("mlflow", "mlflow")}
EIGHT_BIT = ("bitsandbytes", "bits")
MASK_LEVELS = 256  # of a dropout rate on CPU; as in training/dropout.py, which is not loaded before a run


def refuse_settings(job: Job) -> None:
    """Raise JobFileError for what no device and no data could mend."""
    _refuse_schedule(job)
    _refuse_select(job)
    _refuse_stop_after(job)
    _refuse_unused(job)
    for name in job.config.train.track:
        _require_package(job, "train.track", name, *TRACKERS[name])


def refuse_optimizer(job: Job, gpu: bool) -> None:
    """Raise JobFileError when train.optimizer cannot take effect on the devices that training will use."""
    train = job.config.train
    if train.optimizer != "adamw_8bit":
        return
    if not gpu:
        raise job.problem(
            "train.optimizer",
            "adamw_8bit needs a GPU and training runs on a CPU; use adamw, or adafactor, which keeps little state too",
        )
    _require_package(job, "train.optimizer", train.optimizer, *EIGHT_BIT)


def refuse_dropout(job: Job, gpu: bool) -> None:
    """Raise JobFileError for a dropout rate that masks on CPU, which drop in steps of 1/256, would turn into none or
    all."""
    model = job.config.model
    for key, rate in (("model.dropout", model.dropout), ("model.lora.dropout", model.lora and model.lora.dropout)):
        if gpu or not rate:
            continue
        if (steps := round(rate * MASK_LEVELS)) in {0, MASK_LEVELS}:
            raise job.problem(
                key,
                f"on CPU dropout rates are multiples of 1/{MASK_LEVELS}, and {rate} would be {steps // MASK_LEVELS}; "
                f"use 0, or {1 / MASK_LEVELS:.4f} to {1 - 1 / MASK_LEVELS:.4f}",
            )


def _require_package(job: Job, key: str, setting: str, package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise job.problem(
            key, f"{setting} needs the package {package}, which is not installed: pip install 'raysft[{extra}]'"
        )


def _refuse_schedule(job: Job) -> None:
    train = job.config.train
    if train.schedule == "wsd" and train.warmup + train.decay > 1:
        raise job.problem(
            "train.decay", f"warm-up ({train.warmup}) and decay ({train.decay}) are more than all steps; shorten one"
        )
    if train.schedule != "wsd" and train.decay != TrainSection.model_fields["decay"].default:
        raise job.problem("train.decay", f"only train.schedule wsd has a decay, found {train.schedule}; leave it out")


def _refuse_unused(job: Job) -> None:
    train = job.config.train
    # By value, not by whether it was written: the job file that a run leaves behind writes every default out.
    if train.loss != "focal" and train.focal_gamma != TrainSection.model_fields["focal_gamma"].default:
        raise job.problem("train.focal_gamma", "belongs to train.loss: focal; set that too, or leave it out")
    if train.batch_tokens is not None and "batch_size" in train.model_fields_set:
        raise job.problem(
            "train.batch_size",
            "has no effect beside train.batch_tokens, which makes batches by their positions; remove one of the two",
        )


def _refuse_select(job: Job) -> None:
    known, name = measures_of(job.config), job.config.train.select
    if name not in known:
        raise job.problem("train.select", f"this job measures {', '.join(known)}; found {name}")


def _refuse_stop_after(job: Job) -> None:
    train = job.config.train
    if train.stop_after is None:
        return
    # With data.split the rows say whether there is such a part: see refuse_on_parts.
    data = job.config.data
    if job.config.folds.k == 0 and data.validation is None and data.split is None:
        raise job.problem(
            "train.stop_after",
            "needs a validation part to tell whether an epoch was better; set folds.k, data.validation or data.split",
        )
    if train.stop_after >= train.epochs:
        raise job.problem(
            "train.stop_after",
            f"must be below train.epochs ({train.epochs}) to stop anything, found {train.stop_after}",
        )

"""Settings of `train` that cannot take effect, said before anything is read."""

from __future__ import annotations

from importlib.util import find_spec

from raysft.config import Job
from raysft.config.sections import TrainSection
from raysft.metrics.measures import measures_of

# train.track and train.optimizer: the package that each needs, and the extra that brings it.
TRACKERS = {"tensorboard": ("tensorboard", "tensorboard"), "mlflow": ("mlflow", "mlflow")}
EIGHT_BIT = ("bitsandbytes", "bits")


def refuse_settings(job: Job) -> None:
    """Raise JobFileError for what no device and no data could mend."""
    _refuse_schedule(job)
    _refuse_select(job)
    _refuse_stop_after(job)
    for name in job.config.train.track:
        _require_package(job, "train.track", name, *TRACKERS[name])


def refuse_optimizer(job: Job, gpu: bool) -> None:
    """Raise JobFileError when train.optimizer cannot take effect on the devices that training will use."""
    train = job.config.train
    if train.optimizer != "adamw" and train.strategy == "fsdp":
        raise job.problem(
            "train.optimizer",
            f"{train.optimizer} needs whole tensors and train.strategy fsdp cuts them up; use adamw, or strategy ddp",
        )
    if train.optimizer != "adamw_8bit":
        return
    if not gpu:
        raise job.problem(
            "train.optimizer",
            "adamw_8bit needs a GPU and training runs on a CPU; use adamw, or adafactor, which keeps little state too",
        )
    _require_package(job, "train.optimizer", train.optimizer, *EIGHT_BIT)


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


def _refuse_select(job: Job) -> None:
    known, name = measures_of(job.config), job.config.train.select
    if name not in known:
        raise job.problem("train.select", f"this job measures {', '.join(known)}; found {name}")


def _refuse_stop_after(job: Job) -> None:
    train = job.config.train
    if train.stop_after is None:
        return
    if job.config.folds.k == 0 and job.config.data.validation is None:
        raise job.problem(
            "train.stop_after",
            "needs a validation part to tell whether an epoch was better; set folds.k or data.validation",
        )
    if train.stop_after >= train.epochs:
        raise job.problem(
            "train.stop_after",
            f"must be below train.epochs ({train.epochs}) to stop anything, found {train.stop_after}",
        )

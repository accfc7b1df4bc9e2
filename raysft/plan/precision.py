"""Which train.precision a processor cannot give, known without torch, so that `raysft check` can say it."""

from __future__ import annotations

import os
from pathlib import Path

from raysft.config import Job

FP16_FLAGS = ("avx512_fp16", "amx_fp16")  # as Linux names what a processor has
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
GPU_DEVICES = ("nvidia[0-9]*", "kfd", "dxg")  # below /dev: NVIDIA, AMD, WSL


def no_effect(asked: str, gpu: bool) -> str:
    """Why `asked` cannot take effect on a GPU, or on this machine's CPU; "" when it can."""
    if gpu or asked not in {"fp16", "tf32"}:
        return ""
    if asked == "tf32":
        return "tf32 is arithmetic of GPUs and training runs on a CPU; use auto, bf16 or fp32"
    if not any(flag in _cpu_flags() for flag in FP16_FLAGS):
        return f"this processor has no float16 arithmetic ({' or '.join(FP16_FLAGS)}); use auto, bf16 or fp32"
    return ""


def cpu_has_bf16() -> bool:
    """Whether this machine's CPU has bf16 arithmetic; emulated bf16 is slower than float32."""
    return any(flag in _cpu_flags() for flag in BF16_FLAGS)


def refuse_precision(job: Job, gpu: bool) -> None:
    """Raise JobFileError when train.precision cannot take effect on the devices that training will use."""
    reason = no_effect(job.config.train.precision, gpu)
    if reason:
        raise job.problem("train.precision", reason)


def may_use_gpu(device: str) -> bool:
    """Whether train.device may end on a GPU: one of this machine, or of the cluster that RAY_ADDRESS names."""
    here = any(next(Path("/dev").glob(name), None) for name in GPU_DEVICES)
    return device == "gpu" or (device == "auto" and (here or "RAY_ADDRESS" in os.environ))


def _cpu_flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()

"""Mixed precision: which arithmetic the matrix products of a run use; weights, losses and sums are float32 always.

bf16 and fp16 are torch's autocast (Micikevicius et al. 2018, arXiv 1710.03740); fp16 needs training/scaler.py as well.
tf32 rounds the factors of float32 products to 10 bits of mantissa, in the tensor cores of NVIDIA GPUs since Ampere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from raysft.errors import UsageError
from raysft.plan.precision import cpu_has_bf16, no_effect
from raysft.training import ranks

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TF32_SINCE = 8  # compute capability


@dataclass(frozen=True)
class Precision:
    """How one run computes on one kind of device."""

    name: str  # bf16 | fp16 | fp32 | tf32
    device: torch.device

    @staticmethod
    def plain(device: torch.device) -> Precision:
        return Precision("fp32", device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the factors of matrix products."""
        return HALVES.get(self.name, torch.float32)

    def forward(self) -> AbstractContextManager[object]:
        """The context of every forward pass."""
        if self.name in HALVES:
            return torch.autocast(self.device.type, dtype=self.dtype)
        return nullcontext()

    @contextmanager
    def training(self) -> Iterator[None]:
        """The context of a whole training: tf32 is a switch of the process, and backward passes need it too."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.name == "tf32" else before)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def choose(asked: str, device: torch.device, begun: str = "") -> Precision:
    """The precision of a run, the same on every rank; called by all of them together.

    auto: what the run was begun in; in a new one bf16 where every rank's hardware has instructions for it, else fp16 on
    GPUs, else fp32. So a run that goes on elsewhere computes as it did, if need be slower (bf16 by emulation).
    Raises UsageError where that cannot take effect on some rank.
    """
    if asked == "auto" and not begun:
        return Precision(_best(device), device)
    name = begun if asked == "auto" else asked
    reasons = [reason for reason in ranks.gather(_no_effect(name, device)) if reason]
    if reasons and asked == "auto":
        raise UsageError(
            f"train.precision: this run was begun in {name}, but {reasons[0].partition(';')[0]}",
            "Go on where there is what it was begun on, or begin another: --set name=NAME.",
        )
    if reasons:
        raise UsageError(f"train.precision: {reasons[0]}", "Use --set train.precision=auto.")
    return Precision(name, device)


def _best(device: torch.device) -> str:
    if all(ranks.gather(supports_bf16(device))):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def _no_effect(asked: str, device: torch.device) -> str:
    if asked == "tf32" and device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < TF32_SINCE:
        return f"tf32 needs a GPU of the Ampere generation or newer, found {torch.cuda.get_device_name(device)}"
    return no_effect(asked, gpu=device.type == "cuda")


def supports_bf16(device: torch.device) -> bool:
    """Whether this device has bf16 arithmetic of its own."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_bf16()

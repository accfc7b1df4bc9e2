"""Mixed precision: bf16 autocast where the hardware computes it; weights, losses and sums are float32 always."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """How forward passes are computed on one kind of device."""

    name: str  # bf16 | fp32
    device: torch.device

    @staticmethod
    def plain(device: torch.device) -> Precision:
        return Precision("fp32", device)

    def forward(self) -> AbstractContextManager[object]:
        """The context of every forward pass."""
        if self.name == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def supports_bf16(device: torch.device) -> bool:
    """Whether this processor has bf16 matrix instructions; emulated bf16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

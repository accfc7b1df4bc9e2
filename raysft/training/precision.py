"""Mixed precision: bf16 autocast where the hardware computes it, float32 weights and losses always."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def supports_bf16(device: torch.device) -> bool:
    """Whether this processor has bf16 matrix instructions; emulated bf16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context of every forward pass."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()

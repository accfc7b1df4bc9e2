"""How attention is computed: torch's fused kernels (sdpa), plain products (eager) or FlashAttention 2 (Dao 2023)."""

from __future__ import annotations

from typing import Any

import torch

from raysft.errors import UsageError

FLASH = "flash_attention_2"


def implementation(asked: str) -> str | None:
    """What transformers is asked for. None, with auto: sdpa where the architecture has it, else eager.

    Raises UsageError where FlashAttention 2 is asked for and not installed, or there is no GPU for it.
    """
    if asked == "auto":
        return None
    if asked == FLASH:
        _require_flash()
    return asked


def leave_out_cudnn() -> None:
    """Take cuDNN's kernels out of those that torch chooses from for sdpa, in this process; FlashAttention 2 is left.

    cuDNN plans anew for each shape, and batches of texts have hundreds: on an H200 its backward pass kept the host 4 ms
    a layer, more than all else of a step of Llama 1B together (112 calls took 457 ms of the host, 27 ms of the GPU).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def in_full_on_cpus() -> None:
    """Let sdpa compute in float32 on CPUs, whatever the precision of the products around it, in this process.

    torch's fused kernel for CPUs is made for float32: in bf16 its backward pass took 28 ms a layer for 16 texts of 20
    tokens where float32 took 1.4 ms, and 54 where it took 28 for 4 texts of 400 (12 heads of 32, one core of a CPU with
    AMX, torch 2.13). Attention itself is a small part of the products.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    fused = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if getattr(fused, "in_full", False):
        return

    def in_full(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **more: Any
    ) -> Any:
        if query.device.type != "cpu" or query.dtype not in (torch.bfloat16, torch.float16):
            return fused(module, query, key, value, mask, **more)
        added = mask is not None and mask.is_floating_point()
        with torch.autocast("cpu", enabled=False):
            output, weights = fused(
                module, query.float(), key.float(), value.float(), mask.float() if added else mask, **more
            )
        return output.to(query.dtype), weights

    in_full.in_full = True  # type: ignore[attr-defined]
    ALL_ATTENTION_FUNCTIONS.register("sdpa", in_full)


def _require_flash() -> None:
    from transformers.utils import is_flash_attn_2_available

    if not is_flash_attn_2_available():
        raise UsageError(
            "model.attention: flash_attention_2 needs an NVIDIA GPU and the package flash-attn on every worker",
            "Install it with: pip install flash-attn --no-build-isolation; or use model.attention: auto.",
        )

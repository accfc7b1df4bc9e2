"""How attention is computed: torch's fused kernels (sdpa), plain products (eager) or FlashAttention 2 (Dao 2023)."""

from __future__ import annotations

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


def _require_flash() -> None:
    from transformers.utils import is_flash_attn_2_available

    if not is_flash_attn_2_available():
        raise UsageError(
            "model.attention: flash_attention_2 needs an NVIDIA GPU and the package flash-attn on every worker",
            "Install it with: pip install flash-attn --no-build-isolation; or use model.attention: auto.",
        )

"""Llama-shaped models with random weights, rows of random tokens, and what training on them takes by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}  # dense bf16 operations a second, SXM; NVIDIA's data sheets
SEED, RANK = 7, 16
SHORTEST = 16  # tokens of a row


@dataclass(frozen=True)
class Size:
    """A model's shape, and how it is trained: rows of a forward pass and of a step, recomputed activations or not."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    tied: bool
    tokens: int
    micro: int
    batch: int
    checkpointing: bool

    @property
    def matrices(self) -> int:
        """Parameters in matrix products: the layers' and the output's; embeddings are looked up."""
        head = self.hidden // self.heads
        attention = self.hidden * head * (2 * self.heads + 2 * self.key_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner) + self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.matrices + (0 if self.tied else self.vocabulary * self.hidden)

    def work(self, method: str, tokens: int, squares: int) -> float:
        """Operations of training on rows of so many tokens, and squared tokens, in all.

        PaLM, arXiv 2204.02311, appendix B: 6 N + 12 L H Q T a token. Of the 6, 2 are the gradient of the parameter,
        which a frozen one does not have; adapters are too small to count.
        """
        return self.matrices * (6.0 if method == "full" else 4.0) * tokens + 12.0 * self.layers * self.hidden * squares


SIZES = {
    "tiny": Size(512, 64, 2, 4, 2, 128, True, 128, 4, 8, False),
    "1b": Size(128_256, 2048, 16, 32, 8, 8192, True, 2048, 4, 64, False),  # as Llama 3.2 1B
    "8b": Size(128_256, 4096, 32, 32, 8, 14_336, False, 2048, 4, 16, True),  # as Llama 3.1 8B
}


def build(size: Size, method: str, device: torch.device) -> Any:
    """The model, made on the device; the same in every process on the same kind of device.

    full: float32. lora: a bf16 base with float32 adapters at all linear layers but the output, as a PeftModel.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_heads,
        intermediate_size=size.inner,
        tie_word_embeddings=size.tied,
        max_position_embeddings=8192,
        use_cache=False,
    )
    torch.manual_seed(SEED)
    dtype = torch.float32 if method == "full" else torch.bfloat16
    with device:
        model = LlamaForCausalLM._from_config(config, dtype=dtype)
    if method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"))


def draw_rows(size: Size, tokens: int, count: int) -> list[list[int]]:
    """Token ids of each row. Lengths are log-normal, skewed as chat corpora are: median tokens / 5, sigma 0.8, cut."""
    draw = np.random.default_rng(SEED)
    lengths = np.exp(draw.normal(np.log(tokens / 5), 0.8, count)).clip(min(SHORTEST, tokens), tokens).astype(int)
    return [draw.integers(1, size.vocabulary, length).tolist() for length in lengths]


def too_large(size: Size, method: str, device: torch.device) -> str:
    """Why the weights, and what an optimizer keeps beside them, do not fit this GPU; "" when they do."""
    import torch

    if device.type != "cuda":
        return ""
    needed = size.parameters * (16 if method == "full" else 2)  # full: weights, gradients, two moments, 4 bytes each
    there = torch.cuda.get_device_properties(device).total_memory
    if needed <= there:
        return ""
    return f"left out: {needed / 2**30:.0f} GiB before activations, the GPU has {there / 2**30:.0f} GiB"


def peak_of(gpu: str) -> float:
    """Dense bf16 operations a second of a GPU by its name."""
    known = [peak for name, peak in PEAKS.items() if name in gpu and "PCIe" not in gpu]
    if not known:
        raise SystemExit(f"the peak of {gpu} is not in the table; give its dense bf16 operations a second as --peak")
    return known[0]

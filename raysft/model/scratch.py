"""A model as `model.init` describes it, from random weights, written as the folder that any base is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysft.config.model import InitSection

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
STEP = 64  # to multiples of which a width is rounded up


def inner_width(init: InitSection) -> int:
    """Width within the feed-forward layers. Llama has three matrices there where others have two."""
    if init.inner is not None:
        return init.inner
    if init.architecture != "llama":
        return 4 * init.hidden
    return -(-8 * init.hidden // (3 * STEP)) * STEP


def model_config(init: InitSection, positions: int, vocabulary: int, ids: Mapping[str, int]) -> Any:
    """The config of transformers. vocabulary: tokens; ids: of special tokens, by the names in IDS."""
    from transformers import BertConfig, GPT2Config, LlamaConfig

    # Without the tokenizer's own, transformers would put in those of the model that it takes for the usual one.
    shared: dict[str, Any] = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": init.tied,
        **{name: ids.get(name) for name in IDS},
    }
    if init.architecture == "gpt2":
        return GPT2Config(
            n_embd=init.hidden,
            n_layer=init.layers,
            n_head=init.heads,
            n_inner=inner_width(init),
            n_positions=positions,
            **shared,
        )
    kind = LlamaConfig if init.architecture == "llama" else BertConfig
    return kind(
        hidden_size=init.hidden,
        num_hidden_layers=init.layers,
        num_attention_heads=init.heads,
        intermediate_size=inner_width(init),
        max_position_embeddings=positions,
        **shared,
    )


def write_model(folder: Path, config: Any, seed: int) -> int:
    """config.json and model.safetensors in float32: the same bytes for the same seed. Returns the parameters.

    The generator of this process is left as it was.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    from raysft.model.classifier import quiet_transformers

    quiet_transformers()
    kind: Any = AutoModelForMaskedLM if config.model_type == "bert" else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder, safe_serialization=True)
    return sum(parameter.numel() for parameter in model.parameters())

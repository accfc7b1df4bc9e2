"""Folders of small causal language models that answer conversations: random ones, and one that says what it is told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from raysft.storage.commit import write_json
from tests.support.tokenizers import write_bytes_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def asked(*contents: str) -> list[dict[str, str]]:
    """Turns of user and assistant in turn, beginning with the user."""
    return [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(contents)]


def write_chat_model(
    folder: Path,
    kind: str = "llama",
    positions: int = 256,
    template: str | None = CHATML,
    seed: int = 0,
    facts: dict[str, Any] | None = None,
) -> Path:
    """A model of random weights; kind: llama | gpt2. Its tokenizer is of bytes and knows the marks of ChatML."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    tokens = write_chat_tokenizer(folder, template, facts)
    torch.manual_seed(seed)
    if kind == "gpt2":
        config: Any = GPT2Config(
            vocab_size=tokens, n_positions=positions, n_embd=32, n_layer=2, n_head=2, bos_token_id=None,
            eos_token_id=None, initializer_range=0.3,
        )  # fmt: skip
        GPT2LMHeadModel(config).save_pretrained(folder)
    else:
        config = LlamaConfig(
            vocab_size=tokens, max_position_embeddings=positions, hidden_size=32, intermediate_size=48,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, bos_token_id=None, eos_token_id=None,
            initializer_range=0.3,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_scripted_model(folder: Path, said: str, template: str | None = CHATML, **facts: Any) -> Path:
    """A Llama that says `said` after a prompt, and then its last token for ever. No token may stand in it twice.

    Its layer does nothing, its embeddings are the unit vectors, and its head is a table: which token follows which.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    from raysft.corpus.template import template_of

    tokens = write_chat_tokenizer(folder, template, facts)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    last = tokenizer.encode(template_of(folder).prompt(asked("where"))).ids[-1]
    path = [last, *tokenizer.encode(said, add_special_tokens=False).ids]
    assert len(set(path)) == len(path), "a token that stands twice has two successors"
    config = LlamaConfig(
        vocab_size=tokens, max_position_embeddings=128, hidden_size=tokens + tokens % 2, intermediate_size=4,
        num_hidden_layers=1, num_attention_heads=1, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    state["model.norm.weight"] += 1
    state["model.embed_tokens.weight"][range(tokens), range(tokens)] = 1.0
    state["lm_head.weight"][range(tokens), range(tokens)] = 0.5
    for before, after in pairwise(path):
        state["lm_head.weight"][after, before] = 1.0
    model.load_state_dict(state)
    model.save_pretrained(folder)
    return folder


def write_chat_tokenizer(folder: Path, template: str | None, facts: dict[str, Any] | None) -> int:
    """Tokenizer, template and raysft.json of a model folder; returns how many tokens there are."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    path = write_bytes_tokenizer(folder / "tokenizer.json")
    fast = PreTrainedTokenizerFast(tokenizer_file=str(path))
    fast.chat_template = template
    fast.save_pretrained(folder)
    if facts is not None:
        write_json(folder / "raysft.json", {"task": "generation", **facts})
    return int(Tokenizer.from_file(str(path)).get_vocab_size())

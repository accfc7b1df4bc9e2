"""A pretrained base with a head over the vocabulary, always a stock transformers class; and its head on few positions.

B rows, T tokens of the longest of them, M positions that are learnt, H hidden size, V tokens of the vocabulary.
"""

from __future__ import annotations

import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from raysft.config.sections import VOCABULARY_TASKS, ModelSection
from raysft.errors import UsageError
from raysft.model.architectures import renamed
from raysft.model.chunks import loss_and_slope, summed_loss
from raysft.model.classifier import is_sentence_encoder, quiet_transformers
from raysft.model.loading import load_base
from raysft.model.lora import add_adapters
from raysft.storage.pretrained import POOLING, WEIGHTS, Base

LEARNT = "learnt"  # argument of the forward pass: places in the flattened batch, int64 (M,)
PIECE = "piece"  # attribute of a head: how it gives losses, see model/chunks.py
SAID = "said"  # and the tokens to say there, int64 (M,): then what comes back is their summed loss


def build_language_model(base: Base, settings: ModelSection, task: str, seed: int) -> nn.Module:
    """The base with a head over the vocabulary, in float32. task: masked-lm | causal-lm | generation.

    A base without such a head gets one, drawn from the seed; where the architecture ties its matrix to the
    embeddings, only what stands between is new. Called with `learnt`, the model computes logits
    there only.
    Raises UsageError when the architecture is not one for this task.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    quiet_transformers()
    kind: Any = AutoModelForMaskedLM if task == "masked-lm" else AutoModelForCausalLM
    config = AutoConfig.from_pretrained(base.folder)
    if task != "masked-lm" and type(config) in AutoModelForMaskedLM._model_mapping:
        raise UsageError(
            f"model.base: {base.name} is an encoder ({config.model_type}): each token sees those after it",
            "Use task: masked-lm with it, or a decoder (GPT-2, Llama, ...) as model.base.",
        )
    model = load_base(
        kind,
        base,
        config,
        settings,
        seed,
        f"for {task}",
        "masked-lm is for encoders (BERT, RoBERTa, ...), the others for decoders (GPT-2, Llama, ...).",
    )
    if task != "masked-lm" and sees_what_follows(model):
        raise UsageError(
            f"model.base: {base.name} ({config.model_type}) is no decoder as it is configured: each token sees those "
            "after it",
            "Use a decoder (GPT-2, Llama, ...) as model.base.",
        )
    if settings.lora is not None:
        add_adapters(model, settings, seed, known=_tensors_of(base))
    learn_few_positions(model, task)
    if not learns_few_positions(model):
        raise UsageError(
            f"model.base: {base.name} ({config.model_type}) is built in a way that {task} does not know: its head does "
            "not read what its layers give",
            "Use another model as model.base.",
        )
    return model


def sees_what_follows(model: Any) -> bool:
    """Whether the logits of a token change with a token after it; learning the next one would then be copying it."""
    was_training = model.training
    ids = torch.arange(1, 9).remainder(model.config.vocab_size)[None]
    other = ids.clone()
    other[0, -1] = 0
    model.eval()
    with torch.inference_mode():
        before, after = (model(input_ids=each).logits[0, :-1].float() for each in (ids, other))
    model.train(was_training)
    return not torch.allclose(before, after, rtol=1e-3, atol=1e-4, equal_nan=True)


def head_facts(task: str | None, base: Base, model: Any) -> dict[str, str]:
    """What raysft.json says of the head of a language model: `new`, or `of the base`, whose it is in part or all."""
    if task not in VOCABULARY_TASKS:
        return {}
    head = {name for name, _ in model.named_parameters() if not name.startswith(model.base_model_prefix + ".")}
    return {"language_head": "new" if head and head.isdisjoint(_tensors_of(base)) else "of the base"}


def _tensors_of(base: Base) -> set[str]:
    """Names of what the base holds, as they are called today."""
    with safe_open(base.folder / WEIGHTS, "pt") as file:
        return {renamed(name) for name in file.keys()}  # noqa: SIM118  # it is no dict


def keep_pooling(task: str | None, base: Base, folder: Path) -> None:
    """Copy the note by which a sentence encoder is known: a language model has no pooler, so that fine-tuning from it
    starts one as it would have from the base (`model.pooler: auto`)."""
    if task in VOCABULARY_TASKS and is_sentence_encoder(base.folder):
        (folder / POOLING).parent.mkdir()
        shutil.copyfile(base.folder / POOLING, folder / POOLING)


def own_logits(model: nn.Module, ids: torch.Tensor) -> list[float]:
    """The logits that a model gives the tokens it reads, each at its own place. ids: int64 (T,)."""
    with torch.inference_mode():
        logits = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0]
    return logits.float().gather(1, ids[:, None])[:, 0].cpu().tolist()  # type: ignore[no-any-return]


def learn_few_positions(model: Any, task: str) -> None:
    """Let the model take `learnt`: hidden states are gathered there before the head, whose logits become (1, M, V).

    A head costs as much as several layers, and masked language models learn 15% of the positions. In stock classes the
    head treats each position alone, so that two hooks do: one takes the argument, one gathers what the base gives.
    With `said` too, the head gives the summed loss of these tokens as the only logit, (1, 1, 1); see
    model/chunks.py.
    Without the arguments the model is as it was; nothing of this is saved.
    """
    held: list[torch.Tensor] = []
    asked: list[torch.Tensor] = []
    # Keys and values of past tokens serve generation; here they would be kept for nothing.
    no_cache = {"use_cache": False} if "use_cache" in signature(model.forward).parameters else {}

    def take(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        held[:] = [kwargs[LEARNT]] if LEARNT in kwargs else []
        asked[:] = [kwargs[SAID]] if SAID in kwargs else []
        if not held:
            return args, kwargs
        own = {name: value for name, value in kwargs.items() if name not in (LEARNT, SAID)}
        return args, {**own, **no_cache}

    def gather(_: nn.Module, __: Any, output: Any) -> Any:
        if held:
            output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[held.pop()].unsqueeze(0)
        return output

    model.register_forward_pre_hook(take, with_kwargs=True)
    # Of models that may have an encoder too, as BART does, only the decoder is called where the next token is learnt.
    body = model.base_model if task == "masked-lm" else model.get_decoder()
    body.register_forward_hook(gather)
    head = model.get_output_embeddings()
    if type(head) is nn.Linear:
        plain = head.forward
        setattr(head, PIECE, loss_and_slope)

        def losses(hidden: torch.Tensor) -> torch.Tensor:
            if not asked:
                return plain(hidden)
            return summed_loss(head, hidden.flatten(0, 1), asked.pop(), getattr(head, PIECE)).view(1, 1, 1)

        head.forward = losses  # type: ignore[method-assign,assignment]


def compile_loss(model: Any) -> None:
    """Compile what the head does with its logits: eagerly the loss goes over them half a dozen times."""
    setattr(model.get_output_embeddings(), PIECE, torch.compile(loss_and_slope, dynamic=True))


def sums_its_loss(model: Any) -> bool:
    """Whether `said` has its effect: not where a model does more to its logits than its head, as Gemma 2 does."""
    was_training = model.training
    ids = torch.arange(1, 5).remainder(model.config.vocab_size)[None]
    learnt, said = torch.tensor([1, 2]), torch.tensor([0, 1])
    model.eval()
    with torch.inference_mode():
        logits = model(input_ids=ids, **{LEARNT: learnt}).logits
        found = model(input_ids=ids, **{LEARNT: learnt, SAID: said}).logits
    model.train(was_training)
    wanted = nn.functional.cross_entropy(logits.float().flatten(0, 1), said, reduction="sum")
    return tuple(found.shape) == (1, 1, 1) and torch.allclose(found.flatten()[0], wanted, rtol=1e-3)


def learns_few_positions(model: Any) -> bool:
    """Whether the hooks of learn_few_positions have an effect: they do in every stock class that we know."""
    was_training = model.training
    ids = torch.arange(1, 5).remainder(model.config.vocab_size)[None]
    model.eval()
    with torch.inference_mode():
        logits = model(input_ids=ids, **{LEARNT: torch.tensor([2])}).logits
    model.train(was_training)
    return tuple(logits.shape[:2]) == (1, 1)


def keeps_rows_apart(model: Any) -> bool:
    """Whether rows that stand in one sequence, their positions beginning anew with each, get the logits that they have
    alone, whatever stands beside them. transformers takes these positions for borders in most of its decoders."""
    if "position_ids" not in signature(model.forward).parameters:
        return False
    was_training = model.training
    # Two sequences: some ways to compute attention look for borders in a single one only.
    ids = torch.arange(1, 19).remainder(model.config.vocab_size).view(2, 9)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]] * 2)
    other = ids.clone()
    other[:, :4] = 0
    every = torch.arange(18)
    model.eval()
    with torch.inference_mode():
        # As in training, with `learnt`: a cache of past tokens would have no borders.
        together = [model(input_ids=each, position_ids=positions, **{LEARNT: every}).logits for each in (ids, other)]
        alone = model(input_ids=ids[:, 4:], **{LEARNT: every[:10]}).logits.view(2, 5, -1)
    model.train(was_training)
    return all(torch.allclose(each.view(2, 9, -1)[:, 4:], alone, rtol=1e-3, atol=1e-4) for each in together)


def load_language_model(folder: Path, task: str) -> nn.Module:
    """A finished artifact, by stock transformers, in evaluation mode; it takes `learnt`."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    quiet_transformers()
    kind: Any = AutoModelForMaskedLM if task == "masked-lm" else AutoModelForCausalLM
    model = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32).eval()
    learn_few_positions(model, task)
    return model  # type: ignore[no-any-return]

"""The best checkpoint as a plain Hugging Face folder, and a probe that its reload must reproduce.

Written by the first rank alone, without any exchange.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.corpus.targets import compact
from raysft.corpus.tokens import TokenizedRows
from raysft.model.answering import ready_to_answer
from raysft.model.attention import FLASH
from raysft.model.classifier import quiet_transformers
from raysft.model.language import head_facts, keep_pooling
from raysft.model.lora import merge_adapters, save_adapters
from raysft.model.padding import pad_id, share_padding
from raysft.model.quantize import dequantized, is_quantized, without_quantizing
from raysft.preparation.answering import answering_of, words_of
from raysft.storage.commit import committed_folder, write_json, writing
from raysft.storage.pretrained import LOCAL, Base
from raysft.training import checkpoint, ranks
from raysft.training.language import PROBE_LOOK, answers_probe, language_probe
from raysft.training.loop import Loop
from raysft.training.objective import padded
from raysft.training.parallel import is_sharded
from raysft.training.tasks import build_model, decision_facts

if TYPE_CHECKING:
    from raysft.training.worker import Task

PROBE_ROWS = 32
PROBE_TOKENS = 16384  # positions of the probe, whose rows are one batch here and where it is reloaded


def write_artifact(task: Task, base: Base, loop: Loop) -> str:
    """Write model, tokenizer, raysft.json and probe; returns the digest of the weights."""
    from transformers import AutoTokenizer

    quiet_transformers()
    model = best_model(task, base, loop.model, loop.progress.best_step).eval()
    with writing(task.run.model), committed_folder(task.run.model) as folder:
        tokenizer = AutoTokenizer.from_pretrained(base.folder)
        tokenizer.model_max_length = task.config.model.max_length
        share_padding(tokenizer, model.config)
        words = words_of(task.config, base, task.data.labels)
        if task.config.language_task == "generation":
            settings = task.config.generation
            if words is not None:  # no label is longer, and the likeliest one is given
                settings = settings.model_copy(update={"max_new_tokens": words.longest, "temperature": 0.0})
            ready_to_answer(model, tokenizer, base, settings)
            save_adapters(model, str(base.folder) if base.revision == LOCAL else base.name, folder / "adapter")
        merge_adapters(model)
        model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
        tokenizer.save_pretrained(folder)
        _normal_truncation(folder / "tokenizer.json", task.config.model.max_length)
        keep_pooling(task.config.language_task, base, folder)
        write_json(folder / "raysft.json", _provenance(task, loop, model))
    write_json(task.run.probe, _probe(task, model, loop.train))
    return ranks.weights_digest(model)


def best_model(task: Task, base: Base, trained: nn.Module, step: int) -> nn.Module:
    """The model with the weights of the checkpoint of `step`, its adapters not merged; `trained` is filled with them,
    or left alone."""
    path = checkpoint.at_step(task.run.checkpoints, step)
    settings = exported(task.config.model)

    def anew() -> nn.Module:
        """In the memory of the CPU: no device need hold the whole model."""
        return build_model(task.config.model_copy(update={"model": settings}), base, task.data.labels)

    if is_quantized(trained):  # the 4-bit weights are here and in no checkpoint
        checkpoint.load_best(path, trained)
        model = dequantized(trained, anew())
    else:
        model = anew() if is_sharded(trained) or settings != task.config.model else trained
        checkpoint.load_best(path, model)
    return model


def exported(settings: ModelSection) -> ModelSection:
    """The `model` section as the artifact's users compute: in float32, which neither FlashAttention nor 4 bits do."""
    whole = without_quantizing(settings)
    return whole.model_copy(update={"attention": "auto"}) if whole.attention == FLASH else whole


def _normal_truncation(path: Path, max_length: int) -> None:
    """The base's own padding and truncation would follow the tokenizer silently; state ours."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    tokenizer.save(str(path))


def _provenance(task: Task, loop: Loop, model: nn.Module) -> dict[str, Any]:
    return {
        "name": task.config.name,
        "task": task.config.task,
        "base": task.base.name,
        "base_revision": task.base.revision,
        "base_sha256": task.base.weights_sha256,
        "data": task.data.digest,
        "step": loop.progress.best_step,
        "max_length": task.config.model.max_length,
        **decision_facts(task.config, loop.progress.best_scores, loop.objective),
        **_label_facts(task),
        **head_facts(task.config.language_task, task.base, model),
        "job": json.loads(task.config.model_dump_json()),
    }


def _label_facts(task: Task) -> dict[str, Any]:
    """Labels as words stand in no config.json: they are no outputs of the model."""
    return {"labels_are": "words", "labels": list(task.data.labels)} if task.config.labels_are_words else {}


def _probe(task: Task, model: nn.Module, train: TokenizedRows) -> dict[str, Any]:
    """Open rows only: the probe must not touch the sealed test part."""
    corpus, device = task.data.part("train"), next(model.parameters()).device
    if task.config.language_task is not None:
        if (answering := answering_of(task.config, task.base)) is not None:
            return answers_probe(model, answering, corpus.column("record").to_pylist(), device)
        if (words := words_of(task.config, task.base, task.data.labels)) is not None:
            rows = corpus.slice(0, PROBE_LOOK).select(["text", "label"]).to_pylist()
            records = [compact(words.turns(row["text"], row["label"])) for row in rows]
            return answers_probe(model, words.answering, records, device)
        return language_probe(task.config.language_task, model, train, corpus, device)
    # Of a long text that is several windows the first one: its reload cuts the text there.
    rows = probe_rows(train.select(np.unique(train.row_id, return_index=True)[1]))
    wanted = set(rows.row_id.tolist())
    texts = {row["row_id"]: row["text"] for row in corpus.to_pylist() if row["row_id"] in wanted}
    logits = _logits(model, rows, device)
    kind = {} if logits.ndim == 2 else {"lengths": rows.lengths.tolist()}
    return {"texts": [texts[row] for row in rows.row_id.tolist()], "logits": logits.tolist(), **kind}


def probe_rows(train: TokenizedRows) -> TokenizedRows:
    """The first rows, as many as PROBE_TOKENS allows, and one at least."""
    first = train.lengths[:PROBE_ROWS]
    fit = int((np.maximum.accumulate(first) * np.arange(1, len(first) + 1) <= PROBE_TOKENS).sum())
    return train.select(np.arange(max(1, fit)))


def _logits(model: nn.Module, rows: TokenizedRows, device: torch.device) -> np.ndarray[Any, Any]:
    """Float32, in one batch as the reload check computes them."""
    ids, mask = padded(rows, np.arange(len(rows)), pad_id(model))
    with torch.inference_mode():
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    return np.asarray(logits.float().cpu().numpy())

"""Loops in which something goes wrong at a step of one's choice, and the same steps written by hand in plain torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.encode import encode_texts
from raysft.corpus.sampler import Batching, Sampler
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.classifier import build_classifier
from raysft.storage.pretrained import Base
from raysft.training.classification import Classification
from raysft.training.loop import Loop
from raysft.training.objective import Batch
from raysft.training.precision import Precision
from raysft.training.schedule import rate_factor
from tests.support.jobs import TOPICS, corpus_rows

LABELS = tuple(sorted(TOPICS))
CPU = torch.device("cpu")
SETTINGS = TrainSection(epochs=1, batch_size=16, learning_rate=5e-3, head_learning_rate=1e-2, seed=3)
STEPS = 7  # of 104 rows in batches of 16
STILL = ModelSection(dropout=0.0)  # plain torch has no dropout that belongs to rows
Spoil = Callable[[torch.Tensor, Batch], torch.Tensor]


def rows_of(base: Base, count: int, seed: int) -> TokenizedRows:
    rows = corpus_rows(count, seed)
    ids, _ = encode_texts([row["text"] for row in rows], base.folder / "tokenizer.json", 32)
    return from_lists(ids, [LABELS.index(row["label"]) for row in rows])


class Spoiled(Classification):
    """The objective with something wrong in the loss of the step that holds some row."""

    spoil: Spoil | None = None
    row = -1
    bad: Batch | None = None  # on a GPU it is made while the step before it is computed

    def batch(self, rows: Any, epoch: int) -> Batch:
        made = super().batch(rows, epoch)
        if self.row in rows.tolist():
            self.bad = made
        return made

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        if self.spoil and batch is self.bad and logits.requires_grad:
            logits = self.spoil(logits, batch)
        return super().loss(logits, batch)


def overflowing(logits: torch.Tensor, _: Batch) -> torch.Tensor:
    """A finite loss with an infinite gradient, as a scale that is too large gives it."""
    logits.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    return logits


def nan(logits: torch.Tensor, _: Batch) -> torch.Tensor:
    return logits * float("nan")


def make_loop(
    base: Base,
    folder: Path,
    settings: TrainSection = SETTINGS,
    precision: str = "fp32",
    micro: int = 16,
    model: ModelSection = STILL,
    strategy: str = "ddp",
    device: torch.device = CPU,
) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    train = rows_of(base, 104, 0)
    return Loop(
        model=build_classifier(base, model, LABELS, settings.seed),
        objective=Spoiled(train, rows_of(base, 40, 1), settings, 0, device, LABELS),
        settings=settings,
        micro_batch=micro,
        train=train,
        precision=Precision(precision, device),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        strategy=strategy,
    )


def spoil(loop: Loop, step: int, how: Spoil) -> list[int]:
    """Let step number `step` (from 1) of the first epoch go wrong, in one of its rows; the rows of that step."""
    rows = np.concatenate(loop.sampler.steps(0)[step - 1])
    objective = loop.objective
    assert isinstance(objective, Spoiled)
    objective.spoil, objective.row = how, int(rows[3])
    return rows.tolist()  # type: ignore[no-any-return]


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def watched(loop: Loop) -> list[torch.Tensor]:
    """The weights before the first step and after each; filled while the loop runs."""
    seen, update = [weights(loop.model)], loop._update

    def then_look(step: Any) -> None:
        update(step)
        seen.append(weights(loop.model))

    loop._update = then_look  # type: ignore[method-assign]
    return seen


def lines_of(loop: Loop) -> list[dict[str, Any]]:
    return [json.loads(text) for text in loop.metrics.read_text().splitlines()]


def losses(loop: Loop) -> list[float]:
    return [line["loss"] for line in lines_of(loop) if "loss" in line]


def plain_torch(
    base: Base, loop: Loop, fp16: bool, bad: Iterable[int], device: torch.device = CPU
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """The first epoch written by hand with torch.amp.GradScaler; gradients of the steps `bad` (from 1) are infinite.

    Weights before the first step and after each, and the scaler's state. Without fp16 a bad step is left out.
    """
    model = build_classifier(base, STILL, LABELS, SETTINGS.seed).train().to(device)
    names = {id(parameter): name for name, parameter in loop.model.named_parameters()}
    mine = dict(model.named_parameters())
    groups = [
        {
            "params": [mine[names[id(parameter)]] for parameter in group.parameters],
            "lr": group.learning_rate,
            "weight_decay": group.weight_decay,
        }
        for group in loop.groups
    ]
    optimizer = torch.optim.AdamW(groups)
    loss_scaler = torch.amp.GradScaler(device.type, enabled=fp16)
    seen = [weights(model)]
    rows = loop.train
    for number, step in enumerate(Sampler(rows.lengths, Batching(16, 16), SETTINGS.seed, 1).steps(0)):
        for group, peak in zip(optimizer.param_groups, loop.groups, strict=True):
            group["lr"] = peak.learning_rate * rate_factor(number, STEPS, SETTINGS.warmup, SETTINGS.schedule)
        positions = step[0]
        ids = nn.utils.rnn.pad_sequence(
            [torch.tensor(rows.tokens(each).astype(np.int64)) for each in positions], batch_first=True
        )
        mask = torch.arange(ids.shape[1])[None] < torch.tensor(rows.lengths[positions])[:, None]
        with torch.autocast(device.type, dtype=torch.float16, enabled=fp16):
            logits = model(input_ids=ids.to(device), attention_mask=mask.long().to(device)).logits
        targets = torch.tensor(rows.label[positions].astype(np.int64), device=device)
        torch.autograd.backward(loss_scaler.scale(nn.functional.cross_entropy(logits.float(), targets)))
        if number + 1 in bad:
            dict(model.named_parameters())["classifier.bias"].grad.fill_(float("inf"))  # type: ignore[union-attr]
        if fp16:
            loss_scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.clip_norm or 0)
        if fp16:
            loss_scaler.step(optimizer)
            loss_scaler.update()
        elif number + 1 not in bad:
            optimizer.step()
        optimizer.zero_grad()
        seen.append(weights(model))
    return seen, loss_scaler.state_dict()


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Weights of one trajectory, summed in another order.

    AdamW divides by the root of the second moment, so where a gradient is about its eps (1e-8) rounding shows in full:
    a few single weights differ by some 1e-4. The mean is what tells: up to 1e-6 after 7 steps, while one update that is
    wrongly applied or left out moves it by 2e-3, and the last and smallest one by 2e-4.
    """
    assert (found - expected).abs().mean().item() < 1e-5


def out_of_memory(model: nn.Module, rows: int, after: int = 0) -> None:
    """Forward passes of more than `rows` rows fail from the one number `after` on, as torch's CPU allocator fails."""
    calls = 0

    def fail(_: nn.Module, __: Any, given: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        if model.training and len(given["input_ids"]) > rows and calls > after:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"
            )

    model.register_forward_pre_hook(fail, with_kwargs=True)

"""Fine-tuning Llama-shaped models on one GPU: Hugging Face Trainer beside raysft's engine; needs no network, no Ray.

    python benchmarks/train_gpu.py [--sizes 1b 8b] [--methods full lora] [--steps 20] [--warmup 5] [--tokens 2048]
    python benchmarks/train_gpu.py --sizes tiny --device cpu       # does the script work? under a minute

Random weights at the sizes of Llama 3.2 1B and Llama 3.1 8B, made on the device, the same for both engines. `full`
trains float32 weights with AdamW: 16 bytes a parameter before activations, so 1B takes 18 GiB, and 8B (120 GiB) is left
out where the GPU has less. `lora` trains float32 adapters (r 16, all linear layers) on a bf16 base: 15 GiB at 8B, where
activations are recomputed. Products are bf16 by autocast. Both have the same rows, global batch and micro-batch; the
Trainer has bf16, length grouping, fused AdamW and loader processes. Rows: benchmarks/llama.py.

tokens/s counts real tokens, no padding. MFU: the PaLM paper's, also in llama.py; recomputed activations count nothing.
First each engine does one step on the same batch with fresh weights: these losses have to agree.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama import SEED, SIZES, Size, build, draw_rows, peak_of, too_large
from process import measure

if TYPE_CHECKING:
    import torch

RATE = 1e-5
PAD = 0  # rows are drawn without it
SAME_LOSS = 0.005  # relative: bf16 products of other paddings round differently
Rows = list[list[int]]  # token ids


def main() -> None:
    """Measure every engine at every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["1b", "8b"])
    parser.add_argument("--methods", nargs="+", choices=["full", "lora"], default=["full", "lora"])
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps that are timed")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them")
    parser.add_argument("--tokens", type=int, help="longest row; default: 2048 (tiny: 128)")
    parser.add_argument("--micro", type=int, help="rows of a forward pass; default: 4")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--peak", type=float, help="dense bf16 operations a second, where the GPU is not in the table")
    parser.add_argument("--case", nargs=3, help="internal: size, method and engine of this process")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(case(arguments)))
        return
    for size in arguments.sizes:
        for method in arguments.methods:
            compare(size, method, arguments)


def compare(size: str, method: str, arguments: argparse.Namespace) -> None:
    """The table of one model and method, and whether the first losses agree."""
    print(f"\n{size}, {method}\n\n| engine | trained | tokens/s | ratio | padding | MFU | peak GiB | first loss |")
    print("|---|---|---|---|---|---|---|---|")
    flags = ("tokens", "micro", "peak", "steps", "warmup", "device")
    given = [word for name in flags if (value := getattr(arguments, name)) is not None for word in (f"--{name}", value)]
    found: list[dict[str, Any]] = []
    for engine in arguments.only:
        one = measure(__file__, *given, "--case", size, method, engine)
        if "refused" in one:
            print(f"| {one['refused']} | | | | | | | |", flush=True)
            return
        found.append(one)
        print(line(engine, one, found[0]["speed"]), flush=True)
    losses = [one["loss"] for one in found]
    difference = (max(losses) - min(losses)) / max(losses)
    print(f"\nfirst losses differ by {difference:.1e} of the loss", flush=True)
    if not difference < SAME_LOSS:  # also where one is not a number
        raise SystemExit(f"the engines do not compute the same: first losses are {losses}")


def line(engine: str, found: dict[str, Any], first: float) -> str:
    used = "-" if found["mfu"] is None else f"{found['mfu']:.1%}"
    memory = (found["memory"] or found["rss"]) / 2**30
    return (
        f"| {engine} | {found['trained'] / 1e6:,.2f}M | {found['speed']:,.0f} | {found['speed'] / first:.2f} "
        f"| {found['padding']:.1%} | {used} | {memory:.1f} | {found['loss']:.4f} |"
    )


def case(arguments: argparse.Namespace) -> dict[str, Any]:
    """One engine in this process: a step for its loss, then the timed steps, both with fresh weights."""
    import torch

    name, method, engine = arguments.case
    size, device = SIZES[name], torch.device(arguments.device)
    peak = arguments.peak or (peak_of(torch.cuda.get_device_name()) if device.type == "cuda" else None)
    if reason := too_large(size, method, device):
        return {"refused": reason}
    if device.type == "cpu":
        torch.set_num_threads(1)  # a tiny model: threads would only wait for each other
    longest = arguments.tokens or size.tokens
    rows = draw_rows(size, longest, (arguments.warmup + arguments.steps) * size.batch)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(size, method, arguments.micro or size.micro, longest, device, Path(folder))
        loss = ENGINES[engine](run, rows[: size.batch], Meter(device, 0, 1))
        gc.collect()  # engines refer to themselves; the first model must be gone before the second is made
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        meter = Meter(device, arguments.warmup, arguments.steps)
        ENGINES[engine](run, rows, meter)
    tokens, squares, positions = meter.sums
    return {
        "speed": tokens / meter.seconds,
        "padding": 1 - tokens / positions,
        "mfu": size.work(method, tokens, squares) / meter.seconds / peak if peak else None,
        "memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "trained": meter.trained,
        "loss": loss,
    }


@dataclass(frozen=True)
class Run:
    """What an engine is given beside rows."""

    size: Size
    method: str
    micro: int
    tokens: int  # of the longest row
    device: torch.device
    folder: Path


class Meter:
    """Counts what passes through a model, and the time, between the ends of step `warmup` and of `steps` more."""

    def __init__(self, device: torch.device, warmup: int, steps: int) -> None:
        self._device, self._first, self._last = device, warmup, warmup + steps
        self._running: Any = None
        self._started = 0.0
        self.seconds, self.trained = 0.0, 0
        self.sums = (0, 0, 0)  # real tokens, squares of the rows' tokens, positions with padding

    def watch(self, model: torch.nn.Module) -> None:
        """Count in every forward pass, on the device, so that nothing waits for it."""
        import torch

        def count(_: Any, __: Any, inputs: dict[str, Any]) -> None:
            lengths = (inputs["input_ids"] != PAD).sum(dim=1)
            positions = torch.full_like(lengths[0], inputs["input_ids"].numel())
            self._running += torch.stack([lengths.sum(), (lengths**2).sum(), positions])

        model.register_forward_pre_hook(count, with_kwargs=True)
        self.trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
        self.done(0)

    def done(self, step: int) -> None:
        """To be called at the beginning, with 0, and after each step."""
        import torch

        if step not in (self._first, self._last) and step:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        if step == self._last:
            self.seconds = time.perf_counter() - self._started
            self.sums = tuple(self._running.tolist())
        self._running = torch.zeros(3, dtype=torch.int64, device=self._device)
        self._started = time.perf_counter()


def trainer(run: Run, rows: Rows, meter: Meter, cudnn: bool = True) -> float:
    """Hugging Face Trainer, stock, with its best flags; returns the loss of the first step.

    cudnn: whether torch may choose cuDNN's attention, which plans anew for each shape; it does so unless told not to.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Mark(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _: Any, state: Any, __: Any, **___: Any) -> None:
            meter.done(state.global_step)

    def collate(some: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(each["input_ids"]) for each in some]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=PAD),
            "attention_mask": pad_sequence([torch.ones_like(each) for each in ids], batch_first=True),
            "labels": pad_sequence(ids, batch_first=True, padding_value=-100),
        }

    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    on_gpu = run.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(run.folder),
        per_device_train_batch_size=run.micro,
        gradient_accumulation_steps=run.size.batch // run.micro,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        bf16=True,
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        activation_checkpointing=run.size.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        dataloader_num_workers=2 if on_gpu else 0,
        use_cpu=not on_gpu,
        logging_steps=1 if len(rows) == run.size.batch else 500,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=SEED,
    )
    model = build(run.size, run.method, run.device)
    engine = Trainer(
        model,
        arguments,
        train_dataset=[{"input_ids": row} for row in rows],
        data_collator=collate,
        callbacks=[Mark()],
    )
    meter.watch(model)
    engine.train()
    return float(engine.state.log_history[0].get("loss", 0.0))


def raysft(run: Run, rows: Rows, meter: Meter, compiled: bool = False) -> float:
    """raysft's engine as a worker runs it, but without saving; returns the loss of the first step.

    It is given as many positions as a full micro-batch of the Trainer has, and cuts its steps by that, as in a job.
    """
    from raysft.config.sections import TrainSection
    from raysft.config.values import Share
    from raysft.corpus.sampler import Step
    from raysft.corpus.tokens import from_lists
    from raysft.model.language import compile_loss, learn_few_positions
    from raysft.training.language import Language
    from raysft.training.lessons import NextTokens
    from raysft.training.loop import Loop
    from raysft.training.precision import Precision

    class Unsaved(Loop):
        def _step(self, step: Step) -> None:
            super()._step(step)
            meter.done(self.progress.step)

        def _save(self) -> None:
            pass

    model = build(run.size, run.method, run.device)
    model = model.get_base_model() if run.method == "lora" else model
    learn_few_positions(model, "causal-lm")
    if compiled:
        compile_loss(model)
    train, none = from_lists(rows, [-1] * len(rows)), from_lists([], [])
    metrics = run.folder / f"{len(rows)}.jsonl"
    loop = Unsaved(
        model=model,
        objective=Language(NextTokens(run.size.vocabulary), train, none, SEED, PAD, run.device, sums=True),
        settings=TrainSection(
            epochs=1,
            batch_size=run.size.batch,
            learning_rate=RATE,
            head_learning_rate=RATE,
            weight_decay=0.0,
            schedule="constant",
            warmup=Share(0.0),
            activation_checkpointing=run.size.checkpointing,
            compile=compiled,
            seed=SEED,
        ),
        micro_batch=run.size.batch,
        micro_tokens=run.micro * run.tokens,
        train=train,
        precision=Precision("bf16", run.device),
        checkpoints=run.folder / "checkpoints",
        metrics=metrics,
    )
    meter.watch(model)
    loop.run()
    return float(json.loads(metrics.read_text(encoding="utf-8").splitlines()[0])["loss"])


ENGINES: dict[str, Callable[[Run, Rows, Meter], float]] = {
    "trainer": trainer,
    "trainer-no-cudnn": partial(trainer, cudnn=False),
    "raysft": raysft,
    "raysft-compiled": partial(raysft, compiled=True),
}


if __name__ == "__main__":
    main()

"""What the engine costs a step: the Loop beside a bare loop of plain torch on the same batches in the same order.

    python benchmarks/step_overhead.py [--workers 1 2] [--size minilm] [--pairs 12] [--block 10]

Both start from the same weights, with AdamW and clipping alike; with 2 workers (gloo on loopback, a thread each) both
have DistributedDataParallel. The bare loop's batches lie padded in memory, and it has no schedule, journal or check.
Blocks of steps alternate in one process (bare, engine, bare, engine, ...), so that drift of the machine cancels; the
overhead is the median of the paired ratios minus one, with its bootstrap 95% interval. Dropout is off: its masks are
work of the model. Both have to end with the same weights: the last column is their largest difference.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from raysft.training.loop import Loop

SIZES = {
    "tiny": {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "minilm": {"vocab_size": 30_522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12},
}
BATCH, CLASSES, RATE, DECAY, CLIP = 16, 77, 1e-4, 0.01, 1.0
SHORTEST, LONGEST = 8, 48  # tokens of a row, about as in Banking77
Prepared = list[tuple[dict[str, Any], Any]]  # one step's micro-batches of this rank: inputs, labels


def main() -> None:
    """Measure every number of workers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", choices=list(SIZES), default="minilm")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of blocks, after one that is not counted")
    parser.add_argument("--block", type=int, default=10, help="steps of a block; the journal writes every 10")
    arguments = parser.parse_args()
    from torch.multiprocessing.spawn import spawn

    print(
        "| workers | threads each | bare ms/step | engine ms/step | overhead | 95% interval | pairs | weights differ |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory() as name:
            spawn(alternate, (workers, arguments, Path(name)), workers)  # type: ignore[no-untyped-call]
            print(line(workers, arguments.block, json.loads((Path(name) / "found.json").read_text())), flush=True)


def line(workers: int, block: int, found: dict[str, Any]) -> str:
    bare, engine = np.array(found["bare"]), np.array(found["engine"])
    ratios = engine / bare - 1
    drawn = np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return (
        f"| {workers} | {found['threads']} | {np.median(bare) * 1e3 / block:.2f} "
        f"| {np.median(engine) * 1e3 / block:.2f} | {np.median(ratios):+.1%} | [{low:+.1%}, {high:+.1%}] "
        f"| {len(ratios)} | {found['difference']:.1e} |"
    )


def alternate(rank: int, workers: int, arguments: argparse.Namespace, folder: Path) -> None:
    """One rank: a block of the bare loop, the same block of the engine, and so on; rank 0 writes found.json."""
    import torch

    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    torch.set_num_threads(threads)
    if workers > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=workers)
    blocks = arguments.pairs + 1
    engine = make_engine(arguments.size, workers, blocks * arguments.block, folder)
    copied = deepcopy(engine.model)
    bare = make_bare(copied, workers)
    steps = engine.sampler.steps(0)
    prepared = [[batch(engine, micro) for micro in step[rank::workers]] for step in steps]
    seconds: dict[str, list[float]] = {"bare": [], "engine": []}
    for start in range(0, len(steps), arguments.block):
        block = slice(start, start + arguments.block)
        seconds["bare"].append(timed(bare, prepared[block], workers))
        seconds["engine"].append(timed(engine._step, steps[block], workers))
    difference = max(
        float((ours - theirs).abs().max().detach())
        for ours, theirs in zip(engine.model.parameters(), copied.parameters(), strict=True)
    )
    if rank == 0:
        found = {name: values[1:] for name, values in seconds.items()}  # the first pair warms up
        text = json.dumps({**found, "difference": difference, "threads": threads})
        (folder / "found.json").write_text(text, encoding="utf-8")
    if workers > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        # gloo's threads may still hold tensors, and letting them go while Python shuts down aborts the process
        # (github.com/pytorch/pytorch/pull/179291); all there was to do is done.
        os._exit(0)


def timed(step: Callable[[Any], None], block: list[Any], workers: int) -> float:
    import torch

    if workers > 1:
        torch.distributed.barrier()
    started = time.perf_counter()
    for each in block:
        step(each)
    return time.perf_counter() - started


def make_engine(size: str, workers: int, steps: int, folder: Path) -> Loop:
    """The engine over one epoch of `steps` full batches of random tokens, a micro-batch a worker and step."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from raysft.config.sections import TrainSection
    from raysft.config.values import Share
    from raysft.corpus.tokens import from_lists
    from raysft.training.classification import Classification
    from raysft.training.loop import Loop
    from raysft.training.precision import Precision

    shape = {**SIZES[size], "intermediate_size": 4 * SIZES[size]["hidden_size"], "num_labels": CLASSES}
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(**shape, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    draw, rows, device = np.random.default_rng(0), steps * BATCH, torch.device("cpu")
    lengths = draw.integers(SHORTEST, LONGEST, rows, endpoint=True)
    ids = [draw.integers(1, shape["vocab_size"], length).tolist() for length in lengths]
    train = from_lists(ids, draw.integers(0, CLASSES, rows).tolist())
    settings = TrainSection(
        epochs=1,
        batch_size=BATCH,
        learning_rate=RATE,
        head_learning_rate=RATE,
        weight_decay=DECAY,
        clip_norm=CLIP,
        schedule="constant",
        warmup=Share(0.0),
        precision="fp32",
    )
    return Loop(
        model=model,
        objective=Classification(train, from_lists([], []), settings, 0, device),
        settings=settings,
        micro_batch=-(-BATCH // workers),
        train=train,
        precision=Precision.plain(device),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
    )


def batch(engine: Loop, micro: np.ndarray[Any, Any]) -> tuple[dict[str, Any], Any]:
    made = engine.objective.batch(micro, 0)
    return made.inputs, made.targets


def make_bare(model: torch.nn.Module, workers: int) -> Callable[[Prepared], None]:
    """A step of plain torch, as one writes it by hand."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    module = DistributedDataParallel(model) if workers > 1 else model
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    module.train()

    def step(micros: Prepared) -> None:
        for number, (inputs, labels) in enumerate(micros):
            last = workers == 1 or number == len(micros) - 1
            with nullcontext() if last else module.no_sync():  # type: ignore[operator]
                loss = cross_entropy(module(**inputs).logits, labels, reduction="sum") / BATCH
                torch.autograd.backward(loss * workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()

"""Answers of GSM8K with several rows in one sequence, beside batches that are padded.

    python benchmarks/packing.py --data ../shared/data/gsm8k [--rows 1500] [--pairs 6] [--block 8]

One engine, one small Llama-shaped model, one process; blocks of steps in turn (random, bucketed, packed, random, ...),
so that drift of the machine cancels. `random`: batches as shuffled, each micro-batch padded to its longest row;
`bucketed`: batches of like lengths; `packed`: batches as shuffled, rows packed into sequences. Counted are the tokens
that are learnt, those of answers, and `positions` are all that is computed. The batches of `random` and `packed` are
the same rows, and so is their loss, which has to agree.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from raysft.corpus.tokens import TokenizedRows
    from raysft.training.loop import Loop

MODES = ("random", "bucketed", "packed")
BATCH, LONGEST, VOCABULARY = 32, 512, 2048
SHAPE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 704}
SAME_LOSS = 1e-4  # relative, of the first step: float32 sums in another order


def main() -> None:
    """Measure all modes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with grade_school_math/data/train.jsonl")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--pairs", type=int, default=6, help="blocks of each mode, after one that is not counted")
    parser.add_argument("--block", type=int, default=6, help="steps of a block")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = read_rows(arguments.data, arguments.rows, Path(name))
        engines = {mode: make_engine(mode, rows, Path(name) / mode) for mode in MODES}
        require_same_loss(engines)
        print(table(engines, rows, *alternate(engines, arguments.pairs + 1, arguments.block)))


def read_rows(data: Path, count: int, folder: Path) -> TokenizedRows:
    """The first rows of GSM8K's training file, tokenized with a vocabulary learnt from them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from raysft.corpus.answers import Answering
    from raysft.corpus.template import PLAIN, Template
    from raysft.corpus.tokens import from_lists

    lines = (data / "grade_school_math" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    read = [json.loads(line) for line in lines]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([f"{row['question']} {row['answer']}" for row in read], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = Template(PLAIN, (("eos_token", "<end>"),), has_special_tokens=True)
    records = [
        json.dumps([{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}])
        for row in read
    ]
    ids, marks, _ = Answering(template, folder / "tokenizer.json", LONGEST).encode(records)
    return from_lists(ids, [-1] * len(ids), marks)


def make_engine(mode: str, rows: TokenizedRows, folder: Path) -> Loop:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from raysft.config.sections import TrainSection
    from raysft.corpus.packing import LENGTH
    from raysft.model.language import learn_few_positions
    from raysft.training.language import Language
    from raysft.training.lessons import Answers
    from raysft.training.loop import Loop
    from raysft.training.precision import Precision

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=LONGEST, **SHAPE))
    learn_few_positions(model, "generation")
    settings = TrainSection(
        batch_size=BATCH, batching="bucketed" if mode == "bucketed" else "random", learning_rate=1e-4, epochs=1000
    )
    packed = max(LENGTH, int(rows.lengths.max())) if mode == "packed" else None
    device = torch.device("cpu")
    folder.mkdir()
    return Loop(
        model=model,
        objective=Language(Answers(VOCABULARY), rows, rows.select(np.arange(0)), 0, 0, device, packed, sums=True),
        settings=settings,
        micro_batch=BATCH,
        micro_tokens=4608,
        train=rows,
        precision=Precision.plain(device),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        packed=packed,
    )


def require_same_loss(engines: dict[str, Loop]) -> None:
    """The first step of `random` and of `packed` has the same rows and loss. Raises SystemExit where it has not."""
    import torch

    found = []
    for mode in ("random", "packed"):
        engine = engines[mode]
        step = engine.sampler.steps(0)[0]
        with torch.no_grad():
            losses = [
                engine.objective.loss(engine.model(**batch.inputs).logits, batch)
                for batch in (engine.objective.batch(micro, 0) for micro in step)
            ]
        found.append((sorted(np.concatenate(step).tolist()), float(sum(losses))))
    (rows, loss), (packed_rows, packed_loss) = found
    if rows != packed_rows or abs(loss - packed_loss) > SAME_LOSS * loss:
        raise SystemExit(f"the first steps differ: {loss} padded, {packed_loss} packed")


def alternate(engines: dict[str, Loop], blocks: int, block: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(seconds of each block, learnt tokens of each block), by mode, without the first block."""
    steps = {
        mode: [step for epoch in range(3) for step in engine.sampler.steps(epoch)] for mode, engine in engines.items()
    }
    seconds: dict[str, list[float]] = {mode: [] for mode in engines}
    tokens: dict[str, list[float]] = {mode: [] for mode in engines}
    for number in range(blocks):
        for mode, engine in engines.items():
            some = steps[mode][number * block : (number + 1) * block]
            started = time.perf_counter()
            for step in some:
                engine._step(step)
            seconds[mode].append(time.perf_counter() - started)
            tokens[mode].append(sum(engine.objective.weight(micro, 0) for step in some for micro in step))
    return {mode: each[1:] for mode, each in seconds.items()}, {mode: each[1:] for mode, each in tokens.items()}


def table(engines: dict[str, Loop], rows: TokenizedRows, seconds: dict[str, Any], tokens: dict[str, Any]) -> str:
    lines = ["| batches | learnt tokens/s | ratio | positions that are padding |", "|---|---|---|---|"]
    speed = {mode: np.array(tokens[mode]) / np.array(seconds[mode]) for mode in engines}
    for mode, engine in engines.items():
        ratio = float(np.median(speed[mode] / speed["random"]))
        padding = 1 - int(rows.lengths.sum()) / engine.sampler.positions(engine.sampler.steps(0))
        lines.append(f"| {mode} | {np.median(speed[mode]):,.0f} | {ratio:.2f} | {padding:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Language models through the loop: the loss is that of plain torch, and settings of speed change nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysft.config.sections import ModelSection, TrainSection
from raysft.model.language import build_language_model, learn_few_positions, learns_few_positions
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import ranks
from raysft.training.dropout import RowDropout
from raysft.training.language import Language
from raysft.training.lessons import lesson_of
from raysft.training.loop import Loop
from raysft.training.objective import Batch
from raysft.training.precision import Precision
from tests.support.language import pieces_of, texts, write_causal_base, write_masked_base
from tests.support.ranks import run_on_ranks
from tests.support.runs import lines_of, trajectory

CPU = torch.device("cpu")
TASKS = ("masked-lm", "causal-lm")
SETTINGS = TrainSection(
    epochs=2, batch_size=16, learning_rate=3e-3, head_learning_rate=3e-3, seed=3, select="loss", precision="fp32"
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    masked = write_masked_base(tmp_path_factory.mktemp("masked"))
    causal = write_causal_base(tmp_path_factory.mktemp("causal"))
    return {"masked-lm": resolve_base(str(masked)), "causal-lm": resolve_base(str(causal))}


def make_loop(
    base: Base, task: str, folder: Path, settings: TrainSection = SETTINGS, micro: int = 16, strategy: str = "ddp"
) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    model = build_language_model(base, ModelSection(), task, settings.seed)
    train, validation = pieces_of(base, [*texts(90), " ".join(texts(9))], task), pieces_of(base, texts(30, 1), task)
    return Loop(
        model=model,
        objective=Language(lesson_of(task, base.folder, model), train, validation, settings.seed, 0, CPU, sums=True),
        settings=settings,
        micro_batch=micro,
        train=train,
        precision=Precision.plain(CPU),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        strategy=strategy,
    )


@pytest.mark.parametrize("task", TASKS)
def test_first_step_agrees_with_plain_torch_in_float64(bases: dict[str, Base], tmp_path: Path, task: str) -> None:
    """Step 1 without dropout: a model in double precision, one row at a time, all logits, torch's own mean."""
    settings = SETTINGS.model_copy(update={"clip_norm": None})
    loop = make_loop(bases[task], task, tmp_path, settings, micro=4)
    for module in loop.model.modules():
        if isinstance(module, RowDropout):
            module.p = 0.0
    reference = build_language_model(bases[task], ModelSection(), task, settings.seed).double().eval()
    lesson = lesson_of(task, bases[task].folder, reference)
    rows = np.concatenate(loop.sampler.steps(0)[0])
    loop.run()
    logits, said = [], []
    for row in rows:
        row_ids, marks = loop.train.tokens(row), loop.train.targets(row)
        read, learnt, targets = lesson.teach(row_ids, marks, settings.seed, 0, int(row))
        ids = torch.from_numpy(read.astype(np.int64))[None]
        logits.append(reference(input_ids=ids).logits[0, torch.from_numpy(learnt)])
        said.append(torch.from_numpy(targets.astype(np.int64)))
    loss = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(said))
    torch.autograd.backward(loss)
    norm = torch.stack([(p.grad**2).sum() for p in reference.parameters() if p.grad is not None]).sum().sqrt()
    found_loss, found_norm = trajectory(tmp_path)[0]
    # float32 against float64: seven digits, less what sums over some thousand terms cost.
    assert found_loss == pytest.approx(loss.item(), rel=1e-5)
    assert found_norm == pytest.approx(norm.item(), rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_micro_batches_do_not_change_the_trajectory(bases: dict[str, Base], tmp_path: Path, task: str) -> None:
    """With dropout on: 1 micro-batch of 16 rows, and 4 of 4. float32 sums in another order differ by 1e-7 a step."""
    make_loop(bases[task], task, tmp_path / "whole").run()
    make_loop(bases[task], task, tmp_path / "split", micro=4).run()
    np.testing.assert_allclose(trajectory(tmp_path / "split"), trajectory(tmp_path / "whole"), rtol=1e-4, atol=1e-5)
    scores = [[line for line in lines_of(tmp_path / name) if "validation_loss" in line] for name in ("whole", "split")]
    for whole, split in zip(*scores, strict=True):
        assert split["validation_loss"] == pytest.approx(whole["validation_loss"], rel=1e-4)
        assert whole["validation_perplexity"] == pytest.approx(np.exp(whole["validation_loss"]))


@pytest.mark.parametrize("task", TASKS)
def test_resumed_is_bit_identical_and_tied_tensors_are_stored_once(
    bases: dict[str, Base], tmp_path: Path, task: str
) -> None:
    """Stopped within an epoch, after a checkpoint; embeddings and head share a tensor before and after."""
    from safetensors import safe_open

    settings = SETTINGS.model_copy(update={"save_every": 3})
    whole = make_loop(bases[task], task, tmp_path / "whole", settings)
    whole.run()
    first = make_loop(bases[task], task, tmp_path / "cut", settings)
    for step in first.sampler.steps(0)[:4]:
        first._step(step)
    second = make_loop(bases[task], task, tmp_path / "cut", settings)
    second.run()
    assert second.resumed_from == 3
    assert ranks.weights_digest(second.model) == ranks.weights_digest(whole.model)
    model: Any = second.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with safe_open(next((tmp_path / "cut" / "checkpoints").glob("step-*/model.safetensors")), "pt") as file:
        assert set(file.keys()) == {name for name, _ in model.named_parameters()} | {
            n for n, _ in model.named_buffers() if n in model.state_dict()
        }


def run_loop(base: Base, task: str, folder: Path, strategy: str) -> None:
    make_loop(base, task, folder, micro=8, strategy=strategy).run()


@pytest.mark.parametrize(("task", "strategy"), [("masked-lm", "ddp"), ("masked-lm", "fsdp"), ("causal-lm", "ddp")])
def test_two_ranks_follow_the_trajectory_of_one(
    bases: dict[str, Base], tmp_path: Path, task: str, strategy: str
) -> None:
    """With dropout on; under fsdp the tensor that embeddings and head share is shared out as well."""
    run_loop(bases[task], task, tmp_path / "one", "ddp")
    run_on_ranks(2, run_loop, bases[task], task, tmp_path / "two", strategy, folder=tmp_path / "ranks")
    np.testing.assert_allclose(trajectory(tmp_path / "two"), trajectory(tmp_path / "one"), rtol=1e-4, atol=1e-5)
    losses = [
        [line["validation_loss"] for line in lines_of(tmp_path / name) if "validation_loss" in line]
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_validation_hides_the_same_tokens_each_time(bases: dict[str, Base], tmp_path: Path) -> None:
    from raysft.training.forward import evaluating

    loop = make_loop(bases["masked-lm"], "masked-lm", tmp_path)
    loop.model.eval()
    forward = evaluating(loop.model, loop.precision)
    assert loop.objective.judge(forward).scores == loop.objective.judge(forward).scores


def test_an_evaluation_computes_no_more_positions_at_once_than_training(
    bases: dict[str, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysft.training import forward

    loop = make_loop(bases["masked-lm"], "masked-lm", tmp_path)
    loop.model.eval()
    shapes: list[torch.Size] = []

    def computed(batch: Batch) -> torch.Tensor:
        shapes.append(batch.inputs["input_ids"].shape)
        return forward.evaluating(loop.model, loop.precision)(batch)

    whole = loop.objective.judge(computed).scores
    assert max(rows * tokens for rows, tokens in shapes) > 64
    shapes.clear()
    monkeypatch.setattr(forward, "CPU_MICRO_TOKENS", 64)
    assert loop.objective.judge(computed).scores == pytest.approx(whole, rel=1e-5)
    assert all(rows * tokens <= 64 for rows, tokens in shapes)


def test_training_hides_other_tokens_each_epoch(bases: dict[str, Base], tmp_path: Path) -> None:
    objective = make_loop(bases["masked-lm"], "masked-lm", tmp_path).objective
    rows = np.arange(16)
    first, again, later = (objective.batch(rows, epoch).inputs["learnt"].tolist() for epoch in (0, 0, 1))
    assert first == again != later
    assert objective.weight(rows, 0) == len(first)
    assert sum(objective.weight(part, 0) for part in np.array_split(rows, 4)) == len(first)


def kinds() -> list[Any]:
    from transformers import (
        BartConfig,
        BartForCausalLM,
        DistilBertConfig,
        DistilBertForMaskedLM,
        ElectraConfig,
        ElectraForMaskedLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        ModernBertConfig,
        ModernBertForMaskedLM,
        OPTConfig,
        OPTForCausalLM,
        RobertaConfig,
        RobertaForMaskedLM,
    )

    small: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"intermediate_size": 32, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    modern = {"cls_token_id": 0, "sep_token_id": 0}
    return [
        DistilBertForMaskedLM(DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32)),
        ElectraForMaskedLM(ElectraConfig(**small, embedding_size=8)),
        RobertaForMaskedLM(RobertaConfig(**small)),
        ModernBertForMaskedLM(ModernBertConfig(**small, **modern)),
        GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)),
        LlamaForCausalLM(LlamaConfig(**small)),
        OPTForCausalLM(OPTConfig(**small, ffn_dim=32, word_embed_proj_dim=8)),
        BartForCausalLM(BartConfig(vocab_size=50, d_model=16, decoder_layers=1, decoder_attention_heads=2)),
    ]


def test_few_positions_give_the_logits_that_all_positions_would() -> None:
    """The hooks of every kind of stock class; without `learnt` the model is as it was."""
    ids = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    learnt = torch.tensor([0, 5, 8, 20])
    for model in kinds():
        model.eval()
        mask = torch.ones_like(ids)
        whole = model(input_ids=ids, attention_mask=mask).logits
        learn_few_positions(model, "masked-lm" if "Masked" in type(model).__name__ else "causal-lm")
        few = model(input_ids=ids, attention_mask=mask, learnt=learnt).logits
        torch.testing.assert_close(few[0], whole.flatten(0, 1)[learnt], msg=type(model).__name__)
        torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, whole)
        assert learns_few_positions(model)


def test_hooks_without_effect_are_noticed() -> None:
    model = kinds()[-1]
    learn_few_positions(model, "masked-lm")  # of a whole BART, whose encoder this one has not
    assert not learns_few_positions(model)


@pytest.mark.parametrize("tied", [True, False])
def test_under_adapters_only_what_the_base_has_not_learns(bases: dict[str, Base], tmp_path: Path, tied: bool) -> None:
    """A head over the vocabulary that the base knows may be a third of it, and stays."""
    from transformers import LlamaConfig, LlamaForCausalLM

    small: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**small, intermediate_size=32, tie_word_embeddings=tied)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bases["causal-lm"].folder / name, tmp_path / name)
    adapted = ModelSection.model_validate({"lora": {"r": 2}})
    model = build_language_model(resolve_base(str(tmp_path)), adapted, "causal-lm", 0)
    learning = [name for name, each in model.named_parameters() if each.requires_grad]
    assert len(learning) == 14 and all(".lora_" in name for name in learning)
    masked = build_language_model(bases["masked-lm"], adapted, "masked-lm", 0)
    new = {name for name, each in masked.named_parameters() if each.requires_grad and ".lora_" not in name}
    assert new and all(name.startswith("cls.") for name in new)

"""Which layers rest is found by trying; what they give is handed on where rows are known, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.first_token import read_first_token
from raysft.model.frozen import Replay, near
from raysft.model.groups import recipe_of
from raysft.model.language import learn_few_positions
from raysft.training.dropout import use_row_dropout
from raysft.training.frozen import Shelf, bytes_needed
from raysft.training.precision import Precision

PLAIN = Precision.plain(torch.device("cpu"))
ROOM = 10**8
COMMON = {"vocab_size": 60, "num_labels": 5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40,
}  # fmt: skip
OTHERS = {
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40},
}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "norm_rel_ebd": "layer_norm"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_of(count: int = 30, seed: int = 0, longest: int = 20) -> TokenizedRows:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(2, longest, count).tolist()
    return from_lists([draw.integers(3, 60, length).tolist() for length in lengths], [0] * count)


def model_of(kind: str, task: str = "SequenceClassification", **config: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    described = transformers.AutoConfig.for_model(kind, **OTHERS.get(kind, SHAPE), **COMMON, **config)
    model = getattr(transformers, f"AutoModelFor{task}").from_config(described)
    with torch.no_grad():
        for parameter in model.parameters():  # weights of 0.02 would hide what is wrong
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


def attach(model: nn.Module, rows: TokenizedRows | Shelf, layers: int = 2, **freeze: Any) -> Replay | None:
    settings = ModelSection.model_validate({"freeze": {"embeddings": True, "layers": layers, **freeze}})
    shelf = rows if isinstance(rows, Shelf) else Shelf(rows, 0, ROOM)
    return shelf.attach(model, recipe_of(model, TrainSection(), settings), PLAIN)


def depth_of(replay: Replay | None) -> int:
    return 0 if replay is None else replay.seam.depth


def batch(rows: TokenizedRows, positions: list[int], more: int = 0) -> dict[str, torch.Tensor]:
    """Padded to the longest, and by some tokens more."""
    width = max(int(rows.lengths[each]) for each in positions) + more
    ids, mask = torch.full((2, len(positions), width), 0).unbind()
    for line, position in enumerate(positions):
        tokens = torch.tensor(rows.tokens(position).astype(np.int64))
        ids[line, : len(tokens)], mask[line, : len(tokens)] = tokens, 1
    return {"input_ids": ids.clone(), "attention_mask": mask.clone()}


@pytest.mark.parametrize(
    ("kind", "config", "depth"),
    [
        *((kind, {}, 2) for kind in ("bert", "roberta", "distilbert", "electra", "modernbert", "llama", "gemma2")),
        ("deberta-v2", {}, 2),  # gives a tuple
        ("deberta-v2", RELATIVE, 0),  # a norm beside the layers goes into each, and trains
        ("mpnet", {}, 0),  # as do the biases of distances
        ("convbert", {}, 0),  # convolutions see padding
        ("gpt2", {}, 0),  # dropout behind the embeddings that belongs to no module with weights
        ("gpt2", {"embd_pdrop": 0.0}, 2),
    ],
)
def test_how_many_layers_rest(kind: str, config: dict[str, Any], depth: int) -> None:
    """And that logits and gradients with them in place are those without."""
    model, rows = model_of(kind, **config), rows_of()
    modes = [module.training for module in model.modules()]
    given = batch(rows, [3, 4, 5, 6], more=2)
    before = _slopes(model, given)
    classes = [(type(module), module.training) for module in model.modules()]
    replay = attach(model, rows)
    assert depth_of(replay) == depth
    assert [module.training for module in model.modules()] == modes
    assert all(map(near, _slopes(model, given), before))
    if replay is not None:
        assert (replay.served, replay.computed) == (1, 0)
        replay.undo()
    assert [(type(module), module.training) for module in model.modules()] == classes
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert not model._forward_pre_hooks and not model._forward_hooks


def _slopes(model: Any, given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The logits, and their gradient in what stands above the second layer."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    logits = model(**given).logits
    above = [parameter for name, parameter in model.named_parameters() if ".2." in name or "classifier" in name]
    found = torch.autograd.grad(logits.square().sum(), above, allow_unused=True)
    for module, training in modes.items():
        module.training = training
    return [logits, torch.cat([each.flatten() for each in found if each is not None])]


def test_nothing_rests_where_something_below_trains() -> None:
    rows = rows_of()
    assert attach(model_of("bert"), rows, layers=0, embeddings=False) is None
    assert attach(model_of("bert"), rows, layers=0) is None  # the embeddings alone are looked up as fast
    assert attach(model_of("bert"), rows, layers=0, embeddings=False, pattern=r"layer\.[01]\.") is None
    assert depth_of(attach(model_of("bert"), rows, layers=1, pattern=r"layer\.1\.")) == 2
    assert depth_of(attach(model_of("bert"), rows, layers=1)) == 1


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_shares_the_embeddings(tied: bool) -> None:
    """A tied matrix is one parameter: where it is frozen both are, and where it trains nothing rests."""
    rows = rows_of()
    assert depth_of(attach(model_of("llama", "CausalLM", tie_word_embeddings=tied), rows)) == 2
    model = model_of("llama", "CausalLM", tie_word_embeddings=tied)
    settings = ModelSection.model_validate({"freeze": {"embeddings": False, "pattern": r"layers\.[01]\."}})
    assert Shelf(rows, 0, ROOM).attach(model, recipe_of(model, TrainSection(), settings), PLAIN) is None


def test_few_positions_of_known_rows_are_learnt_as_before() -> None:
    model, rows = model_of("llama", "CausalLM"), rows_of()
    learn_few_positions(model, "causal-lm")
    model.eval()
    given = {**batch(rows, [1, 2, 3]), "learnt": torch.tensor([0, 1, 5])}
    said = {**given, "said": torch.tensor([7, 8, 9])}
    with torch.inference_mode():
        before = [model(**each).logits for each in (given, said)]
        replay = attach(model, rows)
        assert replay is not None
        for each, expected in zip((given, said), before, strict=True):
            torch.testing.assert_close(model(**each).logits, expected, rtol=1e-4, atol=1e-4)
    assert (replay.served, replay.computed) == (2, 0)


def test_other_calls_are_computed_as_usual() -> None:
    """Unknown rows, masks with holes or of another shape, positions, embeddings, a cache, and layers called alone."""
    model, rows = model_of("llama").eval(), rows_of()
    known = batch(rows, [1, 2, 3], more=1)
    holes = {**known, "attention_mask": known["attention_mask"].clone()}
    holes["attention_mask"][:, 0] = 0
    other, width = (known["input_ids"] + 1) % 60, known["input_ids"].shape[1]
    calls: list[dict[str, Any]] = [
        batch(rows_of(seed=1), [1, 2]),
        {**known, "input_ids": other},
        holes,
        {**known, "attention_mask": torch.ones(3, 1, width, width, dtype=torch.bool).tril()},
        {**known, "position_ids": torch.arange(width)[None].expand(3, -1)},
        {**known, "use_cache": True},
        {"inputs_embeds": model.get_input_embeddings()(known["input_ids"]), "attention_mask": known["attention_mask"]},
    ]
    with torch.inference_mode():
        before = [model(**each).logits for each in calls]
        alone = model.base_model(input_ids=other).last_hidden_state
        replay = attach(model, rows)
        assert replay is not None
        for each, expected in zip(calls, before, strict=True):
            assert torch.equal(model(**each).logits, expected)
        assert (replay.served, replay.computed) == (0, len(calls))
        model(**known)
        assert replay.served == 1
        assert torch.equal(model.base_model(input_ids=other).last_hidden_state, alone)
        short = known["input_ids"][:1, : int(known["attention_mask"][0].sum())]
        model(input_ids=short)  # without a mask all tokens are the row's
        assert replay.served == 2


def test_a_failed_call_leaves_nothing_behind() -> None:
    model, rows = model_of("bert").eval(), rows_of()
    replay = attach(model, rows)
    assert replay is not None
    hook = model.classifier.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(**batch(rows, [1, 2]))
    hook.remove()
    assert replay.served == 1 and replay._held is None


def test_modes_names_and_tensors_stay() -> None:
    model, rows = model_of("bert"), rows_of()
    use_row_dropout(model)
    before = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    replay = attach(model, rows)
    assert replay is not None
    for training in (True, False):
        model.train(training)
        model(**batch(rows, [0, 1]))
        assert all(module.training is training for module in model.modules())
    assert replay.served == 2
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == before
    assert [name for name, _ in model.named_modules()] == names
    replay.undo()
    replay.undo()
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_rows_that_are_alike_share_a_place_and_a_first_token_takes_one() -> None:
    rows = from_lists([[5, 6, 7], [5, 6], [5, 6, 7], [8, 9, 10, 11]], [0, 1, 2, 0])
    shelf = Shelf(rows, 0, ROOM)
    replay = attach(model_of("bert"), shelf)
    assert replay is not None and bytes_needed(shelf.index, replay.seam) == (3 + 2 + 4) * 32 * 4
    first = model_of("bert")
    read_first_token(first)
    replay = attach(first, shelf, layers=3)
    assert replay is not None and replay.seam.first_only
    assert bytes_needed(shelf.index, replay.seam) == 3 * 32 * 4


def test_states_are_made_once_for_what_they_depend_on() -> None:
    """Another head asks for the same; other weights below, or another depth, do not."""
    shelf, made = Shelf(rows_of(), 0, ROOM), []

    def states(layers: int = 2, change: str = "") -> int:
        model = model_of("bert")
        with torch.no_grad():
            model.classifier.weight.normal_()
            if change:
                dict(model.named_parameters())[change].add_(1e-3)
        replay = attach(model, shelf, layers)
        assert replay is not None
        made.append(replay._states)
        return len({id(each) for each in made})

    assert [states(), states(), states(change="bert.encoder.layer.2.output.dense.bias")] == [1, 1, 1]
    assert [states(1), states(), states(change="bert.encoder.layer.1.output.dense.bias")] == [2, 2, 3]
    assert states(change="bert.embeddings.LayerNorm.weight") == 4


def test_what_goes_beyond_the_budget_is_computed_as_usual(tmp_path: Path) -> None:
    """In memory the states that were used longest ago go first; files stay, since others may want them."""
    rows = rows_of()
    size = int(rows.lengths.sum()) * 32 * 4
    assert attach(model_of("bert"), Shelf(rows, 0, size - 1)) is None
    shelf = Shelf(rows, 0, size)
    for layers in (2, 1, 2):
        assert depth_of(attach(model_of("bert"), shelf, layers)) == layers
        assert len(shelf._held) == 1
    shared = Shelf(rows, 0, size + 1000, tmp_path / "states")
    assert depth_of(attach(model_of("bert"), shared)) == 2
    assert attach(model_of("bert"), shared, 1) is None
    assert depth_of(attach(model_of("bert"), Shelf(rows, 0, size + 1000, tmp_path / "states"))) == 2
    assert len(list((tmp_path / "states").glob("*.npy"))) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_file_holds_the_bits_that_were_computed(tmp_path: Path, precision: str) -> None:
    rows, how = rows_of(), Precision(precision, torch.device("cpu"))
    found = []
    for folder in (None, tmp_path, tmp_path):
        model = model_of("bert").eval()
        recipe = recipe_of(model, TrainSection(), ModelSection.model_validate({"freeze": {"layers": 2}}))
        replay = Shelf(rows, 0, ROOM, folder).attach(model, recipe, how)
        assert replay is not None
        given = batch(rows, [1, 2, 3])
        states = replay._states.of(given["input_ids"], given["attention_mask"])
        assert states is not None and states.dtype == replay.seam.dtype
        found.append(states)
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])
    assert not list(tmp_path.glob("*.tmp-*"))


def test_a_writer_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, shelf = rows_of(), Shelf(rows_of(), 0, ROOM, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("raysft.training.frozen.settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            attach(model_of("bert"), shelf)
    assert [each.suffix for each in tmp_path.iterdir()] == [".lock"]
    assert depth_of(attach(model_of("bert"), Shelf(rows, 0, ROOM, tmp_path))) == 2

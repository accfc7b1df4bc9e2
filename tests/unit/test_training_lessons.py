"""Which tokens are hidden: a pure function of seed, epoch and row, of the right share, never a special token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from raysft.config.sections import ModelSection
from raysft.errors import UsageError
from raysft.model.language import build_language_model, sees_what_follows
from raysft.storage.pretrained import resolve_base
from raysft.training.language import lesson_batch, token_losses
from raysft.training.lessons import HiddenTokens, NextTokens, lesson_of
from tests.support.language import pieces_of, write_masked_base

MASK, VOCABULARY = 4, 100
SPECIAL = [0, 1, 2, 3, MASK]
NONE = np.zeros(0, np.int32)  # marks
LESSON = HiddenTokens(MASK, np.arange(VOCABULARY) >= 5)
IDS = st.lists(st.integers(0, VOCABULARY - 1), max_size=60).map(lambda each: np.array(each, np.int32))
WHEN = st.tuples(st.integers(0, 2**31), st.integers(0, 50), st.integers(0, 10**6))


@given(IDS, WHEN)
def test_masks_are_pure_and_hide_ordinary_tokens_only(ids: np.ndarray, when: tuple[int, int, int]) -> None:
    before = ids.copy()
    read, learnt, said = LESSON.teach(ids, NONE, *when)
    again = LESSON.teach(ids, NONE, *when)
    assert all(np.array_equal(a, b) for a, b in zip((read, learnt, said), again, strict=True))
    assert np.array_equal(ids, before)
    assert np.array_equal(said, ids[learnt]) and not np.isin(said, SPECIAL).any()
    assert len(np.unique(learnt)) == len(learnt) == LESSON.count(ids, NONE, *when)
    ordinary = int(LESSON.ordinary[ids].sum())
    assert (ordinary == 0) == (len(learnt) == 0)
    assert abs(len(learnt) - 0.15 * ordinary) < 1  # rounded up or down, and at least one
    elsewhere = np.setdiff1d(np.arange(len(ids)), learnt)
    assert np.array_equal(read[elsewhere], ids[elsewhere])
    assert not np.isin(read[learnt], [0, 1, 2, 3]).any()


def test_15_percent_of_which_80_are_masks_10_others_and_10_as_they_are() -> None:
    """4,000 rows of 50 tokens: 30,000 learnt. The standard deviations are 0.001 (of 0.15: rounding), 0.0023, 0.0017."""
    ids = np.full(50, 7, np.int32)
    reads = [LESSON.teach(ids, NONE, 3, 0, row)[:2] for row in range(4000)]
    seen = np.concatenate([read[learnt] for read, learnt in reads])
    assert len(seen) / (50 * 4000) == pytest.approx(0.15, abs=0.004)
    assert (seen == MASK).mean() == pytest.approx(0.8, abs=0.01)
    # A random token is the one that stood there in 1 of 95.
    assert (seen == 7).mean() == pytest.approx(0.1 + 0.1 / 95, abs=0.008)
    places = np.bincount(np.concatenate([learnt for _, learnt in reads]), minlength=50)
    assert places.min() > 450 and places.max() < 760  # 600 each, standard deviation 23


def test_other_epochs_rows_and_seeds_hide_other_tokens() -> None:
    ids = np.full(60, 9, np.int32)
    seen = {tuple(LESSON.teach(ids, NONE, *when)[1]) for when in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]}
    assert len(seen) == 4


def test_the_next_token_is_learnt_at_every_place_but_the_last() -> None:
    read, learnt, said = NextTokens(VOCABULARY).teach(np.array([5, 6, 7], np.int32), NONE, 0, 0, 0)
    assert (read.tolist(), learnt.tolist(), said.tolist()) == ([5, 6, 7], [0, 1], [6, 7])


def test_a_batch_learns_real_tokens_only(tmp_path: Path) -> None:
    """Places count the flattened, padded batch."""
    base = resolve_base(str(write_masked_base(tmp_path)))
    rows = pieces_of(base, ["a", "a my the is it for with hello"], "masked-lm")
    batch, counts = lesson_batch(NextTokens(300), rows, np.array([0, 1]), (0, 0), 0, torch.device("cpu"))
    assert rows.lengths.tolist() == [3, 10] and counts.tolist() == [2, 9]
    assert batch.inputs["learnt"].tolist() == [0, 1, *range(10, 19)]
    ids = batch.inputs["input_ids"]
    assert batch.targets.tolist() == [*ids[0, 1:3].tolist(), *ids[1, 1:].tolist()]


def test_losses_are_cross_entropy_of_each_learnt_token() -> None:
    logits = torch.tensor([[[0.0, 0.0], [np.log(3.0), 0.0]]])
    losses = token_losses(logits, torch.tensor([1, 1]))
    torch.testing.assert_close(losses, torch.tensor([np.log(2.0), np.log(4.0)], dtype=torch.float32))


def test_special_tokens_of_the_tokenizer_are_never_ordinary(tmp_path: Path) -> None:
    base = resolve_base(str(write_masked_base(tmp_path)))
    lesson = lesson_of("masked-lm", base.folder, build_language_model(base, ModelSection(), "masked-lm", 0))
    assert isinstance(lesson, HiddenTokens) and lesson.mask_id == 4
    assert np.flatnonzero(~lesson.ordinary).tolist() == [0, 1, 2, 3, 4]


def test_a_tokenizer_without_a_mask_is_refused(base_folder: Path) -> None:
    base = resolve_base(str(base_folder))
    with pytest.raises(UsageError, match=r"model\.base.*mask token"):
        lesson_of("masked-lm", base.folder, build_language_model(base, ModelSection(), "masked-lm", 0))


def test_bases_whose_tokens_see_what_follows_are_told_apart() -> None:
    """A causal language model learns the next token, and needs no mask for padding behind it: true of decoders only."""
    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    for kind, more, sees in (
        ("llama", {"intermediate_size": 64}, False),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2}, False),
        ("bert-generation", {"intermediate_size": 64}, True),
        ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}, True),
    ):
        config = AutoConfig.for_model(kind, **(sizes if "d_model" not in more else {"vocab_size": 50}), **more)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
        assert sees_what_follows(model) == sees, kind

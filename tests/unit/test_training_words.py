"""The score of a label is what the model gives its tokens behind the text, whatever is computed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysft.corpus.label_words import LabelWords
from raysft.corpus.template import template_of
from raysft.corpus.tokens import from_lists
from raysft.model.language import load_language_model
from raysft.model.trees import takes_trees
from raysft.training import words as scoring
from raysft.training.forward import evaluating
from raysft.training.objective import Batch
from raysft.training.precision import Precision
from raysft.training.words import LabelScorer
from tests.support.answering import write_chat_model

CPU = torch.device("cpu")
LABELS = ("card", "card_arrival", "card_arrival_late", "card lost", "größer", "parcel", "x", "parcel, of course")
TEXTS = ["where is my parcel", "hi", "größer als naïve 你好 🙂", "one two three four five, of course " * 2, "x"]


class Finished:
    """A model folder, loaded twice: for us, and as anybody loads it."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.model = load_language_model(folder, "generation")
        self.plain: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.words = LabelWords(template_of(folder), folder / "tokenizer.json", 200, LABELS)
        self.scorer = LabelScorer.of(self.model, self.words.answers, 200, 0, CPU)

    def scores(self, texts: list[str], scorer: LabelScorer | None = None) -> np.ndarray[Any, Any]:
        ids, _ = self.words.prompts(texts)
        forward = evaluating(self.model, Precision.plain(CPU))
        return (scorer or self.scorer).scores(forward, from_lists(ids, [-1] * len(ids)))

    def by_hand(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Each text with each label alone, all logits, by the stock model."""
        (prompts, _), found = self.words.prompts(texts), np.zeros((len(texts), len(LABELS)))
        for row, prompt in enumerate(prompts):
            for number, answer in enumerate(self.words.answers):
                with torch.inference_mode():
                    logits = self.plain(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
                said = torch.tensor(answer)
                found[row, number] = logits[len(prompt) - 1 : -1].gather(1, said[:, None]).sum().item()
        return found


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(write_chat_model(tmp_path_factory.mktemp(request.param), request.param))


def test_scores_are_those_of_each_text_with_each_label_alone(finished: Finished) -> None:
    """Labels of one and of many tokens, and some that others begin with; sums of some 20 float32 logarithms."""
    assert finished.scorer.tree == "boolean"
    assert {len(answer) for answer in finished.words.answers} >= {2, 6}
    found, wanted = finished.scores(TEXTS), finished.by_hand(TEXTS)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert wanted.std() > 1


def test_rows_do_not_depend_on_their_batch(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    together = finished.scores(TEXTS)
    np.testing.assert_allclose([finished.scores([text])[0] for text in TEXTS], together, atol=1e-4)
    monkeypatch.setattr(scoring, "EVAL_BATCH", 2)
    np.testing.assert_allclose(finished.scores(TEXTS[::-1])[::-1], together, atol=1e-4)


def test_a_row_s_own_label_is_not_read(finished: Finished) -> None:
    """The shards of a job hold text and label together."""
    forward = evaluating(finished.model, Precision.plain(CPU))
    given = [finished.words.encode(TEXTS, [label] * len(TEXTS)) for label in ("x", "parcel, of course")]
    first, second = (finished.scorer.scores(forward, from_lists(ids, [0] * len(ids), marks)) for ids, marks, _ in given)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, finished.scores(TEXTS))


@pytest.mark.parametrize("most", [0, 3, 7])
def test_many_labels_are_scored_a_few_at_a_time(finished: Finished, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """And never more logits at once than allowed."""
    wanted, whole = finished.scores(TEXTS), finished.scorer
    monkeypatch.setattr(scoring, "LOGITS_BYTES", 4 * whole.vocabulary * (most + 1))
    scorer = LabelScorer(whole.answers, whole.vocabulary, 0, CPU, whole.tree)
    seen: list[int] = []
    plain = evaluating(finished.model, Precision.plain(CPU))

    def watched(batch: Batch) -> torch.Tensor:
        logits = plain(batch)
        seen.append(logits.shape[1])
        return logits

    ids, _ = finished.words.prompts(TEXTS)
    np.testing.assert_allclose(scorer.scores(watched, from_lists(ids, [-1] * len(ids))), wanted, atol=1e-4)
    assert len(seen) > len(TEXTS)
    assert max(seen) <= max(most + 1, finished.words.longest)


def test_a_model_that_reads_no_trees_scores_alike(finished: Finished) -> None:
    alone = LabelScorer(finished.scorer.answers, finished.scorer.vocabulary, 0, CPU, None)
    np.testing.assert_allclose(finished.scores(TEXTS, alone), finished.by_hand(TEXTS), atol=1e-4)


def test_the_sum_over_the_vocabulary_is_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 5)
    monkeypatch.setattr(scoring, "AT_ONCE", 4 * 5 * 3)
    torch.testing.assert_close(scoring._normaliser(logits), logits.logsumexp(-1))


# --- which models read trees


def kinds() -> dict[str, Any]:
    from transformers import (
        BloomConfig,
        BloomForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        OPTConfig,
        OPTForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )  # fmt: skip

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    small = sizes | {"intermediate_size": 32, "num_key_value_heads": 1, "initializer_range": 0.3}
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**small)),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)),
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**small, head_dim=8)),
        "mistral": MistralForCausalLM(MistralConfig(**small, sliding_window=32)),
        "opt": OPTForCausalLM(OPTConfig(**sizes, ffn_dim=32, word_embed_proj_dim=16, init_std=0.3)),
        "bloom": BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2)),
    }


def test_only_models_whose_branches_are_as_if_alone_read_trees() -> None:
    """Bloom's positions are distances in the sequence; of Mistral a window is all that a token sees."""
    models = kinds()
    found = {name: takes_trees(model, 16) for name, model in models.items()}
    assert found["llama"] == found["gpt2"] == found["qwen3"] == found["mistral"] == "boolean"
    assert found["bloom"] is None
    assert takes_trees(models["mistral"], 33) is None
    models["llama"].set_attn_implementation("eager")
    assert takes_trees(models["llama"], 16) == "added"
    models["llama"].config._attn_implementation = "flash_attention_2"
    assert takes_trees(models["llama"], 16) is None


@pytest.mark.parametrize("name", ["opt", "bloom", "mistral"])
def test_every_decoder_is_scored_as_if_each_label_stood_alone(name: str) -> None:
    from raysft.model.language import learn_few_positions

    model = kinds()[name].eval()
    answers, prompts = [(3, 4, 5), (3, 4), (7,), (3, 9, 9, 9)], [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    wanted = np.zeros((3, 4))
    for row, prompt in enumerate(prompts):
        for number, answer in enumerate(answers):
            with torch.inference_mode():
                log_p = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
            wanted[row, number] = log_p[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None]).sum()
    learn_few_positions(model, "causal-lm")
    scorer = LabelScorer.of(model, answers, 16, 0, CPU)
    found = scorer.scores(evaluating(model, Precision.plain(CPU)), from_lists(prompts, [-1] * 3))
    np.testing.assert_allclose(found, wanted, atol=1e-4)

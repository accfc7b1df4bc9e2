"""Labels as words: a language model learns to say the label of a text; it is scored on all labels as a classifier is.

The score of a label is the log-likelihood of its tokens, its end among them, behind the text. Scores stand where a
classifier has logits: softmax makes them probabilities of labels, whatever else the model might have said.
B rows, C labels, P tokens of the longest prompt of a batch, N nodes of a trie (corpus/tries.py), V tokens of the
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from raysft.corpus.tokens import TokenizedRows
from raysft.corpus.tries import Trie, tries_of
from raysft.metrics.judged import Judged, judge_one_label
from raysft.model.language import LEARNT
from raysft.model.trees import takes_trees, tree_mask
from raysft.training import ranks
from raysft.training.forward import EVAL_BATCH, batches_of, shared_out
from raysft.training.language import LOGITS_BYTES, Language
from raysft.training.objective import Batch, Forward

MOST_NODES = 512  # of a trie: a sequence's mask grows with their square
AT_ONCE = 64 * 2**20  # bytes of the float32 copy from which sums over the vocabulary are taken
Array = np.ndarray[Any, Any]


class Words:
    """The objective of `task: classification` where labels are words: trained as Language, scored as Classification."""

    def __init__(self, language: Language, validation: TokenizedRows, scorer: LabelScorer) -> None:
        self._language, self._validation, self._scorer = language, validation, scorer
        self.weight, self.batch, self.loss = language.weight, language.batch, language.loss

    def judge(self, forward: Forward) -> Judged:
        part = self._validation
        return judge_one_label(part.row_id, part.label, self._scorer.scores(forward, part)) if len(part) else Judged()


@dataclass(frozen=True)
class LabelScorer:
    """How likely a model finds each label behind each text."""

    answers: tuple[tuple[int, ...], ...]  # tokens of each label
    vocabulary: int
    pad_id: int
    device: torch.device
    tree: str | None  # how the model reads sequences that branch, see takes_trees; None: each label behind a prompt

    @staticmethod
    def of(
        model: Any, answers: Sequence[Sequence[int]], max_length: int, pad_id: int, device: torch.device
    ) -> LabelScorer:
        """max_length: tokens of a text with its label."""
        vocabulary = int(model.config.get_text_config().vocab_size)
        return LabelScorer(tuple(map(tuple, answers)), vocabulary, pad_id, device, takes_trees(model, max_length))

    def scores(self, forward: Forward, rows: TokenizedRows) -> Array:
        """Log-likelihood of each label, float32 (rows, C); the ranks share the work.

        Of rows that hold their label it is not read: their targets tell where it begins.
        """
        prompts = [_prompt(rows, at) for at in range(len(rows))]
        lengths = np.array([len(prompt) for prompt in prompts], np.int64)
        found = np.zeros((len(rows), len(self.answers)), np.float32)
        for trie in self._tries:
            most = min(EVAL_BATCH, max(1, LOGITS_BYTES // (4 * self.vocabulary * (len(trie) + 1))))
            batches = shared_out(batches_of(lengths + len(trie), most, self.device))
            mine = [(some, self._scored(forward, [prompts[at] for at in some], trie)) for some in batches]
            for some, scores in (piece for rank in ranks.gather(mine) for piece in rank):
                found[np.ix_(some, trie.answers)] = scores
        return found

    @cached_property
    def _tries(self) -> list[Trie]:
        """Whose logits behind one prompt take at most LOGITS_BYTES, if one label's do. Without branches: of one label
        each."""
        most = min(MOST_NODES, LOGITS_BYTES // (4 * self.vocabulary) - 1)
        if self.tree is None:
            return [Trie.of(self.answers, [number]) for number in range(len(self.answers))]
        return tries_of(self.answers, most)

    def _scored(self, forward: Forward, prompts: list[Array], trie: Trie) -> Array:
        """Scores of the labels of a trie behind each prompt, (B, labels of the trie)."""
        logits = forward(branched(prompts, trie, self.pad_id, self.tree, self.device))[0]
        first = (len(trie) + 1) * np.arange(len(prompts))[:, None]
        places = torch.from_numpy(first + trie.after[None]).to(self.device)  # (B, E)
        tokens = torch.from_numpy(trie.scored).to(self.device).expand_as(places)
        log_p = logits[places, tokens].float() - _normaliser(logits)[places]
        scores: Array = log_p.double().cpu().numpy() @ trie.holds.T
        return scores


def branched(prompts: Sequence[Array], trie: Trie, pad_id: int, tree: str | None, device: torch.device) -> Batch:
    """Each prompt with the nodes of a trie behind it, as one batch of B rows of P + N tokens at most; logits are asked
    for at the end of the prompt and at each node, (1, B (N + 1), V). tree: form of the mask; None: the trie does not
    branch, and no token sees what follows it."""
    lengths = np.array([len(prompt) for prompt in prompts])
    width = int(lengths.max()) + len(trie)
    ids = np.full((len(prompts), width), pad_id, np.int64)
    places = np.broadcast_to(np.arange(width), ids.shape).copy()
    learnt = lengths[:, None] - 1 + np.arange(len(trie) + 1)[None] + width * np.arange(len(prompts))[:, None]
    for row, (prompt, start) in enumerate(zip(prompts, lengths.tolist(), strict=True)):
        end = start + len(trie)
        ids[row, :start], ids[row, start:end] = prompt, trie.tokens
        places[row, start:end] = start + trie.depth
        places[row, end:] = 0
    inputs = {"input_ids": torch.from_numpy(ids), LEARNT: torch.from_numpy(learnt.reshape(-1))}
    if tree is not None:
        inputs["position_ids"] = torch.from_numpy(places)
    inputs = {name: value.to(device) for name, value in inputs.items()}
    if tree is not None:
        allowed = np.broadcast_to(np.tri(width, dtype=bool), (len(prompts), width, width)).copy()
        for row, start in enumerate(lengths.tolist()):
            allowed[row, start : start + len(trie), start : start + len(trie)] = trie.sees
        inputs["attention_mask"] = tree_mask(torch.from_numpy(allowed).to(device), tree)
    return Batch(inputs, inputs[LEARNT])


def _prompt(rows: TokenizedRows, at: int) -> Array:
    """The tokens of a row before those that are learnt; all of them where none is."""
    ids, marks = rows.tokens(at), rows.targets(at)
    return ids[: int(np.argmax(marks))] if marks.any() else ids


def _normaliser(logits: torch.Tensor) -> torch.Tensor:
    """The logarithm of the sum of the exponentials of a token's logits, float32 (M,). logits: any float, (M, V)."""
    size = max(1, AT_ONCE // (4 * logits.shape[1]))
    return torch.cat([each.float().logsumexp(-1) for each in torch.split(logits, size)])

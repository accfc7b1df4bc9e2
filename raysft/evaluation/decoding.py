"""Writing answers: prompts in batches of like length, token after token, each answer as if its prompt were alone.

Prompts are padded on the left and padding is masked, so that a row's tokens have the positions they would have alone.
Drawn tokens come from numbers of (seed, row, token), so that batches change nothing there either.
B rows of a batch, L tokens of the longest prompt, N tokens that were written so far, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config.sections import GenerationSection
from raysft.corpus.messages import Turn
from raysft.corpus.special import added_behind, end_tokens, special_ids
from raysft.corpus.template import template_of
from raysft.events import Listener, Silent
from raysft.metrics.scores import Array
from raysft.model.language import load_language_model
from raysft.model.padding import pad_id
from raysft.storage.commit import read_json
from raysft.training.forward import EVAL_BATCH, batches_of
from raysft.training.precision import Precision

END_MARK, STOP_TEXT, MOST_TOKENS = "end mark", "stop text", "max_new_tokens"  # why an answer ended
SAYING = 16  # tells these generators from those of lessons and dropout, which have the same seed and row


@dataclass(frozen=True)
class Answer:
    """What was written after one prompt."""

    text: str  # without what ended it, and without space around
    ended: str  # END_MARK, STOP_TEXT or MOST_TOKENS
    log_p: float  # mean log-probability that the model gives the tokens written, an end mark among them, in nats
    tokens: int  # that were written, an end mark or stop text included
    cut: int  # tokens that the prompt lost at its beginning


class Answerer:
    """A finished causal language model, its tokenizer and its template, on the device at hand.

    Raises UsageError, OSError where the folder is none that transformers loads.
    """

    def __init__(self, folder: Path, settings: GenerationSection | None = None) -> None:
        """settings: how answers are written; None: as the model's own job says."""
        facts = read_json(folder / "raysft.json") if (folder / "raysft.json").is_file() else {}
        job = facts.get("job", {})
        self.settings = settings or GenerationSection.model_validate(job.get("generation", {}))
        self.precision = Precision.plain(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.model: Any = load_language_model(folder, "causal-lm").to(self.precision.device)
        self.max_length = int(facts.get("max_length", _positions(self.model) or 512))
        self.prompts = Prompts(folder)
        self._seed = int(job.get("train", {}).get("seed", 0))
        self._ends = Ends.of(folder, self.prompts, self.model, self.settings.stop)
        self._forget_defaults()

    @property
    def new_tokens(self) -> int:
        """Most tokens of an answer: max_new_tokens; where the model has no positions for so many beside a prompt, which
        `check` refuses in a job, half of what it has."""
        asked, positions = self.settings.max_new_tokens, _positions(self.model)
        return asked if positions is None or asked < positions else max(1, positions // 2)

    @property
    def room(self) -> int:
        """Most tokens of a prompt: as many as were kept of rows in training, if an answer has its place behind them."""
        positions = _positions(self.model)
        return self.max_length if positions is None else max(1, min(self.max_length, positions - self.new_tokens))

    def answer(
        self,
        conversations: Sequence[Sequence[Turn]],
        numbers: Sequence[int] | None = None,
        listener: Listener | None = None,
    ) -> list[Answer]:
        """The answer to each conversation, in their order. numbers: of the rows, which decide what is drawn.

        Raises TemplateRefuses.
        """
        listener, done = listener or Silent(), 0
        asked = [self.prompts.tokens(turns, self.room) for turns in conversations]
        numbers = range(len(asked)) if numbers is None else numbers
        lengths = np.array([len(ids) for ids, _ in asked], np.int64)
        found: list[Answer | None] = [None] * len(asked)
        for rows in batches_of(lengths + self.new_tokens, EVAL_BATCH, self.precision.device):
            written = self._written([asked[row][0] for row in rows], [numbers[row] for row in rows])
            for row, (ids, log_p) in zip(rows, written, strict=True):
                found[row] = self._ends.answer(ids, log_p, asked[row][1])
            done += len(rows)
            listener.progress(done, len(asked), "prompts answered")
        return [each for each in found if each is not None]

    def _written(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int]) -> list[tuple[list[int], Array]]:
        """The tokens written after each prompt, and the log-probability of each, float32 (tokens,)."""
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        ids, mask = padded_left(prompts, pad_id(self.model))
        device, longest = self.precision.device, ids.shape[1]
        choice = Choice(self.settings, self._seed, numbers, self.new_tokens)
        watch = Watch(self._ends, longest, len(prompts))
        with torch.inference_mode(), self.precision.forward():
            said = self.model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=GenerationConfig(
                    max_new_tokens=self.new_tokens, do_sample=False, use_cache=True, pad_token_id=pad_id(self.model)
                ),
                logits_processor=LogitsProcessorList([choice]),
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        log_p = torch.stack(choice.log_p, dim=1).cpu().numpy()
        rows = zip(said[:, longest:].tolist(), log_p, watch.lengths, strict=True)
        return [(row[:length], own[: len(row[:length])]) for row, own, length in rows]

    def _forget_defaults(self) -> None:
        """What a base's own generation_config says of penalties and sampling is not what the job says."""
        from transformers import GenerationConfig

        self.model.generation_config = GenerationConfig()


class Prompts:
    """Conversations as tokens, by the template and the tokenizer of a model folder."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.template, self._file = template_of(folder), folder / "tokenizer.json"
        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.special = special_ids(str(folder / "tokenizer.json"))
        self._marks = not self.template.has_special_tokens

    def tokens(self, turns: Sequence[Turn], room: int) -> tuple[list[int], int]:
        """(the last tokens of the prompt, at most `room`; how many before them are left out). Raises TemplateRefuses.

        A mark at the beginning, such as <s>, stays, as in training. Of a template that writes nothing one token is
        made, since a model cannot go on from none.
        """
        encoding = self.tokenizer.encode(self.template.prompt(list(turns)), add_special_tokens=self._marks)
        ids: list[int] = encoding.ids[: len(encoding.ids) - len(added_behind(encoding))] or [0]
        over = len(ids) - room
        if over <= 0:
            return ids, 0
        head = 1 if room > 1 and ids[0] in self.special else 0
        return [*ids[:head], *ids[head + over :]], over

    def end_tokens(self) -> set[int]:
        """What follows a learnt answer."""
        return set(end_tokens(self._file, self.template.closing, self._marks))

    def end_text(self) -> str:
        """The same where the template closes an answer with plain words; "" where it does so with a mark, or not."""
        return "" if self.end_tokens() else self.template.closing.strip()


@dataclass(frozen=True)
class Ends:
    """What ends an answer."""

    tokenizer: Any
    marks: frozenset[int]  # tokens
    stop_tokens: frozenset[int]  # stop texts that are a token without text
    closing: str  # text that is an end mark; "" where there is none
    texts: tuple[str, ...]  # stop texts

    @staticmethod
    def of(folder: Path, prompts: Prompts, model: Any, stop: Iterable[str]) -> Ends:
        """What the folder says of ends of text, what the template closes an answer with, and `stop`."""
        from transformers import AutoTokenizer

        known = (AutoTokenizer.from_pretrained(folder), model.config, model.generation_config)
        named = [each for one in known for each in _listed(getattr(one, "eos_token_id", None))]
        special = prompts.special
        stops = {text: prompts.tokenizer.token_to_id(text) for text in stop}
        tokens = frozenset(number for number in stops.values() if number in special)
        return Ends(
            tokenizer=prompts.tokenizer,
            marks=frozenset(prompts.end_tokens().union(named) - tokens),
            stop_tokens=tokens,
            closing=prompts.end_text(),
            texts=tuple(text for text, number in stops.items() if number not in tokens),
        )

    @property
    def all_texts(self) -> tuple[str, ...]:
        """Texts at which writing may stop."""
        return (*self.texts, self.closing) if self.closing else self.texts

    def answer(self, ids: Sequence[int], log_p: Array, cut: int) -> Answer:
        """The answer that these tokens are. ids: up to and with what ended it. log_p: of each, float (tokens,)."""
        ended, tokens = MOST_TOKENS, list(ids)
        if tokens and tokens[-1] in self.marks | self.stop_tokens:
            ended = END_MARK if tokens[-1] in self.marks else STOP_TEXT
            tokens.pop()
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        places = [(text.find(stop), stop) for stop in self.all_texts if stop in text]
        if places:
            at, stop = min(places)
            text, ended = text[:at], END_MARK if stop == self.closing else STOP_TEXT
        return Answer(text.strip(), ended, float(np.mean(log_p)), len(ids), cut)


class Watch:
    """Which rows of a batch have ended, and after how many tokens (a StoppingCriteria of transformers)."""

    def __init__(self, ends: Ends, start: int, rows: int) -> None:
        """start: L, where the answers begin."""
        self.lengths: list[int | None] = [None] * rows  # tokens written when it ended; None: it has not
        # By its name generate() knows that rows end one by one, and fills up those that have.
        self.eos_token_id = torch.tensor(sorted(ends.marks | ends.stop_tokens), dtype=torch.int64)
        self._ends, self._start = ends, start
        # Tokens in which the end of the longest text must stand: each is a byte of it at least, or adds nothing.
        self._behind = max((len(text.encode()) for text in ends.all_texts), default=0) + 8

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Whether each row has ended, bool (B,). input_ids: int64 (B, L + N)."""
        ended = torch.isin(input_ids[:, -1].cpu(), self.eos_token_id).tolist()
        going_on = [row for row, length in enumerate(self.lengths) if length is None]
        if self._ends.all_texts and going_on:
            last = input_ids[going_on, max(self._start, input_ids.shape[1] - self._behind) :].tolist()
            for row, text in zip(going_on, self._ends.tokenizer.decode_batch(last), strict=True):
                ended[row] = ended[row] or any(stop in text for stop in self._ends.all_texts)
        for row in going_on:
            self.lengths[row] = input_ids.shape[1] - self._start if ended[row] else None
        return torch.tensor([length is not None for length in self.lengths], device=input_ids.device)


class Choice:
    """Which token comes next in each row, and how probable the model finds it (a LogitsProcessor of transformers).

    At temperature 0 the likeliest. Else it is drawn from softmax(logits / temperature), of the likeliest tokens that
    together have `top_p` of it (Holtzman et al. 2020, arXiv 1904.09751, section 3.1), by the inverse of its
    distribution function.
    """

    def __init__(self, settings: GenerationSection, seed: int, numbers: Sequence[int], tokens: int) -> None:
        """tokens: the most that are written of a row."""
        self._temperature, self._top_p = settings.temperature, settings.top_p
        self.log_p: list[torch.Tensor] = []  # of each step: of the token of each row, float32 (B,)
        drawn = [np.random.Generator(np.random.SFC64([seed, row, SAYING])).random(tokens) for row in numbers]
        self._chance = torch.from_numpy(np.array(drawn)) if settings.temperature else None  # (B, tokens), 0 to 1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores in which one token of each row is left. scores: logits, float (B, V)."""
        chosen = scores.argmax(dim=-1) if self._chance is None else self._draw(scores, self._chance[:, len(self.log_p)])
        at = chosen[:, None]
        self.log_p.append(scores.float().log_softmax(dim=-1).gather(1, at)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter(1, at, 0.0)

    def _draw(self, scores: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
        """A token of each row, int64 (B,). chance: evenly distributed, float64 (B,)."""
        p = (scores.double() / self._temperature).softmax(dim=-1)
        if self._top_p < 1:
            p = p.where(p >= _least(p, self._top_p), 0.0)
        reached = p.cumsum(dim=-1)
        wanted = chance.to(scores.device)[:, None] * reached[:, -1:]
        return torch.searchsorted(reached, wanted, right=True)[:, 0].clamp(max=scores.shape[1] - 1)


def _least(p: torch.Tensor, top_p: float) -> torch.Tensor:
    """The probability of the last of the likeliest tokens that together have `top_p`, (B, 1)."""
    ordered = p.sort(dim=-1, descending=True).values
    before = ordered.cumsum(dim=-1) - ordered
    return ordered.masked_fill(before >= top_p, torch.inf).amin(dim=-1, keepdim=True)


def padded_left(prompts: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(input_ids, attention_mask), int64 (B, L), each row at the right."""
    longest = max(map(len, prompts))
    ids = np.full((len(prompts), longest), pad, np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
    mask = np.arange(longest)[None, :] >= longest - np.array([[len(prompt)] for prompt in prompts])
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def _positions(model: nn.Module) -> int | None:
    """How many tokens a model can read and write altogether; None where it does not say."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)  # type: ignore[union-attr,operator]
    return int(found) if isinstance(found, int) and found > 0 else None


def _listed(value: Any) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)

"""How conversations, and labels that are words, become tokens: the template of the base, and what the job says."""

from __future__ import annotations

from collections.abc import Sequence

from raysft.config import Job
from raysft.config.sections import JobConfig
from raysft.corpus.answers import Answering
from raysft.corpus.label_words import LabelWords
from raysft.corpus.template import TemplateRefuses, template_of
from raysft.storage.pretrained import Base

SAY_OTHERWISE = "rename one of them in the data, or use model.labels: head"


def answering_of(config: JobConfig, base: Base) -> Answering | None:
    """None where no answers are learnt."""
    if config.task != "generation":
        return None
    return Answering(
        template=template_of(base.folder),
        tokenizer=base.folder / "tokenizer.json",
        max_length=config.model.max_length,
        learn=config.generation.learn,
        long_prompts=config.generation.long_prompts,
    )


def words_of(config: JobConfig, base: Base, labels: Sequence[str] = ()) -> LabelWords | None:
    """None where labels are no words of the model. labels: of the corpus, once they are known."""
    if not config.labels_are_words:
        return None
    tokenizer = base.folder / "tokenizer.json"
    return LabelWords(template_of(base.folder), tokenizer, config.model.max_length, tuple(labels))


def require_words(job: Job, words: LabelWords | None) -> None:
    """Raise JobFileError for labels that the template cannot write, that the tokenizer does not tell apart, or that
    leave no room for a text."""
    if words is None:
        return
    try:
        alike = words.alike()
    except TemplateRefuses as refusal:
        raise job.problem("model.base", str(refusal)) from None
    if alike is not None:
        one, other = alike
        raise job.problem(
            "model.labels",
            f"labels {one!r} and {other!r} are the same tokens to the tokenizer of the base; {SAY_OTHERWISE}",
        )
    if words.least_length > words.max_length:
        longest = max(zip(words.answers, words.labels, strict=True), key=lambda each: len(each[0]))[1]
        raise job.problem(
            "model.max_length",
            f"at least {words.least_length}, so that label {longest!r} ({words.longest} tokens with its end) and what "
            f"the chat template writes stand beside a text; found {words.max_length}",
        )

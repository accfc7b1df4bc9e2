"""What is refused where labels are words that a causal model says (model.labels: words)."""

from __future__ import annotations

from raysft.config import Job
from raysft.corpus.label_words import TEXTS
from raysft.corpus.template import TemplateRefuses
from raysft.model.architectures import ARCHITECTURES
from raysft.preparation.answering import words_of
from raysft.storage.pretrained import Base

KEY = "model.labels"
# Models whose tokens see those after them, as config.json names them; others are found out once they are loaded.
ENCODERS = {*ARCHITECTURES, "albert", "modernbert", "nomic_bert", "funnel", "longformer", "big_bird", "ernie", "xlnet"}


def refuse_words(job: Job, base: Base) -> None:
    """Raises JobFileError where this base, or other settings, cannot go with labels as words."""
    config = job.config
    if config.model.labels != "words":
        return
    if config.task != "classification":
        raise job.problem(KEY, f"words belongs to task: classification; leave it out, where task is {config.task}")
    if config.data.multi_label:
        raise job.problem(KEY, "words gives each text one label, and data.multi_label is true; use head")
    if (kind := base.config.get("model_type")) in ENCODERS:
        raise job.problem(
            KEY,
            f"words needs a decoder (GPT-2, Llama, ...), and {base.name} is an encoder ({kind}); use head, or another "
            "model.base",
        )
    _refuse_of_heads(job)
    words = words_of(config, base)
    assert words is not None
    try:
        words.template.render(words.turns(*TEXTS))
    except TemplateRefuses as refusal:
        raise job.problem("model.base", str(refusal)) from None


def _refuse_of_heads(job: Job) -> None:
    """Settings that only mean something to a layer over the labels."""
    train = job.config.train
    for key, found, allowed in (
        ("train.loss", train.loss, "cross_entropy"),
        ("train.class_weights", train.class_weights, None),
        ("train.label_smoothing", train.label_smoothing, 0),
    ):
        if found != allowed:
            raise job.problem(key, "belongs to model.labels: head, and labels are words here; leave it out")
    if job.config.model.pooler == "identity":
        raise job.problem("model.pooler", "belongs to classifiers with a head; leave it out, where labels are words")

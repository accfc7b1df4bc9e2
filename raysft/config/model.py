"""The `model` section: what to start from, and which of its parts train."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from raysft.config.section import Section
from raysft.config.values import require_pattern


class FreezeSection(Section):
    """Parts of the base that keep their weights to the bit, in evaluation mode and without gradients."""

    embeddings: bool = Field(False, description="Keep the embeddings.")
    layers: int = Field(0, ge=0, description="Keep the first so many layers, and the embeddings below them.")
    pattern: str | None = Field(
        None, min_length=1, description="Also keep parameters whose name matches this regular expression somewhere."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return require_pattern(pattern)


class LoraSection(Section):
    """Train low-rank adapters, and the head if it is new, instead of the base (peft); the artifact is merged."""

    r: int = Field(16, ge=1, le=1024, description="Rank of the adapters.")
    alpha: float = Field(32, gt=0, description="Scale of the adapters: alpha / r, or alpha / sqrt(r) with rslora.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: Literal["auto"] | tuple[str, ...] = Field(
        "auto", description="Endings of the names of the linear layers to adapt; auto: all within the layers."
    )
    variant: Literal["lora", "dora", "rslora"] = Field("lora", description="Which kind of adapter.")
    quantize: Literal["4bit"] | None = Field(
        None, description="4bit: keep the base in 4 bits (QLoRA); needs a GPU and the extra `qlora`."
    )

    @field_validator("targets", mode="before")
    @classmethod
    def _listed(cls, targets: object) -> object:
        return tuple(targets) if isinstance(targets, list) else targets


LEAST_VOCABULARY = 264  # the 256 bytes, the marks of turns, and a little


class InitSection(Section):
    """A model described here, which starts from random weights; in place of a pretrained base."""

    architecture: Literal["llama", "gpt2", "bert"] = Field(
        "llama",
        description="llama and gpt2 learn the next word (causal-lm, generation) or classes; bert hidden words, classes "
        "or tags.",
    )
    layers: int = Field(4, ge=1, le=256, description="Transformer layers.")
    hidden: int = Field(256, ge=8, le=16384, description="Width of the hidden states.")
    heads: int = Field(4, ge=1, le=256, description="Attention heads, among which the width is divided.")
    inner: int | None = Field(
        None,
        ge=8,
        le=131072,
        description="Width within the feed-forward layers; null: 4 times hidden; llama, which has a third matrix "
        "there: 8/3 of hidden, rounded up to a multiple of 64.",
    )
    positions: int | None = Field(
        None,
        ge=8,
        le=131072,
        description="Longest text in tokens; null: model.max_length, and where answers are written after their "
        "prompts as much again, or generation.max_new_tokens.",
    )
    vocabulary: int = Field(
        4096,
        ge=LEAST_VOCABULARY,
        le=262144,
        description="Most tokens of the tokenizer that is learnt from the texts of data.train: pieces of bytes (BPE) "
        "within words; fewer where these texts have no more to join.",
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="A hub id or folder whose tokenizer is used instead; none is learnt, and vocabulary is its own.",
    )
    tied: bool = Field(True, description="Use the matrix of the embeddings as that of the head, too.")

    @field_validator("heads")
    @classmethod
    def _divides_hidden(cls, heads: int, known: ValidationInfo) -> int:
        hidden = known.data.get("hidden")  # absent when hidden itself is wrong
        step = 2 if known.data.get("architecture") == "llama" else 1  # its positions turn pairs of numbers
        if hidden is None or hidden % (step * heads) == 0:
            return heads
        fitting = [count for count in range(1, 257) if hidden % (step * count) == 0]
        near = sorted(sorted(fitting, key=lambda count: abs(count - heads))[:3])
        even = " into even widths" if step == 2 else ""
        instead = f"such as {', '.join(map(str, near))}" if near else "which must be even"
        raise ValueError(f"must divide hidden ({hidden}){even}, {instead}; found {heads}")


class ModelSection(Section):
    """Which pretrained model to start from, or which one to build."""

    base: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="Pretrained model: a Hugging Face hub id, or a local folder with config.json, tokenizer.json and "
        "model.safetensors, such as the model folder of a finished run.",
    )
    revision: str | None = Field(
        None, description="Commit of the hub id, so that the base cannot change under you. Not for a folder."
    )
    init: InitSection | None = Field(
        None,
        description="Build the model that is described here and start from random weights, in place of a base; null: "
        "start from the base.",
    )
    labels: Literal["head", "words"] = Field(
        "head",
        description="How a label is given, where texts are classified. head: by a new layer over the labels; words: in "
        "a causal model's own words: the label is written as the answer to the text, and each label of the corpus is "
        "scored by how likely the model finds it.",
    )
    max_length: int = Field(
        128,
        ge=8,
        le=8192,
        description="Tokens kept of each text, and the audit says how many texts are cut; or of each window, where "
        "entities or texts alone are learnt, of which nothing is cut.",
    )
    head_start: Literal["random", "means"] = Field(
        "random",
        description="Where the head over the labels starts. means: at the mean of each label's training texts, as the "
        "base sees them, which helps where a label has few; train.head_learning_rate is then 1e-3, unless set.",
    )
    pooler: Literal["auto", "keep", "identity"] = Field(
        "auto",
        description="The layer between first token and head. identity: start it as a pass-through; auto: do so where "
        "the base is a sentence encoder, which never trained it; keep: as the base has it.",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        le=0.9,
        description="Dropout of hidden states and head; null: as the base has it. Attention weights have none.",
    )
    freeze: FreezeSection = Field(default_factory=FreezeSection, description="Parts that do not train.")
    lora: LoraSection | None = Field(None, description="Adapters; null: train the weights themselves.")
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="How attention is computed; auto: as fast as the hardware and the base allow."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_start(cls, values: Any) -> Any:
        """A base that was written beside a description would be ignored without a word."""
        if isinstance(values, dict) and values.get("init") is not None:
            for other in ("base", "revision"):
                if values.get(other) is not None:
                    raise ValueError(
                        f"init starts from random weights, {other} belongs to pretrained ones; remove one of the two"
                    )
        return values

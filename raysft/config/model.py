"""The `model` section: what to start from, and which of its parts train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

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


class ModelSection(Section):
    """Which pretrained encoder to start from."""

    base: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="Pretrained model: a Hugging Face hub id, or a local folder with config.json, tokenizer.json and "
        "model.safetensors, such as the model folder of a finished run.",
    )
    revision: str | None = Field(
        None, description="Commit of the hub id, so that the base cannot change under you. Not for a folder."
    )
    max_length: int = Field(
        128,
        ge=8,
        le=8192,
        description="Tokens kept of each text, and the audit says how many texts are cut; or of each window, where "
        "entities or texts alone are learnt, of which nothing is cut.",
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

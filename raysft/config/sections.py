"""What a person may write in a job file: one model a section, every key with its meaning, limits and default.

The same models drive validation, the JSON schema for editors (`raysft schema`) and the reference page.
Imports nothing heavy: `raysft check` answers in about a second.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from raysft.config.values import PathList, Share, parse_name


class Section(BaseModel):
    """Common rules: unknown keys are refused, no value is turned into another type, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSection(Section):
    """Which pretrained encoder to start from."""

    base: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="Pretrained model: a Hugging Face hub id, or a local folder with config.json, "
        "tokenizer.json and model.safetensors.",
    )
    revision: str | None = Field(
        None, description="Commit of the hub id, so that the base cannot change under you. Not for a folder."
    )
    max_length: int = Field(
        128, ge=8, le=8192, description="Tokens kept of each text; the audit says how many texts are cut."
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


class AuditSection(Section):
    """What to do about each finding in the data."""

    duplicates: Literal["drop", "report"] = Field(
        "drop",
        description="Same text (case and spacing aside) and same label again: keep the first only, or just count.",
    )
    conflicts: Literal["quarantine", "report", "fail"] = Field(
        "quarantine",
        description="Same text under different labels: reject all of them, only count, or stop the job.",
    )
    leakage: Literal["drop", "report", "fail"] = Field(
        "drop",
        description="A training text that also stands in the validation or test file: reject it from training, "
        "only count, or stop the job.",
    )
    near_duplicates: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Texts whose 4-letter pieces overlap this much (Jaccard) stay in the same fold; 1 turns it off.",
    )
    max_rejected: Share = Field(
        Share(0.10), description="More rejected rows than this share stop the job, with the reasons."
    )


class DataSection(Section):
    """Where the labelled rows are and which columns count. Paths are relative to the job file."""

    train: PathList = Field(description="CSV, TSV or JSON Lines: a path, a glob, or a list of them.")
    validation: PathList | None = Field(None, description="Validation rows of your own; else a fold of `train`.")
    test: PathList | None = Field(None, description="Test rows of your own; else a sealed share of `train`.")
    text: str = Field("text", min_length=1, description="Column with the text.")
    label: str = Field("label", min_length=1, description="Column with the label.")
    group: str | None = Field(
        None,
        min_length=1,
        description="Column whose rows must never be split between parts (customer, patient, contract).",
    )
    audit: AuditSection = Field(default_factory=AuditSection, description="What to do about each finding.")


class FoldsSection(Section):
    """How rows become training, validation and test parts."""

    k: int = Field(5, ge=0, le=100, description="Stratified folds; 0: no validation part, train on every row.")
    validation: int = Field(0, ge=0, description="The fold that validates; the others train.")
    test: Share = Field(Share(0.15), description="Sealed test share of `train` when `data.test` is null.")
    seed: int = Field(7, ge=0, description="Seed of the fold assignment.")

    @field_validator("k")
    @classmethod
    def _not_one(cls, k: int) -> int:
        if k == 1:
            raise ValueError("a single fold cannot both train and validate; use 0 (no validation) or 2 and more")
        return k

    @field_validator("validation")
    @classmethod
    def _fold_exists(cls, validation: int, known: ValidationInfo) -> int:
        k = known.data.get("k", 0)  # absent when k itself is wrong
        if k and validation >= k:
            raise ValueError(f"folds are 0 to {k - 1}, found {validation}")
        return validation


class TrainSection(Section):
    """How the model is fine-tuned. The defaults are measured; see docs/tutorial.md."""

    epochs: int = Field(12, ge=1, le=1000, description="Passes over the training rows.")
    batch_size: int = Field(16, ge=1, le=65536, description="Rows per optimizer step, whatever the workers.")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="Rows per forward pass; null: a worker's share of the batch, as far as it fits. Changes speed and "
        "memory only (on GPU also the dropout masks).",
    )
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Peak rate of the pretrained body.")
    head_learning_rate: float = Field(1e-2, gt=0, le=1, description="Peak rate of the new classifier head.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Rate of each layer relative to the one above it; 1: all the same."
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW decay of matrices; never of biases and norms.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Rate after warm-up.")
    warmup: Share = Field(Share(0.10), description="Share of the steps in which the rate rises from zero.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest global gradient norm; null: no clipping.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where the processor has instructions for it, else fp32."
    )
    select: Literal["f1_macro", "accuracy", "loss"] = Field(
        "f1_macro", description="Validation measure that picks the best checkpoint."
    )
    save_every: int | None = Field(
        None,
        ge=1,
        description="Also save a checkpoint every so many steps; it is always saved after each epoch.",
    )
    workers: int = Field(1, ge=1, le=4096, description="Ray Train workers (DDP); changes speed, never the result.")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: gpu if the cluster has enough of them.")
    seed: int = Field(7, ge=0, description="Seed of head, batches and dropout.")


class JobConfig(Section):
    """One job file."""

    name: Annotated[str, BeforeValidator(parse_name)] = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of the run and of its folder: letters, digits, dot, dash, underscore.",
    )
    task: Literal["classification"] = Field("classification", description="What the labels are.")
    model: ModelSection = Field(default_factory=ModelSection, description="The pretrained base.")
    data: DataSection = Field(description="The labelled corpus.")
    folds: FoldsSection = Field(default_factory=FoldsSection, description="Training, validation and test parts.")
    train: TrainSection = Field(default_factory=TrainSection, description="Fine-tuning.")
    output: str = Field("results", description="Folder for results, relative to where the command is typed.")

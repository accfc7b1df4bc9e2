"""The `train` section: how the model is fine-tuned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from raysft.config.section import Section
from raysft.config.values import Share, require_pattern


class RateSection(Section):
    """Rate and decay of the parameters whose name matches a pattern."""

    pattern: str = Field(min_length=1, description="Regular expression, found somewhere in the name.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak rate; null: as without this entry.")
    weight_decay: float | None = Field(None, ge=0, le=1, description="Decay; null: as without this entry.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        require_pattern(pattern)
        return pattern


class WorkersSection(Section):
    """A range of workers: training goes on with as many as there are."""

    min: int = Field(1, ge=1, le=4096, description="Fewer are not enough.")
    max: int = Field(ge=1, le=4096, description="More are not used.")

    @field_validator("max")
    @classmethod
    def _not_below_min(cls, most: int, known: ValidationInfo) -> int:
        if most < known.data.get("min", 1):
            raise ValueError(f"max must be at least min ({known.data['min']}), found {most}")
        return most


class TrainSection(Section):
    """How the model is fine-tuned. The defaults are measured; see docs/tutorial.md."""

    epochs: int = Field(12, ge=1, le=1000, description="Passes over the training rows.")
    batch_size: int = Field(16, ge=1, le=65536, description="Rows per optimizer step, whatever the workers.")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="Most rows of a forward pass; null: a worker's share of the batch, as far as it fits. Changes "
        "speed and memory, not the result, rounding aside (on GPU also the dropout masks). A run may go on with "
        "another.",
    )
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Peak rate of the pretrained body.")
    head_learning_rate: float = Field(1e-2, gt=0, le=1, description="Peak rate of the new classifier head.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Rate of each layer relative to the one above it; 1: all the same."
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW decay of matrices; never of biases and norms.")
    rates: tuple[RateSection, ...] = Field(
        (), description="Rates of your own: a list of {pattern, learning_rate, weight_decay}; the first match counts."
    )
    optimizer: Literal["adamw", "adafactor", "adamw_8bit"] = Field(
        "adamw",
        description="adafactor: a row and a column of state for a matrix instead of two matrices; its rates are shares "
        "of the weights' size, so that it takes about 15 times AdamW's to move a pretrained body as far. adamw_8bit: "
        "state in 8 bits, needs a GPU and the extra `bits`. fsdp takes adamw only.",
    )
    loss: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="focal: rows that are already right count less (Lin et al. 2017)."
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="How much less; 0 is cross-entropy.")
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None,
        description="Weight of the rows of each label, as if they were repeated: {label: weight}, 1 for others; "
        "balanced: rows / (labels x rows of the label).",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    schedule: Literal["linear", "cosine", "constant", "wsd"] = Field(
        "linear", description="Rate after warm-up; wsd: stays, then falls linearly over the last `decay` of the steps."
    )
    decay: Share = Field(Share(0.20), description="Share of the steps over which wsd falls.")
    warmup: Share = Field(Share(0.10), description="Share of the steps in which the rate rises from zero.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest global gradient norm; null: no clipping.")
    precision: Literal["auto", "bf16", "fp16", "fp32", "tf32"] = Field(
        "auto",
        description="auto: bf16 where the hardware has instructions for it, else fp16 on a GPU, else fp32. fp16 scales "
        "the loss. Weights, losses and sums are float32 always.",
    )
    on_nonfinite: Literal["stop", "skip"] = Field(
        "stop", description="A loss or gradient that is not finite: stop and name the rows, or skip the step and count."
    )
    select: Literal["f1_macro", "f1_micro", "f1_weighted", "precision", "recall", "accuracy", "loss", "ece"] = Field(
        "f1_macro",
        description="Validation measure that picks the best checkpoint. f1_weighted and ece: where a row has one "
        "label; f1_micro: where it may have several, or entities; precision and recall: of entities.",
    )
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Where a row may have several labels: the probability from which one is given; null: the best on "
        "the validation part.",
    )
    stop_after: int | None = Field(
        None, ge=1, description="Stop when so many epochs in a row were no better by `select`; null: train all epochs."
    )
    stop_at: int | None = Field(
        None,
        ge=1,
        description="Stop after so many epochs, the rates being those of all `epochs`: what cross-validation found "
        "best; null: train all.",
    )
    unfreeze_every: int | None = Field(
        None,
        ge=1,
        description="Gradual unfreezing: the head alone first, then one more layer from the top every so "
        "many epochs (Howard, Ruder 2018); null: all from the start.",
    )
    average: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Evaluate and keep an exponential moving average of the weights with this decay (0.99 looks back "
        "about 100 steps); it grows from 0.1 over the first steps.",
    )
    batching: Literal["bucketed", "random"] = Field(
        "bucketed", description="bucketed: rows of one batch have about the same length; random: as shuffled."
    )
    packing: bool = Field(
        False,
        description="Several rows in one sequence, which see nothing of each other, where answers or next words are "
        "learnt: little is padded though batches stay as shuffled (batching does not count, micro_batch on average). "
        "Changes speed and "
        "memory, not the result of a batch, rounding aside.",
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Batches of at most so many positions, padding included, and at least one row, instead of "
        "batch_size rows; null: by rows. Fewer long texts than short ones share a step. With packing: so many tokens.",
    )
    save_every: int | None = Field(
        None,
        ge=1,
        description="Also save a checkpoint every so many steps; it is always saved after each epoch.",
    )
    workers: Annotated[int, Field(ge=1, le=4096)] | WorkersSection = Field(
        1,
        description="Ray Train workers; {min, max}: as many as the cluster has. Changes speed, not the result, "
        "rounding aside (on GPU also the dropout masks).",
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="ddp: each worker has the model; fsdp: they share it; auto: ddp where it fits."
    )
    offload: bool = Field(False, description="fsdp: keep weights and optimizer state in the memory of the CPU.")
    activation_checkpointing: bool = Field(
        False, description="Compute activations of each layer twice instead of keeping them: less memory, slower."
    )
    compile: bool = Field(False, description="torch.compile with dynamic shapes; mostly pays on a GPU.")
    track: tuple[Literal["tensorboard", "mlflow"], ...] = Field(
        (), description="Also write metrics for these; each needs the extra of its name."
    )
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: gpu if the cluster has enough of them.")
    seed: int = Field(7, ge=0, description="Seed of head, batches and dropout.")

    @field_validator("rates", "track", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values

    @property
    def most_workers(self) -> int:
        """The number asked for, or the upper end of the range."""
        return self.workers if isinstance(self.workers, int) else self.workers.max

    @property
    def fewest_workers(self) -> int:
        """The number asked for, or the lower end of the range."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

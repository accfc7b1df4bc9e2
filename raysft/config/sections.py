"""What a person may write in a job file: one model a section, every key with its meaning, limits and default.

The same models drive validation, the JSON schema for editors (`raysft schema`) and the reference page.
Imports nothing heavy: `raysft check` answers in about a second.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from raysft.config.generation import GenerationSection
from raysft.config.model import FreezeSection, LoraSection, ModelSection
from raysft.config.section import Section
from raysft.config.training import RateSection, TrainSection, WorkersSection
from raysft.config.tuning import TuneSection
from raysft.config.values import Share, SourceList, parse_name

__all__ = [
    "LANGUAGE_TASKS", "SEVERAL_PIECES", "VOCABULARY_TASKS", "AuditSection", "DataSection", "FoldsSection",
    "FreezeSection", "GenerationSection", "JobConfig", "LoraSection", "ModelSection", "RateSection", "Section",
    "TrainSection", "TuneSection", "WorkersSection",
]  # fmt: skip


LANGUAGE_TASKS = ("masked-lm", "causal-lm")  # learn from texts alone, without labels
RATE_AT_MEANS = 1e-3  # of a head that starts at the means of its labels: training/means.py
VOCABULARY_TASKS = (*LANGUAGE_TASKS, "generation")  # the head has a logit for each token of the vocabulary
SEVERAL_PIECES = (*LANGUAGE_TASKS, "token-classification")  # of long texts learn all, as pieces of model.max_length
Action = Literal["report", "drop", "quarantine", "fail"]
Notice = Literal["report", "fail"]


class AuditSection(Section):
    """What to do about each finding: report (only say so), drop (leave the rows out), quarantine (leave them out and
    put them into quarantine.csv for a person to mend) or fail (stop the job)."""

    duplicates: Action = Field(
        "drop", description="Same text (case and spacing aside) and same label again; the first one stays."
    )
    conflicts: Action = Field("quarantine", description="Same text under different labels; all of them are meant.")
    leakage: Action = Field("drop", description="Training rows whose text also stands in the validation or test file.")
    near_duplicates: Action = Field(
        "report",
        description="Texts almost the same as an earlier one. Whatever is chosen, they never stand in different folds.",
    )
    near_leakage: Action = Field(
        "report", description="Training rows whose text almost stands in the validation or test file."
    )
    similarity: float = Field(
        0.8,
        ge=0.2,
        le=1,
        description="Overlap of 4-letter pieces (Jaccard) from which texts count as almost the same; 1: do not look.",
    )
    wrong_labels: Literal["report", "drop", "quarantine", "fail", "off"] = Field(
        "report",
        description="Rows whose label a cheap model, trained on the other rows, finds very unlikely; off: do not look.",
    )
    wrong_labels_rows: int = Field(
        20_000, ge=100, description="Most rows to look at for wrong labels; of a larger corpus a sample is taken."
    )
    unseen_labels: Literal["fail", "drop", "quarantine"] = Field(
        "fail", description="Validation or test rows with a label that no training row has."
    )
    personal_data: Action = Field("report", description="Texts with an e-mail address, a phone or a card number.")
    label_names: Notice = Field("report", description="Labels that differ by case, space or punctuation only.")
    small_labels: Notice = Field("report", description="Labels with fewer rows than there are parts.")
    drift: Notice = Field("report", description="Test rows that differ from the training rows in labels or words.")
    max_rejected: Share = Field(
        Share(0.05), description="More rows left out than this share stop the job, with the reasons."
    )


class DataSection(Section):
    """Where the labelled rows are and which columns count. Paths are relative to the job file."""

    train: SourceList = Field(
        description="A path, a glob, a URI (s3://, gs://, abfs://), or a list of them; "
        "`{text: FILE, label: FILE}` for texts and labels in two files, line by line."
    )
    validation: SourceList | None = Field(None, description="Validation rows of your own; else a fold of `train`.")
    test: SourceList | None = Field(None, description="Test rows of your own; else a sealed share of `train`.")
    format: Literal["auto", "csv", "tsv", "json", "jsonl", "parquet", "arrow", "lines", "conll"] = Field(
        "auto", description="What the files are; auto: by their ending (.gz, .zst and .bz2 aside)."
    )
    encoding: str = Field("auto", min_length=1, description="Of text files, such as utf-8 or cp1252; auto: found out.")
    text: str | None = Field(
        None,
        min_length=1,
        description="Column with the text (the prompt, where answers are learnt; the messages of a chat; the tokens "
        "of a tagged sentence); null: found by its name.",
    )
    label: str | None = Field(
        None,
        min_length=1,
        description="Column with the label (the answer; the tags or spans); null: found by its name.",
    )
    context: str | None = Field(
        None, min_length=1, description="Column with input that follows an instruction, where answers are learnt."
    )
    group: str | None = Field(
        None,
        min_length=1,
        description="Column whose rows must never be split between parts (customer, patient, contract).",
    )
    time: str | None = Field(None, min_length=1, description="Column with a date or number, for folds.order: time.")
    split: str | None = Field(
        None, min_length=1, description="Column that says train, validation or test, where one file holds all parts."
    )
    multi_label: bool = Field(False, description="A row may have several labels: a list, or text with a separator.")
    label_separator: str | None = Field(
        None, min_length=1, description="Between the labels of one cell; null: the cell is a list, or ; | or , it is."
    )
    audit: AuditSection = Field(default_factory=AuditSection, description="What to do about each finding.")
    engine: Literal["auto", "process", "ray"] = Field(
        "auto",
        description="Who prepares: this process, or Ray Data on the cluster; auto: this process for small corpora. "
        "The result is the same.",
    )


class FoldsSection(Section):
    """How rows become training, validation and test parts."""

    k: int = Field(5, ge=0, le=100, description="Stratified folds; 0: no validation part, train on every row.")
    validation: Annotated[int, Field(ge=0)] | Literal["none"] | None = Field(
        None,
        description="The fold that validates; the others train. null: fold 0; the newest by time. none: all train, as "
        "once cross-validation has told what is best; validation rows of your own take no part.",
    )
    test: Share = Field(Share(0.15), description="Sealed test share of `train` when `data.test` is null.")
    seed: int = Field(7, ge=0, description="Seed of the fold assignment.")
    order: Literal["random", "time"] = Field(
        "random",
        description="time: the test part is the newest rows, each fold is newer than the one before, and a model that "
        "is validated on one fold trains on the earlier ones only. Needs data.time.",
    )

    @field_validator("k")
    @classmethod
    def _not_one(cls, k: int) -> int:
        if k == 1:
            raise ValueError("a single fold cannot both train and validate; use 0 (no validation) or 2 and more")
        return k

    @field_validator("validation")
    @classmethod
    def _fold_exists(cls, validation: int | str | None, known: ValidationInfo) -> int | str | None:
        k = known.data.get("k", 0)  # absent when k itself is wrong
        if k and isinstance(validation, int) and validation >= k:
            raise ValueError(f"folds are 0 to {k - 1}, found {validation}")
        return validation


class JobConfig(Section):
    """One job file."""

    name: Annotated[str, BeforeValidator(parse_name)] = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of the run and of its folder: letters, digits, dot, dash, underscore.",
    )
    task: Literal["classification", "token-classification", "generation", "masked-lm", "causal-lm"] = Field(
        "classification",
        description="What is learnt: a label of each text, spans in it, or an answer; or, from texts without labels, "
        "hidden words (masked-lm) or the next word (causal-lm), for a base to fine-tune afterwards. Except for labels "
        "and spans, train.select is loss, and train.head_learning_rate is train.learning_rate, unless set; the latter "
        "also where model.labels is words.",
    )
    model: ModelSection = Field(default_factory=ModelSection, description="The pretrained base.")
    data: DataSection = Field(description="The labelled corpus.")
    generation: GenerationSection = Field(
        default_factory=GenerationSection, description="Answers: what is learnt of them, and how they are written."
    )
    folds: FoldsSection = Field(default_factory=FoldsSection, description="Training, validation and test parts.")
    train: TrainSection = Field(default_factory=TrainSection, description="Fine-tuning.")
    tune: TuneSection | None = Field(None, description="A search over settings; null: none.")
    output: str = Field("results", description="Folder for results, relative to where the command is typed.")

    @property
    def labels_are_words(self) -> bool:
        """Whether a text is classified by what a causal model writes after it."""
        return self.task == "classification" and self.model.labels == "words"

    @property
    def language_task(self) -> str | None:
        """What the head over the vocabulary learns: masked-lm, causal-lm or generation; None: there is another head."""
        if self.labels_are_words:
            return "generation"
        return self.task if self.task in VOCABULARY_TASKS else None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_task(cls, values: Any) -> Any:
        """Without classes there is no F1 to select by, and the head of a language model is no new one."""
        train = values.get("train", {}) if isinstance(values, dict) else None
        words, task = _says_words(values), values.get("task") if isinstance(values, dict) else None
        if isinstance(train, dict) and _starts_at_means(values):
            return {**values, "train": {"head_learning_rate": RATE_AT_MEANS, **train}}
        if not isinstance(train, dict) or not (words or task in VOCABULARY_TASKS):
            return values
        rate = train.get("learning_rate", TrainSection.model_fields["learning_rate"].default)
        measure = {} if words else {"select": "loss"}
        return {**values, "train": {**measure, "head_learning_rate": rate, **train}}


def _starts_at_means(values: Any) -> bool:
    """Whether the head of a job, not yet checked, starts where it should be: there a small rate is enough."""
    model = values.get("model")
    return isinstance(model, dict) and model.get("head_start") == "means"


def _says_words(values: Any) -> bool:
    """Whether a job file, not yet checked, has labels as words."""
    if not isinstance(values, dict) or values.get("task", "classification") != "classification":
        return False
    model = values.get("model")
    return isinstance(model, dict) and model.get("labels") == "words"

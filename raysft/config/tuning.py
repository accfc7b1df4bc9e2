"""The `tune` section: which settings are searched, by what measure, and when it is enough."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from raysft.config.section import Section


class TuneSection(Section):
    """Which settings are tried, each by cross-validation over the same folds, and how one of them is chosen."""

    search: dict[str, Any] = Field(
        {},
        description="What may differ: a key of model or train that can change the result (not train.workers, "
        "train.device and the like, nor train.select and train.stop_after), and its values: a list of them, or a "
        "range: "
        "{log: [1e-5, 5e-4]}, {uniform: [0, 0.3]}, {int: [0, 5]} (also with step: 2 or log: true). Beside a range or "
        "{choices: [...]} stands `when: {KEY: VALUE}` (or a list of values) where it only matters under these. Keys "
        "that change the prepared data (model.base, model.max_length, model.init and the like) are lists.",
    )
    objectives: dict[str, Literal["max", "min"]] | None = Field(
        None,
        description="Measures and which way is better, such as {f1_macro: max, loss: min}; the choice is made by the "
        "first. null: these two where there are labels or spans, else loss.",
    )
    algorithm: Literal["auto", "tpe", "nsga2", "random", "grid"] = Field(
        "auto",
        description="tpe: near what was good; nsga2: crosses the best (many trials); random; grid: every combination. "
        "auto: grid where all are lists, of at most 64 combinations, and `trials` is not set; else tpe.",
    )
    trials: int | None = Field(
        None, ge=1, le=100_000, description="Most configurations; null: 20, of a grid every combination."
    )
    start: tuple[dict[str, Any], ...] = Field(
        (),
        description="Configurations to try first: a list of {KEY: VALUE} with keys and values of `search`; keys left "
        "out are as the algorithm proposes.",
    )
    seed: int = Field(7, ge=0, description="Seed of the proposals.")
    racing: bool = Field(
        True, description="Stop configurations that cannot catch the leader, after the folds that show it."
    )
    ties: bool = Field(
        False,
        description="Also stop configurations that could at best be about as good as the leader, to a standard error "
        "of its score: faster where many are about equal; which of these wins is then a matter of their order.",
    )
    early: bool = Field(
        True,
        description="Also stop within a fold, where the leader's score of it is out of reach even with the largest "
        "gain that any fold made from that epoch on.",
    )
    one_standard_error: bool = Field(
        True,
        description="Choose the cheapest configuration that is within one standard error of the best; false: the best.",
    )
    refit: bool = Field(True, description="Train the chosen configuration on all rows of the folds afterwards.")
    nested: bool = Field(
        False,
        description="Search again within each fold, and score what is chosen there on the fold that the search has not "
        "seen: the quality of the whole procedure, at as many times the cost as there are folds.",
    )
    concurrent: int | None = Field(
        None, ge=1, description="Most folds that train at a time; null: as many as the cluster has room for."
    )
    hours: float | None = Field(
        None, gt=0, description="Stop after so many hours, and choose among what is done; null: no limit."
    )
    price: float | None = Field(None, gt=0, description="Of the cluster per hour, in the currency of `cost`.")
    cost: float | None = Field(None, gt=0, description="Stop once so much is spent, by `price`; null: no limit.")

    @field_validator("start", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values

    @field_validator("objectives")
    @classmethod
    def _at_least_one(cls, measures: dict[str, Any] | None) -> dict[str, Any] | None:
        if measures == {}:
            raise ValueError("at least one measure, such as {loss: min}, or null, found {}")
        return measures

    @field_validator("cost")
    @classmethod
    def _has_a_price(cls, cost: float | None, known: ValidationInfo) -> float | None:
        # The price is absent from what is known when it is itself wrong.
        if cost is not None and known.data.get("price", cost) is None:
            raise ValueError("needs tune.price, what the cluster costs per hour in the same currency; set it too")
        return cost

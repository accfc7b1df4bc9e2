"""The page of a sweep: says what was chosen and how sure that is, for every shape of a sweep; texts are escaped."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysft.report import sweep_axes, sweep_folds, sweep_plots, sweep_verdict, sweep_view
from raysft.report.sweep import sweep_page, write_sweep_report
from raysft.storage.layout import SweepFolder
from raysft.tuning.outcome import SweepResult
from tests.support.browser import open_page
from tests.unit.test_report_audit_page import HOSTILE, parsed

WAYS = {"f1_macro": "max", "loss": "min"}
SECTIONS = ["Choice", "Configurations", "Front of the objectives", "What the settings do", "Learning curves"]
SECTIONS += ["Fold by fold", "Costs"]


def estimate(value: float, n: int = 385, half: float = 0.03) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def settings_of(number: int, rng: random.Random) -> dict[str, Any]:
    """Numbers by logarithm, whole numbers, names, null beside a mapping, and a key under a condition."""
    found: dict[str, Any] = {
        "train.learning_rate": 10 ** rng.uniform(-5, -3),
        "train.batch_size": rng.choice([8, 16, 32, 64]),
        "train.schedule": rng.choice(["linear", "cosine", "constant"]),
        "model.lora": rng.choice([None, {"r": 8, "alpha": 16}]),
        "model.base": rng.choice(["/data/pretrained/all-MiniLM-L6-v2", "microsoft/deberta-v3-base"]),
    }
    if found["model.lora"]:
        found["model.lora.dropout"] = round(rng.uniform(0, 0.3), 3)
    if number % 3:
        found["train.label_smoothing"] = rng.choice([None, 0.05, 0.1])
    return found


def row_of(
    number: int,
    score: float,
    settings: dict[str, Any],
    done: list[int],
    folds: int,
    ways: dict[str, str] = WAYS,
    status: str = "finished",
    why: str = "",
    epochs: int = 4,
) -> dict[str, Any]:
    head = {
        "trial": number,
        "settings": settings,
        "status": status,
        "folds_done": len(done),
        "folds": folds,
        "why": why,
    }
    if not done:
        return head
    rng = random.Random(number)
    spread = [rng.gauss(0, 0.02) for _ in done]
    values = {name: score if way == "max" else 2.5 - 2 * score for name, way in ways.items()}
    by_fold = {
        str(fold): {name: values[name] + (1 if ways[name] == "max" else -2) * each for name in ways}
        for fold, each in zip(done, spread, strict=True)
    }
    at = range(1, epochs + 1)
    curves = {
        **{name: [values[name] - (0.3 if ways[name] == "max" else -1) / each for each in at] for name in ways},
        "loss": [1 + 2 / each - score for each in at],
        "train_loss": [0.5 + 2.5 / each - score / 2 for each in at],
    }
    means = {name: {"value": value, "se": 0.012 if len(done) > 1 else 0.0} for name, value in values.items()}
    return {
        **head,
        **means,
        "epoch": epochs - 1,
        "by_fold": by_fold,
        "curves": curves,
        "seconds": 12.5,
        "parameters": 9,
    }


def sweep_of(
    configurations: int = 12, folds: int = 5, ways: dict[str, str] = WAYS, text: str = "", **changes: Any
) -> SweepResult:
    """Of every three configurations after the fourth, two were stopped, and one failed now and then. text: a value of
    a setting, the reason of a failure and the name."""
    rng, first = random.Random(3), next(iter(ways))
    rows = []
    for number in range(1, configurations + 1):
        settings = settings_of(number, rng)
        if text and number % 2:
            settings["model.base"] = text
        done, status, why = list(range(folds)), "finished", ""
        if number > 4 and number % 3:
            done, status = done[: number % folds], "stopped"
            why = f"{first} 0.493 is behind trial 1 by 0.026 ± 0.010 on {len(done)} folds"
        if number % 10 == 0:
            done, status, why = [], "failed", text or "the loss is not a number"
        score = 0.8 - 0.01 * number if number != 7 else 0.2
        rows.append(row_of(number, score, settings, done, folds, ways, status, why))
    rows.sort(key=lambda row: (["finished", "stopped", "failed"].index(row["status"]), row["trial"]))
    chosen = {
        "trial": 1,
        "settings": rows[0]["settings"],
        "epoch": 3,
        "why": f"its mean {first} of 0.790 ± 0.012 is the highest",
        "best": 1,
        "runner_up": 2 if configurations > 1 else None,
        "ahead": {"value": 0.01, "low": -0.004, "high": 0.024, "p": 0.16} if configurations > 1 else None,
        "out_of_fold": {name: estimate(0.79) for name in dict.fromkeys([*ways, "accuracy"])},
        "edges": ["train.batch_size: 64 is the highest value of the search; better ones may lie beyond"],
    }
    result = SweepResult(
        name=text or "support-intents",
        task="classification",
        status="done",
        objectives=ways,
        folds=list(range(folds)),
        epochs=4,
        algorithm="tpe",
        trials=rows,
        chosen=chosen,
        front=[row["trial"] for row in rows[:2]],
        importance={"train.learning_rate": 0.7, "train.batch_size": 0.2, "train.schedule": 0.1},
        diagnosis={
            "kind": "overfitting",
            "findings": [f"{first} is 0.020 ± 0.004 worse after the last epoch than after epoch 3"],
            "advice": ["train.epochs: 3 instead of 4, whose rates fall sooner", "more labelled rows"],
        },
        timing={
            "data_s": 1.0,
            "train_s": 400.0,
            "search_s": 400.0,
            "busy_s": 700.0,
            "slots": 2,
            "refit_s": 60.0,
            "total_s": 480.0,
        },
        rows={"read": 400, "kept": 385, "rejected": {}, "quarantined": {}},
        report="results/sweeps/x/report.html",
        predictions="results/sweeps/x/predictions.parquet",
        metrics={"test": {first: estimate(0.77, 900), "accuracy": estimate(0.78, 900)}, "validation": None},
        artifact="results/sweeps/x/best/model",
        nested={"metrics": {first: estimate(0.75)}, "chosen": {}},
        names={
            key: key.rpartition(".")[2] if key != "model.lora.dropout" else "lora.dropout"
            for row in rows
            for key in row["settings"]
        },
    )
    return SweepResult(**json.loads(json.dumps(vars(replace(result, **changes)))))


def cv_of(folds: int = 5, **changes: Any) -> SweepResult:
    """`raysft cv`: one configuration, nothing searched."""
    chosen = sweep_of(1).chosen | {"settings": {}, "edges": []}
    rows = [row_of(1, 0.79, {}, list(range(folds)), folds)]
    bare: dict[str, Any] = {
        "names": {},
        "metrics": {},
        "nested": None,
        "artifact": None,
        "importance": {},
        "front": [1],
    }
    return sweep_of(1, folds, **{"chosen": chosen, "trials": rows, "algorithm": "grid", **bare, **changes})


def page_of(result: SweepResult) -> str:
    page = sweep_page(result, "2026-01-02", "0.1.0")
    parsed(page)
    return page


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_sections_in_the_order_in_which_people_ask() -> None:
    page = page_of(sweep_of())
    assert headings(page) == SECTIONS
    assert page == page_of(sweep_of()) and page.startswith("<!doctype html>")
    assert set(re.findall(r'<a href="#(\w+)"', page)) == set(re.findall(r'<section id="(\w+)"', page))


def test_the_verdict_says_what_how_good_and_how_sure() -> None:
    page = page_of(sweep_of())
    assert (
        "Of 12 configurations trial 1 is chosen: learning_rate" in page and "; it counts after epoch 3 of 4, " in page
    )
    assert "Its macro-F1 out of fold is 0.790 on 385 rows (95% interval 0.760 to 0.820)" in page
    assert "there is no difference that can be told from chance: it is ahead by 0.010" in page and "p = 0.16" in page
    assert "Trained on all folds, its macro-F1 is 0.770 on 900 test rows" in page
    assert "The whole procedure is worth a macro-F1 of 0.750 on 385 rows" in page
    assert "its score there is a little too good; the test part and the nested estimate do not know of it" in page
    assert "f1_macro" not in page


@pytest.mark.parametrize(
    ("ahead", "said", "style"),
    [
        ({"value": 0.03, "low": 0.01, "high": 0.05, "p": 0.0001}, "It is better than the runner-up", "good"),
        (
            {"value": -0.02, "low": -0.03, "high": -0.01, "p": 0.004},
            "Trial 2 is better on the same rows: by 0.020",
            "even",
        ),
        ({"value": -0.01, "low": -0.03, "high": 0.01, "p": 0.3}, "it is behind by 0.010", "even"),
    ],
)
def test_against_the_runner_up(ahead: dict[str, float], said: str, style: str) -> None:
    result = sweep_of()
    result = replace(result, chosen=result.chosen | {"ahead": ahead})
    assert said in sweep_verdict.comparison(result) and sweep_verdict.verdict_class(result) == style
    assert ("p < 0.001" in sweep_verdict.comparison(result)) == (ahead["p"] < 0.001)


def test_how_far_it_is_ahead_may_not_be_known() -> None:
    result = sweep_of()
    said = sweep_verdict.comparison(replace(result, chosen=result.chosen | {"ahead": None}))
    assert "runner-up, trial 2, is not known" in said
    assert "not known" in page_of(replace(result, chosen=result.chosen | {"ahead": None}))


def test_what_racing_saved() -> None:
    result = sweep_of(3)
    assert sweep_verdict.raced(result) == "15 of 15 folds were trained."
    result.trials[2].update(status="stopped", folds_done=1, why="behind")
    assert sweep_verdict.raced(result) == (
        "Racing stopped 1 configuration early and saved 4 of 15 folds (26.7%); 11 were trained."
    )
    result = replace(result, status="2 hours are over (tune.hours)")
    assert "The search ended before it was through: 2 hours are over (tune.hours)." in page_of(result)


def test_no_runner_up_no_refit_no_nested() -> None:
    result = sweep_of()
    bare = replace(
        result, chosen=result.chosen | {"runner_up": None, "ahead": None}, metrics={}, nested=None, artifact=None
    )
    page = page_of(bare)
    assert "there is no runner-up to compare it with" in page and "tune.refit: false" in page
    assert "whole procedure" not in page and "Test: by the model" not in page
    assert "there is no test part" in page_of(replace(result, metrics={"test": None}))


def test_cross_validation_shows_only_what_makes_sense() -> None:
    page = page_of(cv_of())
    assert headings(page) == ["Scores", "Learning curves", "Fold by fold", "Costs"]
    assert "Cross-validation of a classification job over 5 folds" in page
    for word in ("runner-up", "trial 1 is chosen", "Racing", "tune.refit", "best of many"):
        assert word not in page
    assert "and count after epoch 3 of 4, which is better than the last by more than a standard error." in page
    assert [fold for fold, _ in sweep_folds.folds_of_one(cv_of())] == [0, 1, 2, 3, 4]


def test_the_last_epoch_needs_no_excuse() -> None:
    chosen = cv_of().chosen
    assert "a little too good" in sweep_verdict.caveat(cv_of())
    many = cv_of()
    many.chosen["threshold_fitted"] = True
    assert sweep_verdict.caveat(many).startswith(
        "The epoch and the threshold of each fold were chosen on the same rows"
    )
    for epochs, said in ((3, "count after the last epoch."), (1, "count after the only epoch.")):
        last = cv_of(epochs=epochs, chosen=chosen | {"epoch": epochs})
        assert sweep_verdict.caveat(last) == "" and sweep_verdict.headline(last).endswith(said)
    assert "the last unless an earlier one is better by a standard error" in page_of(sweep_of())


def test_a_single_fold_of_own_validation_rows() -> None:
    page = page_of(sweep_of(3, folds=1))
    assert "Fold by fold" not in headings(page) and "on 385 validation rows" in page
    assert "out of fold is" not in page and "± 0.000" not in page
    assert headings(page_of(cv_of(folds=1))) == ["Scores", "Learning curves", "Costs"]


def test_generation_has_a_loss_alone() -> None:
    answers = {"exact_match": estimate(0.4, 90), "token_f1": estimate(0.6, 90), "loss": estimate(1.1, 90)}
    result = sweep_of(8, ways={"loss": "min"}, task="generation", metrics={"test": answers})
    page = page_of(result)
    assert "Front of the objectives" not in headings(page) and page.count("<figure>") == 2
    assert "Its loss out of fold is 0.790" in page and "its loss is 1.100 on 90 test rows" in page
    assert "Token F1" in page and "front</span>" not in page


def test_three_objectives_are_drawn_in_pairs() -> None:
    plots = sweep_plots.front_plots(sweep_of(ways={"f1_macro": "max", "loss": "min", "accuracy": "max"}))
    assert len(plots) == 2 and all("The line is the front" not in caption for _, caption in plots)
    assert "The line is the front" in sweep_plots.front_plots(sweep_of())[0][1]


def test_forty_configurations() -> None:
    result = sweep_of(40)
    lines = sweep_view.lines(result)
    assert len(lines) == 40 and [line.trial for line in lines if line.chosen] == [1]
    assert {line.status for line in lines} == {"finished", "stopped", "failed"}
    assert lines[0].marks == ["chosen", "front"] and lines[2].marks == []
    page = page_of(result)
    assert len(re.findall(r'class="setting"', page)) == 40 * 7
    assert "macro-F1 0.493 is behind trial 1 by 0.026 ± 0.010" in page and "the loss is not a number" in page
    assert page.count("<figure>") == 4


def test_every_configuration_but_one_failed() -> None:
    result = sweep_of(4)
    for row in result.trials[1:]:
        for name in ("f1_macro", "loss", "by_fold", "curves", "epoch"):
            row.pop(name)
        row.update(status="failed", folds_done=0, why="CUDA out of memory")
    result = replace(result, chosen=result.chosen | {"runner_up": None, "ahead": None}, importance={}, front=[1])
    page = page_of(result)
    assert "3 configurations failed." in page and page.count("CUDA out of memory") == 3
    assert "What the settings do" not in headings(page) and "Front of the objectives" not in headings(page)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_none_spoil_nothing(number: float) -> None:
    result = sweep_of()
    worst = next(row for row in result.trials if row["trial"] == 9)
    worst["f1_macro"] = {"value": number, "se": number}
    worst["loss"]["se"] = number
    worst["by_fold"]["0"]["f1_macro"] = number
    worst["curves"].update(loss=[number] * 4, f1_macro=[number] * 4)
    result.trials[1]["curves"].update(loss=[2.0, number, number, 1.0], train_loss=[number] * 4)
    assert headings(page_of(result)) == SECTIONS


def test_cheapest_within_one_error() -> None:
    result = sweep_of()
    result = replace(result, chosen=result.chosen | {"trial": 3, "best": 1, "runner_up": 1})
    lines = {line.trial: line for line in sweep_view.lines(result)}
    assert lines[1].marks == ["best mean", "front"] and lines[3].marks == ["chosen"]
    assert [row["trial"] for row in sweep_plots.shown_rows(result)][:3] == [3, 1, 2]
    assert [line.trial for line in sweep_folds.fold_lines(result)][:3] == [3, 1, 2]


def test_settings_as_people_write_them() -> None:
    values = [2e-4, 0.123456, 16, None, True, {"r": 8, "p": [0.1, None]}, "x\ny"]
    assert [sweep_view.setting(each) for each in values] == [
        *("2e-4", "0.123", "16", "null", "true", "{r: 8, p: [0.1, null]}", "x y")
    ]
    by_key = {each.key: each for each in sweep_view.chosen_settings(sweep_of())}
    assert by_key["train.learning_rate"].tried.endswith(", 12 values")
    assert by_key["train.batch_size"].tried == "8, 16, 64"
    assert by_key["model.lora"].tried in ("null, {r: 8, alpha: 16}", "{r: 8, alpha: 16}, null")


def test_axes_by_size_by_logarithm_and_evenly() -> None:
    rate = sweep_axes.setting_axis("rate", [1e-5, 1e-4, 1e-3])
    assert rate.places == pytest.approx([0, 0.5, 1]) and (0.0, "1e-5") in rate.ticks
    assert sweep_axes.setting_axis("size", [8, 16, 64]).places == pytest.approx([0, 8 / 56, 1])
    absent = sweep_axes.setting_axis("dropout", [0.0, sweep_view.ABSENT, 0.3, None])
    assert absent.places == [0, sweep_axes.BELOW, 1, sweep_axes.BELOW]
    assert absent.ticks[0] == (sweep_axes.BELOW, "–, null")
    kinds = sweep_axes.setting_axis("lora", [None, {"r": 8}, "full", None, True])
    assert kinds.places == pytest.approx([0, 1 / 3, 2 / 3, 0, 1])
    assert [text for _, text in kinds.ticks] == ["null", "{r: 8}", "full", "true"]


def test_the_last_axis_has_the_better_on_top() -> None:
    axis, beyond = sweep_axes.score_axis("loss", [1.0, 1.5, 2.0], "min")
    assert axis.places == pytest.approx([1, 0.5, 0]) and not beyond
    axis, beyond = sweep_axes.score_axis("f1", [0.90, 0.89, 0.88, 0.02], "max")
    assert beyond == 1 and axis.places[3] == 0 and axis.places[2] > 0.5 and axis.ticks[0][1].startswith("≤ 0.8")
    assert sweep_axes.score_axis("f1", [0.5, 0.5], "max")[0].places == [0.5, 0.5]


def test_fold_by_fold_tells_whether_one_fold_decides() -> None:
    result = sweep_of(2)
    for row, values in zip(result.trials, ([0.9, 0.7, 0.7], [0.6, 0.75, 0.72]), strict=True):
        row["by_fold"] = {str(fold): {"f1_macro": value, "loss": 1.0} for fold, value in enumerate(values)}
    result = replace(result, folds=[0, 1, 2])
    said = "Trial 1 is ahead of trial 2 on 1 of 3 folds; without fold 0 it would not be: a single fold decides."
    assert sweep_verdict.decided_by(result) == said and said in page_of(result)
    own, other = sweep_folds.fold_lines(result)
    assert [fold.gain for fold in own.folds] == ["", "", ""]
    assert [(fold.gain, fold.style) for fold in other.folds] == [
        *(("−0.300", "worse"), ("+0.050", "better"), ("+0.020", "better"))
    ]
    assert other.folds[0].strength == 1
    assert sweep_verdict.decided_by(sweep_of(1)) == ""


def test_what_it_cost() -> None:
    found = dict(sweep_view.costs(sweep_of(3)))
    assert found["Busy share of the slots"] == "87.5%" and found["Folds trained"] == "15 of 15"
    timing = {"train_s": 60.0, "search_s": 360.0, "busy_s": 180.0, "slots": 2, "total_s": 65.0}
    resumed = dict(sweep_view.costs(replace(sweep_of(3), timing=timing)))
    assert (resumed["Wall time"], resumed["Search"], resumed["Busy share of the slots"]) == (
        "6 min 5 s",
        "6 min 0 s",
        "25.0%",
    )


def test_nothing_of_the_person_is_markup() -> None:
    page = page_of(sweep_of(20, text=HOSTILE + " $\\frac$ $x$"))
    assert page.count("<script") == 1 and "alert(1)" in page and "<script>alert" not in page
    assert "{{ 7*7 }}" in page
    assert 'onerror="' not in page_of(sweep_of(text='"><img src=x onerror="alert(1)'))
    assert sweep_axes.parallel_plot(sweep_of(text="$\\frac$ <b>"))[0].count("<b>") == 0


def test_long_texts_are_cut() -> None:
    page = page_of(sweep_of(text="x" * 10_000, name="job"))
    assert max(map(len, re.findall(r"x+", page))) <= 1000 and "more characters)" in page


def test_nothing_is_loaded() -> None:
    page = page_of(sweep_of(text="see https://example.org/a.png"))
    assert re.findall(r"""(?:src|href|action)=(?!["']?(?:#|data:)).*""", page) == []
    assert re.findall(r"url\((?!#)|@import|<link|<iframe|\son\w+=", page) == []
    assert "default-src 'none'" in page


def test_it_is_written_where_the_sweep_lies(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    write_sweep_report(sweep_of(3), folder, "2026-01-02", "0.1.0")
    assert folder.report.read_text(encoding="utf-8") == sweep_page(sweep_of(3), "2026-01-02", "0.1.0")


def test_chromium_shows_it_without_a_complaint(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(sweep_page(sweep_of(20, text=HOSTILE), "2026-01-02", "0.1.0"), encoding="utf-8")
    document = open_page(page, tmp_path)
    assert all(f'<section id="{name}">' in document for name in ("choice", "configurations", "front", "costs"))
    assert "<button>" in document  # heads sort their columns

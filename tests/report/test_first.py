"""What a report begins with, and what labels cost."""

from __future__ import annotations

from typing import Any

import pytest

from factory.evaluation.audit import agreed
from factory.evaluation.rivals import Spent
from factory.report import charts
from factory.report.first import first_of
from factory.report.money import money_of


def system(score: float, tokens: int = 1000, **more: Any) -> dict[str, Any]:
    return {"score": score, "ci95": None, "spent": Spent(10, tokens, 0, None).as_json, **more}


def versus(of: str, less: str, difference: float, low: float, high: float) -> dict[str, Any]:
    return {"of": of, "less": less, "difference": difference, "low": low, "high": high}


def first(systems: dict[str, Any]) -> list[str]:
    return first_of({"systems": systems, "verdict": "Use it."}, None, "accuracy")


@pytest.mark.parametrize(
    ("difference", "low", "high", "says"),
    [
        (0.01, -0.01, 0.03, "does as well, within noise"),
        (0.04, 0.02, 0.06, "does worse"),
        (-0.04, -0.06, -0.02, "does better"),
    ],
)
def test_labels_alone_are_compared_by_the_paired_difference_before_the_verdict(
    difference: float, low: float, high: float, says: str
) -> None:
    rival = "teacher_labels_300_active"
    said = first(
        {
            "student": system(0.5), "combined": system(0.8),
            "teacher_labels_100": system(0.7, versus_combination=versus("combined", "teacher_labels_100", 0.1, 0.05, 0.15)),
            rival: system(0.8 - difference, versus_combination=versus("combined", rival, difference, low, high)),
        }
    )  # fmt: skip
    assert said[0].startswith(f"The same student on 300 labels of the language model alone {says}: accuracy")
    assert said[-1] == "Use it."
    assert "no more labels at hand" not in said[0]


def test_a_pool_that_is_smaller_than_the_money_is_told() -> None:
    rival = "teacher_labels_100"
    said = first(
        {
            "combined": system(0.8, 5000),
            rival: system(0.7, 1000, versus_combination=versus("combined", rival, 0.1, 0.05, 0.15)),
        }
    )
    assert "what `combined` spent would have bought some 500, so this is no comparison at equal money" in said[0]


def test_a_student_below_its_label_model_is_told_first_of_all() -> None:
    below = versus("student", "snorkel", -0.02, -0.03, -0.01)
    rival = {"versus_combination": versus("student", "teacher_labels_9", 0.0, -0.1, 0.1)}
    systems = {
        "student": system(0.8, versus_label_model=below),
        "snorkel": system(0.82),
        "teacher_labels_9": system(0.8, **rival),
    }
    said = first(systems)
    assert said[0].startswith(
        "The student `student` is below the label model that taught it beyond noise: accuracy 0.800, and `snorkel`"
    )
    assert said[1].startswith("The same student on 9 labels")
    systems["student"]["versus_label_model"] = versus("student", "snorkel", -0.02, -0.05, 0.01)
    assert "taught it, within noise: " in first(systems)[0]
    systems["student"]["versus_label_model"] = versus("student", "snorkel", 0.0, -0.05, 0.01)
    assert not first(systems)[0].startswith("The student")


def test_without_gold_the_label_model_and_labels_alone_are_told_of_too() -> None:
    def row(name: str, same: int) -> dict[str, Any]:
        return {"system": name, **agreed(same, 100).as_json, "accuracy": None}

    audit = {"mine": "combined", "taught_by": "mixture", "systems": [row("combined", 80), row("mixture", 79)]}
    assert len(first_of(None, audit, "")) == 1
    audit["systems"] = [
        row("combined", 80),
        row("mixture", 81),
        row("teacher_labels_30", 90),
        row("teacher_labels_60", 75),
    ]
    said = first_of(None, audit, "")
    assert said[1].startswith("The label model that taught it, `mixture`, agrees more often: 81%")
    assert said[2].startswith(
        "The same student on 60 labels of the language model alone agrees with it as often, within noise: 75%"
    )
    audit["systems"] = [row("combined", 80), row("teacher_labels_60", 60)]
    assert len(first_of(None, audit, "")) == 1


def test_money_is_what_was_billed_or_else_dated_prices_that_are_named() -> None:
    spent = {
        "combined": Spent(10, 1_000_000, 0, 0.5).as_json, "teacher_labels_100": Spent(100, 500_000, 0, 0.25).as_json,
        "full_gold": Spent().as_json, "mine": None,
    }  # fmt: skip
    billed = money_of(spent)
    assert billed["of"] == {"combined": 0.5, "teacher_labels_100": 0.25, "full_gold": 0.0, "mine": None}
    assert (billed["billed"], billed["prices"]) == (True, [])
    told = money_of(spent | {"combined": Spent(10, 1_000_000, 0, None).as_json})
    reference = next(row for row in told["prices"] if row["model"] in told["axis"])
    assert told["of"]["combined"] == pytest.approx(reference["input"]) == reference["mine"]
    assert reference["thousand"] == pytest.approx(reference["input"] / 2 * 10)
    assert "Your own provider's prices count" in told["note"]
    spent = {"student": Spent(10, 9_000, 1_000).as_json, "teacher": Spent(50, 900, 100).as_json}
    assert "What `student` spent would have bought some 500 labels" in money_of(spent)["note"]
    assert "would have bought" not in told["note"]
    assert any(character.isdigit() for character in told["axis"].split("(")[1]), "the prices are dated"


def test_the_picture_has_points_lines_and_levels() -> None:
    rows = [
        {"name": "combined", "score": 0.8, "ci95": (0.7, 0.9), "money": 0.1, "line": ""},
        *({"name": f"teacher_labels_{n}", "score": 0.6 + n / 1000, "ci95": None, "money": n / 1000, "line": "drawn at random"}
          for n in (20, 50)),
        {"name": "full_gold", "score": 0.9, "ci95": None, "money": 0.0, "line": ""},
        {"name": "$other$", "score": 0.5, "ci95": None, "money": None, "line": ""},
    ]  # fmt: skip
    assert charts.money(rows, "accuracy", "USD").startswith("<svg")
    assert charts.money(rows, "accuracy", "USD") == charts.money(rows, "accuracy", "USD")


def test_a_model_that_is_no_better_than_the_encoder_is_told_first() -> None:
    systems = {"teacher": {"score": 0.604}, "majority": {"score": 0.75}, "zero_shot": {"score": 0.72}}
    said = first(systems)
    assert said[0].startswith("The language model's own labels (accuracy 0.604) are no better than the encoder")
    assert "majority" not in said[0]
    assert first({**systems, "teacher": {"score": 0.8}}) == ["Use it."]
    assert "own labels (accuracy 0.604) and its programs" in first({**systems, "majority": {"score": 0.7}})[0]
    assert first({"teacher": {"score": 0.1}}) == ["Use it."]

"""Score against the share handed to the language model: stored by the evaluation, shown in the report with its price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.annotation.stage import annotate
from factory.denoise.stage import denoise
from factory.distill.stage import distill
from factory.evaluation.deferral import SHARES, deferral_of
from factory.evaluation.stage import evaluate
from factory.evaluation.systems import LabelSpace, Predictions
from factory.report import page
from factory.report.facts import gather
from factory.warehouse.tables.gold import Gold
from tests.evaluation.test_anchored_line import filled


def says(labels: Any, probs: Any = None, asked: Any = None) -> Predictions:
    labels = np.asarray(labels)
    every = np.ones(len(labels), bool)
    return Predictions(labels, every, ~every, every if asked is None else np.asarray(asked), probs)


def gold_of(labels: list[int]) -> Gold:
    rows = np.eye(2, dtype=bool)[labels]
    numbers = np.arange(len(labels))
    return Gold(np.zeros(len(labels), np.int32), numbers, numbers.astype(np.int32), rows)


def test_the_teacher_answers_the_least_sure_and_an_unreadable_answer_is_wrong() -> None:
    n = 20
    truth = [0] * n
    sure = np.linspace(0.99, 0.51, n)  # the last are the least sure
    said = says([0] * 12 + [1] * 8, np.stack([sure, 1 - sure], axis=1))
    teacher = says([0] * 19 + [-1], asked=[True] * n)
    shape = LabelSpace(["a", "b"], np.ones(2, bool), False)
    found = deferral_of(gold_of(truth), said, teacher, shape, draws=20, seed=0)
    assert found is not None
    assert [point["deferred"] for point in found["points"]] == [0, 1, 2, 4, 8]
    assert [point["score"] for point in found["points"]] == pytest.approx([12 / 20, 12 / 20, 13 / 20, 15 / 20, 19 / 20])
    assert found["teacher"] == pytest.approx(19 / 20)
    few = says([0] * n, asked=[True] * 4 + [False] * 16)
    assert (deferral_of(gold_of(truth), said, few, shape, draws=20, seed=0) or {})["n"] == 4
    assert deferral_of(gold_of(truth), says([0] * n), teacher, shape, draws=20, seed=0) is None, (
        "it has no probabilities"
    )


@pytest.mark.slow
def test_the_report_shows_the_curve_of_what_is_taken_home_with_its_price(tmp_path: Path) -> None:
    warehouse, engine = filled(tmp_path)
    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["student", "student_dev"])
    evaluate(warehouse, draws=50, label_equivalents=False)
    assert gather(warehouse)["evaluation"]["deferral"] is None, "nobody asked the model about test"
    annotate(warehouse, engine, split="test", limit=20)
    assert not evaluate(warehouse, draws=50, label_equivalents=False).skipped
    found = gather(warehouse)["evaluation"]["deferral"]
    assert [row["system"] for row in found["systems"]] == ["student", "student_dev"]
    assert (found["shares"], found["n"], found["requests"]) == (list(SHARES), 20, 20)
    assert found["tokens"] > 1000
    for row in found["systems"]:
        scores = [point["score"] for point in row["points"]]
        assert scores == sorted(scores), "this model is always right"
    page.write(warehouse, tmp_path / "report")
    twin, html = ((tmp_path / f"report.{end}").read_text() for end in ("md", "html"))
    assert "## Handing over what is not sure" in twin
    line = next(line for line in twin.splitlines() if line.startswith("| 10.0 % |"))
    assert "| 100 |" in line
    assert "language model alone" not in twin
    assert 'id="deferral"' in html
    assert 'href="#deferral"' in html

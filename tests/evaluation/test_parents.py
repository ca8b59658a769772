"""Labels with parents: a label implies those above it, and the topmost have a figure of their own."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factory.corpus.stage import ingest
from factory.evaluation.stage import evaluate, store_gold, summary
from factory.evaluation.systems import LabelSpace
from factory.task import load_card
from factory.warehouse.file import Warehouse

LABELS = {
    "food": "Anything to eat.",
    "fruit": {"description": "Fruit.", "parent": "food"},
    "berry": {"description": "Berries.", "parent": "fruit"},
    "bread": {"description": "Bread.", "parent": "food"},
    "tool": "Tools.",
}


def scored(folder: Path, kind: str, rows: Sequence[tuple[str, str, str]]) -> Mapping[str, Any]:
    """What `evaluate` says of another system; rows of text, gold and answer."""
    for name, column in (("test", 1), ("theirs", 2)):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *((row[0], row[column]) for row in rows)])
    card = load_card({"name": "nested", "kind": kind, "text": "a line", "labels": LABELS})
    warehouse = Warehouse.open(folder / "w.duckdb")
    more = {"label_separator": "|"} if kind == "multi" else {}
    sources = {"train": {"texts": ["a line that nobody labelled"]},
               "test": {"path": str(folder / "test.csv"), "text": "text", "label": "label", **more}}  # fmt: skip
    ingest(warehouse, card, sources)
    store_gold(warehouse, sources)
    evaluate(warehouse, rival=[{"path": str(folder / "theirs.csv"), **more}], draws=50)
    found = summary(warehouse)
    assert found is not None
    row: Mapping[str, Any] = found["systems"]["theirs"]
    return row


def test_a_label_implies_its_parents_in_gold_and_answers(tmp_path: Path) -> None:
    rows = [("one", "berry", "berry|fruit"), ("two", "food|bread", "bread"), ("three", "tool", "tool|fruit")]
    row = scored(tmp_path, "multi", rows)
    assert row["accuracy"] == pytest.approx(2 / 3)
    assert row["micro_f1"] == pytest.approx(2 * 6 / (6 + 8))


def test_a_wrong_label_under_the_right_top_is_told(tmp_path: Path) -> None:
    rows = [("one", "berry", "bread"), ("two", "food", "food"), ("three", "tool", "fruit"), ("four", "bread", "berry")]
    row = scored(tmp_path, "single", rows)
    assert row["accuracy"] == 0.25
    assert row["metrics"]["accuracy_top"] == 0.75


def test_a_parent_is_as_probable_as_its_likeliest_child() -> None:
    shape = LabelSpace(["a", "b", "c"], np.ones(3, bool), True, {1: (0,), 2: (1, 0)})
    given = np.array([[0.1, 0.2, 0.7], [0.9, np.nan, 0.3]])
    assert shape.implied(given).tolist() == [[0.7, 0.7, 0.7], [0.9, 0.3, 0.3]]
    assert shape.tops.tolist() == [0, 0, 0, -1]

"""Rivals: labels drawn actively, as many as the same tokens would have bought, and answers of other systems from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from factory.cli import app
from factory.corpus.stage import ingest
from factory.denoise.stage import denoise
from factory.distill.stage import distill
from factory.errors import InputError
from factory.evaluation.rivals import ModelLabel, Spent, affordable, drawn_actively, model_labels, size_of
from factory.evaluation.stage import evaluate, store_gold, summary
from factory.warehouse.file import Warehouse
from tests.evaluation.test_evaluate import CARD, corpus, put_votes

QUICK: dict[str, Any] = {"draws": 50, "label_equivalents": False}


def test_an_active_draw_takes_what_the_student_is_least_sure_of_and_fewer_are_a_part_of_more() -> None:
    asked = []

    def margins(taken: np.ndarray, rest: np.ndarray) -> np.ndarray:
        asked.append(len(taken))
        return np.abs(rest - 70.0)  # row 70 is the hardest

    found = drawn_actively(100, [15, 30], 10, margins)
    assert found[15].tolist() == [*range(10), 70, 69, 71, 68, 72]
    assert found[30].tolist()[:15] == found[15].tolist()
    assert len(set(found[30].tolist())) == 30
    assert asked == [10, 15, 22]


def test_a_rival_has_no_more_labels_than_the_same_tokens_would_have_bought() -> None:
    labels = [ModelLabel(no, frozenset([0]), Spent(1, 90, 10)) for no in range(50)]
    assert affordable(labels, 2_550) == 25
    assert affordable(labels, 0) is None, "nothing was spent, so nothing tells"
    assert [size_of(name) for name in ("teacher_labels_300", "teacher_labels_300_active", "teacher_labels_x", "mine")] == [
        300, 300, None, None,
    ]  # fmt: skip


def test_costs_that_are_not_known_stay_so_when_they_are_added() -> None:
    assert (Spent(1, 2, 3, 0.5) + Spent(1, 2, 3, 0.25)).as_json == {
        "tokens": 10, "requests": 2, "tokens_in": 4, "tokens_out": 6, "cost": 0.75,
    }  # fmt: skip
    assert (Spent(1, 2, 3, None) + Spent()).cost is None


def test_labels_drawn_uniformly_go_before_anchors(tmp_path: Path) -> None:
    from factory.annotation.stage import annotate
    from tests.evaluation.test_anchored_line import filled

    warehouse, engine = filled(tmp_path)
    annotate(warehouse, engine, anchors=40, audit=10)
    anchors = [one.text_no for one in model_labels(warehouse)]
    annotate(warehouse, engine, split="train", limit=30, sample_seed=7)
    both = [one.text_no for one in model_labels(warehouse)]
    assert len(both) == len(set(both))
    assert set(both[30:]) < set(anchors)
    assert both[30:] == [number for number in anchors if number in both[30:]]
    assert both[0] not in {one.text_no for one in model_labels(warehouse, but=both[:1])}
    assert all(one.spent.tokens > 0 and one.spent.requests == 1 for one in model_labels(warehouse))


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, list[dict[str, str]]]:
    """A finished line whose test has ids, and its rows with gold."""
    folder = tmp_path_factory.mktemp("rivals")
    sources = corpus(folder, test_votes=False)
    path = folder / "test.jsonl"
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    rows = [{"id": f"t-{number}", **row} for number, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    warehouse = Warehouse.open(folder / "toy.duckdb")
    ingest(warehouse, CARD, sources)
    store_gold(warehouse, sources)
    put_votes(warehouse)
    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["student"])
    return warehouse, rows


def written(path: Path, rows: list[dict[str, str]], *columns: str) -> str:
    path.write_text("\n".join([",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]) + "\n")
    return str(path)


@pytest.mark.parametrize("key", ["id", "text"])
def test_another_systems_answers_are_a_row_with_interval_and_paired_difference(
    line: tuple[Warehouse, list[dict[str, str]]], tmp_path: Path, key: str
) -> None:
    warehouse, rows = line
    wrong = [
        {**row, "label": {"fruit": "tool", "tool": "fruit"}[row["label"]]} if at < 6 else row
        for at, row in enumerate(rows)
    ]
    path = written(tmp_path / f"by {key}.csv", wrong[::-1], key, "label")
    evaluate(warehouse, rival=[path], **QUICK)
    row = (summary(warehouse) or {})["systems"][f"by_{key}"]
    assert row["score"] == pytest.approx(24 / 30)
    assert row["n_scored"] == 30
    assert row["ci95"][0] < 0.8 < row["ci95"][1]
    assert row["versus_student"]["difference"] == pytest.approx(
        (summary(warehouse) or {})["systems"]["student"]["score"] - 0.8
    )
    assert row["spent"] is None, "nobody knows what it cost"
    assert evaluate(warehouse, rival=[path], **QUICK).skipped
    written(tmp_path / f"by {key}.csv", rows, key, "label")
    assert not evaluate(warehouse, rival=[path], **QUICK).skipped, "the file says something else now"
    assert (summary(warehouse) or {})["systems"][f"by_{key}"]["score"] == 1.0


def test_the_command_line_takes_files_of_rivals(line: tuple[Warehouse, list[dict[str, str]]], tmp_path: Path) -> None:
    warehouse, rows = line
    card = tmp_path / "card.yaml"
    labels = "".join(f"  {json.dumps(label.name)}: {json.dumps(label.description)}\n" for label in CARD.labels)
    card.write_text(f"name: toy\ntext: a line\nlabels:\n{labels}")
    paths = [written(tmp_path / f"{name}.csv", rows, "id", "label") for name in ("one", "two")]
    rivals = [part for path in paths for part in ("--rival", path)]
    folder = ["--folder", str(warehouse.folder), "-p", "label_equivalents=false", "-p", "draws=50", "--json"]
    done = CliRunner().invoke(app, ["evaluate", str(card), *rivals, *folder])
    assert done.exit_code == 0, done.output
    assert {"one", "two"} <= set((summary(warehouse) or {})["systems"])
    refused = CliRunner().invoke(app, ["evaluate", str(card), "--rival", str(tmp_path / "none.csv"), *folder])
    assert isinstance(refused.exception, InputError)


def test_a_mapping_names_columns_and_labels(line: tuple[Warehouse, list[dict[str, str]]], tmp_path: Path) -> None:
    warehouse, rows = line
    said = [{"key": row["id"], "guess": "F" if row["label"] == "fruit" else "T"} for row in rows]
    path = written(tmp_path / "mapped.csv", said, "key", "guess")
    evaluate(
        warehouse, rival=[{"path": path, "id": "key", "label": "guess", "labels": {"F": "fruit", "T": "tool"}}], **QUICK
    )
    assert (summary(warehouse) or {})["systems"]["mapped"]["score"] == 1.0


def test_missing_rows_are_told_and_the_others_scored(
    line: tuple[Warehouse, list[dict[str, str]]], tmp_path: Path
) -> None:
    warehouse, rows = line
    path = written(tmp_path / "part.csv", rows[5:], "id", "label")
    said = " ".join(evaluate(warehouse, rival=[path], **QUICK).says)
    assert "5 of 30 texts of test have no answer (first: " in said
    assert "test.jsonl:1); `part` is scored on the others" in said
    assert (summary(warehouse) or {})["systems"]["part"]["n_scored"] == 25


@pytest.mark.parametrize(
    ("name", "change", "what", "where"),
    [
        ("unknown.csv", {"id": "nobody"}, "1 of the rows have an id that test does not have (first: 'nobody')", ":5"),
        ("label.csv", {"label": "vegetable"}, "label 'vegetable' is not on the card", ":5"),
        ("empty.csv", {"label": ""}, "empty_label", ":5"),
        ("student.csv", {}, "there is a system `student` already", ""),
        ("teacher_labels_9.csv", {}, "there is a system `teacher_labels_9` already", ""),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    line: tuple[Warehouse, list[dict[str, str]]],
    tmp_path: Path,
    name: str,
    change: dict[str, str],
    what: str,
    where: str,
) -> None:
    warehouse, rows = line
    rows = [{**row, **change} if at == 3 else row for at, row in enumerate(rows)]
    path = written(tmp_path / name, rows, "id", "label")
    with pytest.raises(InputError) as error:
        evaluate(warehouse, rival=[path], **QUICK)
    assert what in str(error.value)
    assert str(error.value).count("\n") == 0
    assert f"{name}{where}" in str(error.value)


def test_a_file_without_texts_or_ids_says_what_it_needs(
    line: tuple[Warehouse, list[dict[str, str]]], tmp_path: Path
) -> None:
    path = written(tmp_path / "bare.csv", line[1], "label")
    with pytest.raises(InputError, match="neither a column of texts nor one of ids"):
        evaluate(line[0], rival=[path], **QUICK)

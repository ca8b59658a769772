"""What a million texts cost: measured once for what it depends on, and nothing made up where nothing can be measured."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from factory.distill.stage import distill
from factory.evaluation import speed
from factory.evaluation.speed import UNKNOWN, costs_of
from factory.export.stage import export
from factory.students.speed import FILE, rate
from factory.warehouse.file import Warehouse, insert
from tests.topics import fill, sentences


def test_the_rate_is_texts_over_seconds() -> None:
    def slow(texts: Sequence[str]) -> None:
        time.sleep(0.002 * len(texts))

    assert 250 < rate(slow, ["a"] * 1000) < 510


@pytest.fixture
def line(tmp_path: Path) -> Warehouse:
    warehouse = fill(Warehouse.open(tmp_path / "w.duckdb"))
    held, _ = sentences(5, 40)
    numbers = list(range(1000, 1040))
    with warehouse.lease() as db:
        insert(db, "texts", {
            "text_no": numbers, "content_hash": [text.encode() for text in held], "text": held, "origin": ["corpus"] * 40,
        })  # fmt: skip
        insert(db, "occurrences", {
            "source_no": [9] * 40, "row_no": list(range(40)), "text_no": numbers, "split": ["test"] * 40, "kept": [True] * 40,
        })  # fmt: skip
    distill(warehouse, student="linear", options={"c": 10.0}, systems=["student"])
    export(warehouse, tmp_path / "export")
    return warehouse


def test_students_and_exports_are_measured_once_and_the_rest_says_why_not(line: Warehouse) -> None:
    found = costs_of(line, ["student", "snorkel", "human_lfs", "teacher", "full_gold"], measure=True)
    rows = {row["system"]: row for row in found["rows"]}
    assert list(rows)[:2] == ["student", "student (exported)"]
    for name in ("student", "student (exported)", "full_gold"):
        assert rows[name]["texts_per_second"] > 100
        assert rows[name]["hours_per_million"] == pytest.approx(1e6 / rows[name]["texts_per_second"] / 3600, rel=0.02)
    assert rows["snorkel"]["how"] == "there is no program to run"
    assert "published" in rows["human_lfs"]["how"]
    assert rows["teacher"]["tokens_per_million"] is None
    assert costs_of(line, ["student", "snorkel", "human_lfs", "teacher", "full_gold"]) == found
    assert costs_of(line, ["student", "snorkel", "human_lfs", "teacher", "full_gold"], measure=True) == found
    assert line.folder is not None
    assert len(json.loads((line.folder / FILE).read_text())) == 2


def test_an_export_that_was_tampered_with_is_not_measured(line: Warehouse) -> None:
    assert line.folder is not None
    (line.folder / "export" / "linear.safetensors").write_bytes(b"")
    (line.folder / FILE).unlink()
    rows = {row["system"]: row for row in costs_of(line, ["student"], measure=True)["rows"]}
    assert rows["student (exported)"]["texts_per_second"] is None
    assert "altered" in rows["student (exported)"]["how"]


def test_a_report_reads_speeds_and_runs_no_model(line: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "Speeds", lambda warehouse, measure: speeds(warehouse, measure))
    asked: list[bool] = []

    def speeds(warehouse: Warehouse, measure: bool) -> object:
        from factory.students.speed import Speeds

        asked.append(measure)
        return Speeds(warehouse, measure=measure)

    assert line.folder is not None
    (line.folder / FILE).unlink(missing_ok=True)
    rows = {row["system"]: row for row in costs_of(line, ["student", "full_gold"])["rows"]}
    assert asked == [False]
    assert {row["how"] for row in rows.values()} == {UNKNOWN}
    assert {row["texts_per_second"] for row in rows.values()} == {None}
    assert not (line.folder / FILE).exists()


def test_export_measures_what_it_wrote(line: Warehouse) -> None:
    rows = {row["system"]: row for row in costs_of(line, ["student"])["rows"]}
    assert rows["student (exported)"]["texts_per_second"] > 100


def test_tokens_of_the_teacher_are_those_on_record(line: Warehouse) -> None:
    with line.lease() as db:
        for number in range(40):
            db.execute(
                "INSERT INTO requests (request_key, content_key, stage, model, prompt, prompt_version, messages, sampling)"
                " VALUES (?, 'c', 'annotate', 'm', 'annotate', 'v', '[]', '{}')",
                [f"k{number}"],
            )
            db.execute(
                "INSERT INTO answers (request_key, sample_no, answer, finish_reason, tokens_in, tokens_out, tokens_counted, cost,"
                " latency_ms, origin, answered_at) VALUES (?, 0, 'x', 'stop', 90, 10, true, 0.001, 500, 'server',"
                " TIMESTAMP '2026-01-01' + to_seconds(?))",
                [f"k{number}", number / 4],
            )
            db.execute(
                "INSERT INTO attempts (attempt_no, request_key, first_sample, last_sample, outcome, tokens_in, tokens_out, cost,"
                " engine, tokens_counted) VALUES (?, ?, 0, 0, 'answered', 90, 10, 0.001, 'server', true)",
                [number, f"k{number}"],
            )
    row = costs_of(line, ["teacher"])["rows"][-1]
    assert row["tokens_per_million"] == 100_000_000
    assert row["money_per_million"] == pytest.approx(1000.0)
    assert row["texts_per_second"] == pytest.approx(40 / (39 / 4 + 0.5), rel=0.02)
    with line.lease() as db:
        db.execute("UPDATE attempts SET cost = NULL WHERE attempt_no = 7")
    assert "without the cost of 1 calls" in costs_of(line, ["teacher"])["rows"][-1]["how"]

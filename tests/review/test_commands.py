"""`factory audit` and `factory ask` from the command line."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from factory.cli import app
from factory.commands import progress
from factory.denoise.stage import denoise
from factory.errors import InputError
from tests.denoise.topics import warehouse


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    made, _ = warehouse(wrong=10, silent=20, path=tmp_path / "t.duckdb")
    denoise(made, encoder=None)
    return tmp_path / "t.duckdb"


def test_audit_prints_the_worst_with_all_evidence_and_writes_them_all(run_file: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["audit", str(run_file), "--limit", "2", "--out", str(tmp_path / "issues.jsonl")])
    assert shown.exit_code == 0
    assert shown.stdout.count("the texts tell:") == shown.stdout.count("the label model:") == 2
    assert "votes: p0: " in shown.stdout
    assert shown.stdout.count("near: ") == 6
    rows = [json.loads(line) for line in (tmp_path / "issues.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows
    assert {row["text_no"] for row in rows} <= set(range(1, 11))
    as_json = CliRunner().invoke(app, ["audit", str(run_file), "--json"])
    assert json.loads(as_json.stdout)["suspect"] == len(rows)


def test_both_tell_how_far_they_are(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    audited = CliRunner().invoke(app, ["audit", str(run_file), "--json"])
    assert re.search(r"^  audit: [\d,]+/[\d,]+ labels checked", audited.stderr, re.MULTILINE)
    assert json.loads(audited.stdout)
    asked = CliRunner().invoke(app, ["ask", str(run_file), "--strategy", "random", "--json"])
    assert "  ask: questions chosen" in asked.stderr


def test_questions_are_answered_in_the_file_and_read_back(run_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    asked = CliRunner().invoke(app, ["ask", str(run_file), "--budget", "4", "--strategy", "random", "--out", str(path)])
    assert asked.exit_code == 0
    assert "one of sport, money" in asked.stderr
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert {row["suggested"] for row in rows} <= {"", "sport", "money"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": "money"} for row in rows[:3])
    read = CliRunner().invoke(app, ["ask", str(run_file), "--read", str(path), "--annotator", "ada", "--json"])
    assert json.loads(read.stdout) == {"answers": 3, "open": 0}


def test_without_a_file_the_questions_are_shown_with_how_to_write_them(run_file: Path) -> None:
    asked = CliRunner().invoke(app, ["ask", str(run_file), "--budget", "22", "--strategy", "random"])
    assert asked.exit_code == 0
    assert "22 questions by strategy `random`" in asked.stderr
    assert asked.stdout.count("\n") > 20
    assert "and 2 more" in asked.stderr
    assert "with --out questions.csv" in asked.stderr
    assert f"factory ask {run_file} --read questions.csv" in asked.stderr
    as_json = CliRunner().invoke(app, ["ask", str(run_file), "--budget", "3", "--strategy", "random", "--json"])
    assert len(json.loads(as_json.stdout)["asked"]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "--out", "x.txt"], "csv or"),
        (["ask", "--out", "x.txt"], "Label Studio"),
        (["ask", "--out", "x.csv", "--strategy", "luck"], "no strategy `luck`"),
        (["ask", "--read", "missing.csv"], "missing.csv: no such file"),
    ],
)
def test_a_mistake_is_one_line(run_file: Path, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, [arguments[0], str(run_file), *arguments[1:]])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)

"""`init` writes a card and a pipeline that load as they are, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from factory.corpus.init import write_start
from factory.corpus.stage import ingest
from factory.errors import InputError
from factory.pipeline.load import load_pipeline
from factory.task import load_card
from factory.warehouse.file import Warehouse


def test_a_file_with_labels_gives_a_card_and_a_line_that_can_be_ingested(tmp_path: Path) -> None:
    (tmp_path / "my mails.csv").write_text('mail text,kind\nhello there,ham\nbuy now,"spam, bad: x"\nok,ham\n')
    written = write_start(tmp_path / "my mails.csv", tmp_path / "start", text="mail text", label="kind")
    card = load_card(Path(written["task"]))
    assert (card.name, card.kind, card.label_names) == ("my-mails", "single", ["ham", "spam, bad: x"])
    line = yaml.safe_load(Path(written["pipeline"]).read_text())
    warehouse = Warehouse.memory()
    ingest(warehouse, card, line["data"], base=tmp_path / "start")
    assert warehouse.scalar("SELECT count(*) FROM texts") == 3
    assert any("ham 2" in said for said in written["says"])


def test_columns_are_guessed_and_lists_of_labels_make_a_multi_task(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "body": "x", "labels": ["a", "b"]}\n{"id": 2, "body": "y", "labels": []}\n'
    )
    written = write_start(tmp_path / "a.jsonl", tmp_path)
    card = load_card(Path(written["task"]))
    assert (card.kind, card.label_names) == ("multi", ["a", "b"])
    assert any("guessed" in said for said in written["says"])


def test_labels_may_be_given_where_the_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\ny\n")
    written = write_start(tmp_path / "a.csv", tmp_path, labels=["yes", "no", "yes"])
    assert load_card(tmp_path / "task.yaml").label_names == ["yes", "no"], "in the order given"
    line = yaml.safe_load(Path(written["pipeline"]).read_text())
    assert set(line["data"]) == {"train"}
    steps = load_pipeline(written["pipeline"]).steps
    assert [step.verb for step in steps if step.verb != "vote"] == [
        "ingest", "author", "synthesize", "denoise", "distill", "evaluate", "export", "report",
    ]  # fmt: skip


def test_a_column_of_labels_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,yes\ny,no\n")
    written = write_start(tmp_path / "a.csv", tmp_path, labels=["yes", "no"])
    assert any("column `label` is not read" in said for said in written["says"])


def test_what_cannot_be_started_from_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    with pytest.raises(InputError, match="no column of labels"):
        write_start(tmp_path / "a.csv", tmp_path)
    with pytest.raises(InputError, match="two labels or more"):
        write_start(tmp_path / "a.csv", tmp_path, labels=["one"])
    with pytest.raises(InputError, match="no such file"):
        write_start(tmp_path / "b.csv", tmp_path)
    with pytest.raises(InputError, match="no column `lbl`"):
        write_start(tmp_path / "a.csv", tmp_path, label="lbl")
    write_start(tmp_path / "a.csv", tmp_path, labels=["yes", "no"])
    with pytest.raises(InputError, match="there already"):
        write_start(tmp_path / "a.csv", tmp_path, labels=["yes", "no"])

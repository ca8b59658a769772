"""A source that is not stored yet is tried on texts, alone and in place of a program."""

from __future__ import annotations

import pytest

from factory.errors import InputError
from factory.programs import manage, stage, view
from factory.programs.draft import try_source
from factory.task import load_card, register
from factory.warehouse.file import Warehouse
from tests.programs.test_stage import CARD, TEXTS, add_texts, program

RULES = '{"rules": [{"kind": "word", "value": "%s", "label": "%s"}]}'


@pytest.fixture
def warehouse() -> Warehouse:
    """120 texts of train, every third with `win`; text 120 is of dev, and spam."""
    warehouse = Warehouse.memory()
    register(warehouse, load_card(CARD))
    add_texts(warehouse, TEXTS)
    add_texts(warehouse, ["win win win"], "dev")
    with warehouse.lease() as db:
        db.execute("INSERT INTO gold VALUES (1, 120, 120, 1)")
        db.execute("INSERT INTO anchors (text_no, label_no, yes, role, source) VALUES (0, 0, true, 'teach', 'model')")
        db.execute("INSERT INTO anchors (text_no, label_no, yes, role, source) VALUES (3, 0, true, 'audit', 'model')")
    manage.add_program(warehouse, RULES % ("win", "spam"), name="win", kind="rules")
    stage.vote(warehouse)
    return warehouse


def test_a_draft_says_what_it_adds_and_where_others_say_otherwise(warehouse: Warehouse) -> None:
    new = try_source(warehouse, RULES % ("song", "ham"), kind="rules")
    assert (new.texts, new.votes, new.new, new.conflicts, new.changed) == (120, {"ham": 80}, 80, 0, None)
    against = try_source(warehouse, RULES % ("prize", "ham"), kind="rules")
    assert (against.votes, against.new, against.conflicts) == ({"ham": 40}, 0, 40)
    assert against.matches[0]["on"] == ["prize"]
    assert warehouse.scalar("SELECT count(*) FROM programs") == 1


def test_in_place_of_a_program_it_says_how_many_votes_change(warehouse: Warehouse) -> None:
    assert try_source(warehouse, RULES % ("win", "spam"), kind="", program_no=1).changed == 0
    assert try_source(warehouse, RULES % ("win", "ham"), kind="", program_no=1).changed == 40
    assert try_source(warehouse, RULES % ("song", "ham"), kind="", program_no=1).changed == 120


def test_accuracy_is_on_dev_and_on_anchors_that_teach_never_on_the_audit_slice(warehouse: Warehouse) -> None:
    drafted = try_source(warehouse, RULES % ("win", "spam"), kind="rules")
    assert (drafted.right, drafted.judged) == (1, 2)
    (row,) = view.list_programs(warehouse)
    assert (row["accuracy"], row["judged"], row["polarity"]) == (0.5, 2, ["spam"])
    assert 0 < row["low"] < 0.5 < row["high"] < 1
    assert "1 of 2 votes are right" in " ".join(drafted.in_words)


def test_python_is_run_in_the_sandbox_and_its_failures_are_shown(warehouse: Warehouse) -> None:
    source = program("win", "spam").replace("def label(text):", "def label(text):\n    1 / (len(text) - 22)")
    drafted = try_source(warehouse, source, kind="python")
    assert drafted.failures == sum(len(text) == 22 for text in TEXTS) > 0
    assert "ZeroDivisionError" in drafted.failed[0]["detail"]
    with pytest.raises(InputError, match="may not be imported"):
        try_source(warehouse, "import os\ndef label(text): return None", kind="python")
    with pytest.raises(InputError, match="rule 1"):
        try_source(warehouse, RULES % ("win", "nothing"), kind="rules")
    with pytest.raises(InputError, match="no program 9"):
        try_source(warehouse, "", kind="", program_no=9)

"""Votes, label models and soft labels each have one module. Files that still ask their tables are listed; the list shrinks."""

from __future__ import annotations

import re
from pathlib import Path

import factory

ROOT = Path(factory.__file__).parent
TABLES = {
    "votes": ("votes", "vote_blocks", "vote_failures"),
    "labels": ("label_models", "soft_labels"),
}
STILL = {
    "corpus/export_rows.py",
    "evaluation/systems.py",
    "report/example.py",
    "report/known.py",
    "report/line_facts.py",
}
"""Files that still ask these tables in SQL of their own."""


def asking(*tables: str) -> set[str]:
    sql = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:{'|'.join(tables)})\b")
    found = (path for path in ROOT.rglob("*.py") if sql.search(path.read_text(encoding="utf-8")))
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_votes_and_labels_are_asked_by_their_modules_and_by_no_new_file() -> None:
    for module, tables in TABLES.items():
        assert f"warehouse/tables/{module}.py" in asking(*tables)
    elsewhere = {path for path in asking(*sum(TABLES.values(), ())) if not path.startswith("warehouse/tables/")}
    assert not elsewhere - STILL, "ask through factory.warehouse.tables.{votes,labels}"


def test_labels_are_written_by_their_module_alone() -> None:
    writing = re.compile(
        r"(?:INSERT INTO|DELETE FROM|UPDATE)\s+(?:label_models|soft_labels)\b|insert\(db, \"soft_labels\""
    )
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if writing.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"warehouse/tables/labels.py"}

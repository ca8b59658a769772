"""Sources that are read elsewhere give what they give here."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.corpus.stage import ingest
from factory.errors import InputError
from factory.spread import Work, done_by
from factory.task import load_card
from factory.warehouse.file import Warehouse
from tests.programs.test_stage import CARD

TABLES = ("texts", "occurrences", "occurrence_fields", "bad_rows", "(SELECT * EXCLUDE ingested_at FROM sources)")


def travelled(work: Work[Any, Any], items: Iterator[Any], count: int, ahead: int) -> Generator[Any]:
    """Does work as another machine would: all that goes there and comes back is copied."""
    make, given = pickle.loads(pickle.dumps((work.make, tuple(work.given))))
    do = make(*given)
    for item in list(items):
        yield pickle.loads(pickle.dumps(do(pickle.loads(pickle.dumps(item)))))


def tables(warehouse: Warehouse) -> list[Any]:
    return [warehouse.query(f"SELECT * FROM {name} ORDER BY ALL") for name in TABLES]


def sources(folder: Path) -> dict[str, Any]:
    (folder / "in").mkdir()
    for number in range(3):
        rows = "".join(f"{number}-{row},line {row % 7} of {number % 2}\n" for row in range(20))
        (folder / "in" / f"part-{number}.csv").write_text(f"id,text\n{rows}{number}-x,\n", encoding="utf-8")
    (folder / "dev.csv").write_text("text,label\nline 3 of 1,ham\nwin it,spam\n", encoding="utf-8")
    return {"train": {"path": str(folder / "in"), "bad_limit": 5}, "dev": str(folder / "dev.csv")}


def test_a_folder_read_file_by_file_elsewhere_gives_the_same_tables(tmp_path: Path) -> None:
    given, card = sources(tmp_path), load_card(CARD)
    here, there = Warehouse.memory(), Warehouse.memory()
    one = ingest(here, card, given)
    with done_by(travelled):
        other = ingest(there, card, given)
        assert ingest(there, card, given).skipped
    assert one == other
    assert tables(here) == tables(there)
    assert here.query("SELECT count(*) FROM bad_rows") == [(3,)]


def test_a_file_that_cannot_be_read_elsewhere_is_the_same_line_and_those_before_it_stay(tmp_path: Path) -> None:
    given, card = sources(tmp_path), load_card(CARD)
    (tmp_path / "in" / "part-1.csv").write_text("id,words\n1,a\n", encoding="utf-8")
    warehouse = Warehouse.memory()
    with done_by(travelled), pytest.raises(InputError, match=r"part-1\.csv"):
        ingest(warehouse, card, given)
    assert warehouse.scalar("SELECT count(*) FROM sources") == 1
